"""Records to batches: features and what is stored of a teacher, bucketed by length, with tf.data.

Everything random is drawn from stateless seeds that count elements, and every stage keeps its order, so the same
settings give the same batches; the iterator can be saved in a checkpoint.
"""

from collections.abc import Collection, Sequence

import tensorflow as tf

from tf_rnnt_kd.records.buckets import Bucket, padding_share, plan_buckets
from tf_rnnt_kd.records.inventory import Inventory, take_inventory
from tf_rnnt_kd.records.noise import NoiseMixer, open_noise
from tf_rnnt_kd.records.parsing import (
    NO_TRANSCRIPT,
    REJECT_REASONS,
    TRANSCRIPT_TOO_LONG,
    UNKNOWN_CHARACTERS,
    make_content,
    make_summary,
)
from tf_rnnt_kd.records.plain import plain
from tf_rnnt_kd.records.sources import Source, check_teacher, mixture, stored_artifacts, teacher_joint
from tf_rnnt_kd.records.stored import ARTIFACTS, FRAMES, LABELS, POSITIONS, Part, open_artifacts
from tf_rnnt_kd.records.streams import endless_records
from tf_rnnt_kd.speech.perturb import samples_at_speed, speed_perturb

__all__ = [
    "ARTIFACTS",
    "NO_TRANSCRIPT",
    "REJECT_REASONS",
    "TRANSCRIPT_TOO_LONG",
    "UNKNOWN_CHARACTERS",
    "Bucket",
    "Inventory",
    "NoiseMixer",
    "Source",
    "check_teacher",
    "evaluation_batches",
    "mixture",
    "open_noise",
    "padding_share",
    "plan_buckets",
    "stored_artifacts",
    "take_inventory",
    "teacher_joint",
    "training_batches",
]


