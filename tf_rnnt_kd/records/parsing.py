"""One record -> one element of tf.data, in two steps: what a batch is chosen by, and the content."""

import tensorflow as tf

from tf_rnnt_kd.records.schema import from_pcm16_tf
from tf_rnnt_kd.records.stored import Sizes

UNKNOWN_CHARACTERS = "unknown_characters"
TRANSCRIPT_TOO_LONG = "transcript_longer_than_frames"
NO_TRANSCRIPT = "no_transcript"
# The order is that of the codes in the element's `reject`, after 0 for "fine".
REJECT_REASONS = (UNKNOWN_CHARACTERS, TRANSCRIPT_TOO_LONG, NO_TRANSCRIPT)

_SUMMARY = {
    "utterance_id": tf.io.FixedLenFeature([], tf.string),
    "num_samples": tf.io.FixedLenFeature([], tf.int64),
    "text": tf.io.FixedLenFeature([], tf.string, default_value=""),
    "teacher/tokens": tf.io.RaggedFeature(tf.int64),
    "teacher/num_frames": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
    "nbest/num_tokens": tf.io.RaggedFeature(tf.int64),
}
_CONTENT = {
    "audio": tf.io.FixedLenFeature([], tf.string),
    "teacher/num_frames": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
}


def make_summary(*, tokenizer, frontend, subsampling, num_hypotheses=0):
    """A function from a serialised record to what has to be known of it to choose its batch, without its content.

    Args:
      num_hypotheses: how many of the teacher's hypotheses are read later.

    Returns:
      The function. Its elements are dictionaries: `record`, the serialised record itself, `utterance_id`, `text`,
      `num_samples`, `num_frames` of features, `num_encoder_frames`, `tokens` [U], `num_tokens`, `num_labels` (the most
      tokens of any label sequence that is read), `has_labels_of_teacher`, and `reject`: an index to REJECT_REASONS
      plus 1, or 0.
    """

    def summary(record):
        parsed = tf.io.parse_single_example(record, _SUMMARY)
        from_teacher = parsed["teacher/num_frames"] >= 0
        tokens = tf.cond(
            from_teacher,
            lambda: tf.cast(parsed["teacher/tokens"], tf.int32),
            lambda: tokenizer.encode_tf(parsed["text"][None])[0],
        )
        num_tokens = tf.size(tokens)
        num_frames = -(-tf.cast(parsed["num_samples"], tf.int32) // frontend.hop)
        num_encoder_frames = -(-num_frames // subsampling)
        reject = tf.case(
            [
                (tf.logical_not(from_teacher) & (parsed["text"] == ""), lambda: 3),
                (tf.reduce_any(tokens == 0), lambda: 1),
                (num_tokens > num_encoder_frames, lambda: 2),
            ],
            default=lambda: 0,
        )
        hypotheses = tf.cast(parsed["nbest/num_tokens"][:num_hypotheses], tf.int32)
        return {
            "record": record,
            "utterance_id": parsed["utterance_id"],
            "num_samples": parsed["num_samples"],
            "num_frames": num_frames,
            "num_encoder_frames": num_encoder_frames,
            "text": parsed["text"],
            "tokens": tokens,
            "num_tokens": num_tokens,
            "num_labels": tf.reduce_max(tf.concat([[num_tokens], hypotheses], axis=0)),
            "has_labels_of_teacher": from_teacher,
            "reject": reject,
        }

    return summary


def make_content(stored=()):
    """A function from an element of `make_summary` to the content of its record.

    Args:
      stored: artifacts to read, from `stored.open_artifacts`.

    Returns:
      The function. It gives `waveform` [S]; with artifacts also their tensors, padded by nothing, and `has_teacher`
      float32: 0 where one of them is missing, whose tensors are empty then, as are all others.
    """
    spec = dict(_CONTENT)
    for artifact in stored:
        spec |= artifact.features

    def content(element):
        parsed = tf.io.parse_single_example(element["record"], spec)
        found = {"waveform": from_pcm16_tf(parsed["audio"])}
        if not stored:
            return found
        sizes = Sizes(parsed["teacher/num_frames"], element["num_tokens"])
        has_teacher = element["has_labels_of_teacher"] & tf.reduce_all(
            [_is_there(parsed[artifact.marker]) for artifact in stored]
        )
        for artifact in stored:
            found |= _read(artifact, parsed, sizes, has_teacher)
        return {**found, "has_teacher": tf.cast(has_teacher, tf.float32)}

    return content


def _is_there(feature):
    return feature != "" if feature.dtype == tf.string else tf.size(feature) > 0


def _read(artifact, parsed, sizes, has_teacher):
    """The artifact's tensors, empty ones where the record has no teacher."""

    def read():
        found = artifact.read(parsed, sizes)
        return {name: tf.ensure_shape(found[name], [None] * len(part.shape)) for name, part in artifact.parts.items()}

    def nothing():
        # A scalar cannot be empty: it is what pads it.
        return {
            name: tf.fill(tf.zeros([len(part.shape)], tf.int32), tf.cast(part.padding, part.dtype))
            for name, part in artifact.parts.items()
        }

    return tf.cond(has_teacher, read, nothing)
