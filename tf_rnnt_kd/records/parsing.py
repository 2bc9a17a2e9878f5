"""One record -> one element of tf.data, with the reason not to train on it, if there is one."""

import tensorflow as tf

from tf_rnnt_kd.records.schema import from_pcm16_tf
from tf_rnnt_kd.records.stored import Sizes

UNKNOWN_CHARACTERS = "unknown_characters"
TRANSCRIPT_TOO_LONG = "transcript_longer_than_frames"
NO_TRANSCRIPT = "no_transcript"
# The order is that of the codes in the element's `reject`, after 0 for "fine".
REJECT_REASONS = (UNKNOWN_CHARACTERS, TRANSCRIPT_TOO_LONG, NO_TRANSCRIPT)

_SPEC = {
    "utterance_id": tf.io.FixedLenFeature([], tf.string),
    "audio": tf.io.FixedLenFeature([], tf.string),
    "num_samples": tf.io.FixedLenFeature([], tf.int64),
    "text": tf.io.FixedLenFeature([], tf.string, default_value=""),
    "teacher/tokens": tf.io.RaggedFeature(tf.int64),
    "teacher/num_frames": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
}


def make_parser(*, tokenizer, frontend, subsampling, stored=()):
    """A function from a serialised record to an element, a dictionary of tensors.

    Args:
      stored: artifacts to read, from `stored.open_artifacts`.

    Returns:
      The function. Its elements have `utterance_id`, `text`, `waveform` [S], `num_samples`, `num_frames` of features,
      `num_encoder_frames`, `tokens` [U], `num_tokens`, `num_labels` (the most tokens of any label sequence that is
      read), `reject`: an index to REJECT_REASONS plus 1, or 0; with artifacts their tensors, padded by nothing, and
      `has_teacher` float32: 0 where one of them is missing, whose tensors are empty then, as are all others.
    """
    spec = dict(_SPEC)
    for artifact in stored:
        spec |= artifact.features

    def parse(record):
        parsed = tf.io.parse_single_example(record, spec)
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
        element = {
            "utterance_id": parsed["utterance_id"],
            "waveform": from_pcm16_tf(parsed["audio"]),
            "num_samples": parsed["num_samples"],
            "num_frames": num_frames,
            "num_encoder_frames": num_encoder_frames,
            "text": parsed["text"],
            "tokens": tokens,
            "num_tokens": num_tokens,
            "num_labels": num_tokens,
            "reject": reject,
        }
        if not stored:
            return element
        sizes = Sizes(parsed["teacher/num_frames"], num_tokens)
        has_teacher = from_teacher & tf.reduce_all([_is_there(parsed[artifact.marker]) for artifact in stored])
        for artifact in stored:
            element |= _read(artifact, parsed, sizes, has_teacher)
        if "nbest_num_tokens" in element:
            element["num_labels"] = tf.maximum(num_tokens, tf.reduce_max(tf.pad(element["nbest_num_tokens"], [[0, 1]])))
        return {**element, "has_teacher": tf.cast(has_teacher, tf.float32)}

    return parse


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