def training_batches(
    sources: Sequence[Source], *, tokenizer, frontend, subsampling: int, buckets: Sequence[Bucket], seed: int,
    shuffle_buffer: int, speed_factors: Sequence[float] = (), artifacts: Collection[str] = (),
    num_hypotheses: int = 4, noise: NoiseMixer | None = None, waveforms: bool = False, num_parts: int = 1,
    part: int = 0,
) -> tf.data.Dataset:
    """An endless dataset of batches, each of one bucket's static shape.

    Args:
      sources: splits whose records are mixed, by their weights if they have any (see `mixture`).
      speed_factors: each utterance is played at one of these speeds; refused together with artifacts that belong to the
        original time axis.
      artifacts: what is also read of the teacher's knowledge, of ARTIFACTS.
      num_hypotheses: N of "nbest"; more are left out, missing ones have no tokens and NEGATIVE_INFINITY as log-prob.
      noise: what is mixed into the utterances, from `open_noise`.
      waveforms: whether to give the audio as well.
      num_parts, part: of each batch only the rows of one of so many equal parts are made: each worker of a training
        makes its own, and all of them are at the same batch.

    Returns:
      Elements are dictionaries: `features` [B, N, F] float32, `num_frames` [B], `tokens` [B, U], `num_tokens` [B]
      int32, `utterance_id` [B] strings, `is_labelled` [B] bool: whether a person made the labels, not a teacher. With
      `waveforms` also `waveforms` [B, S] float32, at the speed of the features but without noise, and `num_samples`
      [B] int32. With artifacts also `has_teacher` [B] float32, 0 for an utterance without one of them, whose tensors
      hold nothing but padding, and

      | artifact | tensors, float32 unless it says int32 |
      |---|---|
      | hard | `teacher_log_prob` [B] |
      | nbest | `nbest_tokens` [B, N, U] int32, `nbest_num_tokens` [B, N] int32, `nbest_log_prob` [B, N] |
      | collapsed | `teacher_nodes` [B, T, U+1, 3], log-probs of blank, label, rest; NEGATIVE_INFINITY outside a band |
      | factored | `teacher_encoder` [B, T, H], `teacher_predictor` [B, U+1, H] |
      | top_k | `teacher_top_k_symbols` [B, T, U+1, K] int32, `.._log_probs` as large, `.._rest` [B, T, U+1] |
      | hidden | `teacher_hidden/<layer>` [B, T, D] for each layer |
      | dense | `teacher_dense` [B, T, U+1, V], log-probs |

      The order of batches and what is drawn for an utterance (its speed, its noise) do not depend on the parts.

    Raises:
      ValueError: artifacts that no record has, speed perturbation together with ones on the time axis, or batches
        that cannot be divided into parts.
    """
    stored = open_artifacts(artifacts, sources=sources, num_hypotheses=num_hypotheses)
    aligned = [artifact.name for artifact in stored if artifact.time_aligned]
    if aligned and len(speed_factors):
        raise ValueError(
            f"augment.speed_factors change the time axis, on which {', '.join(aligned)} of the teacher lie: "
            "leave speed_factors empty with losses on lattice nodes or frames"
        )
    uneven = [bucket.batch_size for bucket in buckets if bucket.batch_size % num_parts]
    if uneven:
        raise ValueError(f"batches of {uneven} utterances cannot be divided equally among {num_parts} workers")
    summary = make_summary(
        tokenizer=tokenizer, frontend=frontend, subsampling=subsampling,
        num_hypotheses=num_hypotheses if "nbest" in artifacts else 0,
    )
    content = make_content(stored)
    limits = tf.constant([bucket.num_frames for bucket in buckets], tf.int64)
    batch_sizes = tf.constant([bucket.batch_size for bucket in buckets], tf.int64)
    label_limits = tf.constant([bucket.num_labels for bucket in buckets], tf.int64)
    label_limits_or_none = tf.concat([label_limits, [-1]], axis=0)  # beyond the last bucket nothing fits
    parts = _parts(stored, frontend=frontend, waveforms=waveforms)

    @plain
    def summarise(record, by_person):
        element = summary(record)
        return {**element, "is_labelled": by_person | tf.logical_not(element["has_labels_of_teacher"])}

    @plain
    def at_speed(index, element):
        speed, num_samples = tf.constant(1.0), tf.cast(element["num_samples"], tf.int32)
        if len(speed_factors):
            choice = tf.random.stateless_uniform([], [seed, tf.cast(index, tf.int32)], 0, len(speed_factors), tf.int32)
            speed = tf.gather(tf.constant(speed_factors, tf.float32), choice)
            num_samples = samples_at_speed(num_samples, speed)
        num_frames = frontend.num_frames(num_samples)
        return {**element, "index": index, "speed": speed, "num_samples": num_samples, "num_frames": num_frames}

    @plain
    def bucket_of(element):
        return tf.searchsorted(limits, [tf.cast(element["num_frames"], tf.int64)], out_type=tf.int64)[0]

    @plain
    def fits(element):
        bucket = tf.minimum(bucket_of(element), len(buckets))
        return tf.cast(element["num_labels"], tf.int64) <= tf.gather(label_limits_or_none, bucket)

    @plain
    def rows_of_part(key, window):
        rows = tf.gather(batch_sizes, key) // num_parts
        return window.skip(part * rows).take(rows)

    @plain
    def featurise(element):
        element = {**element, **content(element)}
        waveform = element.pop("waveform")
        if len(speed_factors):
            waveform = speed_perturb(waveform, element["speed"])
        element["waveforms"] = waveform
        if noise is not None:
            waveform = noise(waveform, seed=seed, index=element["index"])
        features, _ = frontend(waveform[None], tf.shape(waveform))
        element["features"] = features[0]
        return {name: element[name] for name in parts}

    @plain
    def assemble(key, window):
        frames, labels = tf.gather(limits, key), tf.gather(label_limits, key)
        sizes = {
            _FEATURE_FRAMES: frames, _SAMPLES: frames * frontend.hop, FRAMES: -(-frames // subsampling),
            LABELS: labels, POSITIONS: labels + 1,
        }
        shapes = {
            name: tf.stack([tf.cast(sizes.get(size, size), tf.int64) for size in part.shape]) if part.shape else []
            for name, part in parts.items()
        }
        padding = {name: tf.cast(part.padding, part.dtype) for name, part in parts.items()}
        rows = tf.gather(batch_sizes, key) // num_parts
        return window.padded_batch(rows, shapes, padding | {"utterance_id": ""}, drop_remainder=True)

    dataset = endless_records(sources, seed=seed, shuffle_buffer=shuffle_buffer)
    dataset = dataset.map(summarise, num_parallel_calls=2).filter(plain(lambda element: element["reject"] == 0))
    dataset = dataset.enumerate().map(at_speed).filter(fits)
    # Batches are chosen before their content is made, so that no worker makes what it will not use.
    dataset = dataset.group_by_window(
        bucket_of, rows_of_part, window_size_func=plain(lambda key: tf.gather(batch_sizes, key))
    )
    dataset = dataset.map(featurise, num_parallel_calls=tf.data.AUTOTUNE)
    # The rows of a batch come one after another, so here no bucket waits for another one.
    dataset = dataset.group_by_window(
        bucket_of, assemble, window_size_func=plain(lambda key: tf.gather(batch_sizes, key) // num_parts)
    )
    # The tokenizer op counts as stateful, though it only holds the model; without this the iterator cannot be saved.
    options = tf.data.Options()
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return dataset.prefetch(2).with_options(options)


def evaluation_batches(source: Source, *, tokenizer, frontend, batch_size: int) -> tf.data.Dataset:
    """All utterances of a split once, in order, padded: `features`, `num_frames`, `text`, `utterance_id`."""
    summary, content = make_summary(tokenizer=tokenizer, frontend=frontend, subsampling=1), make_content()

    @plain
    def featurise(record):
        element = summary(record)
        waveform = content(element)["waveform"]
        features, num_frames = frontend(waveform[None], tf.shape(waveform))
        return {
            "features": features[0], "num_frames": num_frames[0], "text": element["text"],
            "utterance_id": element["utterance_id"],
        }

    dataset = tf.data.TFRecordDataset(source.paths())
    return dataset.map(featurise, num_parallel_calls=2).padded_batch(batch_size).prefetch(1)


_FEATURE_FRAMES, _SAMPLES = "feature_frames", "samples"  # more dimensions N and S of a bucket


def _parts(stored, *, frontend, waveforms):
    """{name: Part} of all tensors of a batch."""
    parts = {
        "features": Part((_FEATURE_FRAMES, frontend.num_mel_bins)),
        "num_frames": Part((), tf.int32),
        "tokens": Part((LABELS,), tf.int32),
        "num_tokens": Part((), tf.int32),
        "utterance_id": Part((), tf.string),
        "is_labelled": Part((), tf.bool),
    }
    if waveforms:
        parts |= {"waveforms": Part((_SAMPLES,)), "num_samples": Part((), tf.int32)}
    for artifact in stored:
        parts |= artifact.parts
    return {**parts, "has_teacher": Part(())} if stored else parts
