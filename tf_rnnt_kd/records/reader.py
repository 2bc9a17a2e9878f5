"""Records to batches: features and what is stored of a teacher, bucketed by length, with tf.data.

Everything random is drawn from stateless seeds that count elements, and every stage keeps its order, so the same
settings give the same batches; the iterator can be saved in a checkpoint.
"""

from collections.abc import Collection, Sequence

import tensorflow as tf

from tf_rnnt_kd.records.inventory import Bucket, Inventory, plan_buckets, take_inventory
from tf_rnnt_kd.records.parsing import (
    NO_TRANSCRIPT,
    REJECT_REASONS,
    TRANSCRIPT_TOO_LONG,
    UNKNOWN_CHARACTERS,
    make_parser,
)
from tf_rnnt_kd.records.sources import Source, check_teacher, stored_artifacts, teacher_joint
from tf_rnnt_kd.records.stored import ARTIFACTS, FRAMES, LABELS, POSITIONS, open_artifacts
from tf_rnnt_kd.speech.augment import speed_perturb

__all__ = [
    "ARTIFACTS",
    "NO_TRANSCRIPT",
    "REJECT_REASONS",
    "TRANSCRIPT_TOO_LONG",
    "UNKNOWN_CHARACTERS",
    "Bucket",
    "Inventory",
    "Source",
    "check_teacher",
    "evaluation_batches",
    "plan_buckets",
    "stored_artifacts",
    "take_inventory",
    "teacher_joint",
    "training_batches",
]


def training_batches(
    sources: Sequence[Source], *, tokenizer, frontend, subsampling: int, buckets: Sequence[Bucket], seed: int,
    shuffle_buffer: int, speed_factors: Sequence[float] = (), artifacts: Collection[str] = (),
    num_hypotheses: int = 4,
) -> tf.data.Dataset:
    """An endless dataset of batches, each of one bucket's static shape.

    Args:
      sources: splits whose shards are mixed.
      speed_factors: each utterance is played at one of these speeds; refused together with artifacts that belong to the
        original time axis.
      artifacts: what is also read of the teacher's knowledge, of ARTIFACTS.
      num_hypotheses: N of "nbest"; more are left out, missing ones have no tokens and NEGATIVE_INFINITY as log-prob.

    Returns:
      Elements are dictionaries: `features` [B, N, F] float32, `num_frames` [B], `tokens` [B, U], `num_tokens` [B]
      int32, `utterance_id` [B] strings. With artifacts also `has_teacher` [B] float32, 0 for an utterance without one
      of them, whose tensors hold nothing but padding, and

      | artifact | tensors, float32 unless it says int32 |
      |---|---|
      | hard | `teacher_log_prob` [B] |
      | nbest | `nbest_tokens` [B, N, U] int32, `nbest_num_tokens` [B, N] int32, `nbest_log_prob` [B, N] |
      | collapsed | `teacher_nodes` [B, T, U+1, 3], log-probs of blank, label, rest; NEGATIVE_INFINITY outside a band |
      | factored | `teacher_encoder` [B, T, H], `teacher_predictor` [B, U+1, H] |
      | top_k | `teacher_top_k_symbols` [B, T, U+1, K] int32, `.._log_probs` as large, `.._rest` [B, T, U+1] |
      | hidden | `teacher_hidden/<layer>` [B, T, D] for each layer |
      | dense | `teacher_dense` [B, T, U+1, V], log-probs |

    Raises:
      ValueError: artifacts that no record has, or speed perturbation together with ones on the time axis.
    """
    stored = open_artifacts(artifacts, sources=sources, num_hypotheses=num_hypotheses)
    aligned = [artifact.name for artifact in stored if artifact.time_aligned]
    if aligned and len(speed_factors):
        raise ValueError(
            f"augment.speed_factors change the time axis, on which {', '.join(aligned)} of the teacher lie: "
            "leave speed_factors empty with losses on lattice nodes or frames"
        )
    parse = make_parser(tokenizer=tokenizer, frontend=frontend, subsampling=subsampling, stored=stored)
    parts = {name: part for artifact in stored for name, part in artifact.parts.items()}
    paths = [path for source in sources for path in source.paths()]
    limits = tf.constant([bucket.num_frames for bucket in buckets], tf.int64)
    batch_sizes = tf.constant([bucket.batch_size for bucket in buckets], tf.int64)
    label_limits = tf.constant([bucket.num_labels for bucket in buckets], tf.int64)

    def featurise(index, element):
        waveform = element.pop("waveform")
        if len(speed_factors):
            choice = tf.random.stateless_uniform([], [seed, tf.cast(index, tf.int32)], 0, len(speed_factors), tf.int32)
            waveform = speed_perturb(waveform, tf.gather(tf.constant(speed_factors, tf.float32), choice))
        features, num_frames = frontend(waveform[None], tf.shape(waveform))
        kept = {name: element[name] for name in ("tokens", "num_tokens", "num_labels", "utterance_id", *parts)}
        if stored:
            kept["has_teacher"] = element["has_teacher"]
        return {"features": features[0], "num_frames": num_frames[0], **kept}

    def bucket_of(element):
        return tf.searchsorted(limits, [tf.cast(element["num_frames"], tf.int64)])[0]

    def fits(element):
        bucket = tf.cast(bucket_of(element), tf.int64)
        return (bucket < len(buckets)) and (
            tf.cast(element["num_labels"], tf.int64) <= tf.gather(label_limits, bucket)
        )

    def assemble(key, window):
        frames, labels = tf.gather(limits, key), tf.gather(label_limits, key)
        shapes = {
            "features": tf.stack([frames, frontend.num_mel_bins]), "num_frames": [], "tokens": labels[None],
            "num_tokens": [], "utterance_id": [],
        }
        padding = {name: tf.constant(0, dtype) for name, dtype in _DTYPES.items()} | {"utterance_id": ""}
        sizes = {FRAMES: -(-frames // subsampling), LABELS: labels, POSITIONS: labels + 1}
        for name, part in parts.items():
            shapes[name] = [tf.cast(sizes.get(size, size), tf.int64) for size in part.shape]
            shapes[name] = tf.stack(shapes[name]) if part.shape else []
            padding[name] = tf.cast(part.padding, part.dtype)
        if stored:
            shapes["has_teacher"], padding["has_teacher"] = [], 0.0
        window = window.map(lambda element: {name: element[name] for name in shapes})
        return window.padded_batch(tf.gather(batch_sizes, key), shapes, padding, drop_remainder=True)

    dataset = tf.data.Dataset.from_tensor_slices(paths)
    dataset = dataset.interleave(tf.data.TFRecordDataset, cycle_length=len(paths), block_length=1)
    dataset = dataset.shuffle(shuffle_buffer, seed=seed, reshuffle_each_iteration=True).repeat()
    dataset = dataset.map(parse, num_parallel_calls=2).filter(lambda element: element["reject"] == 0)
    dataset = dataset.enumerate().map(featurise, num_parallel_calls=2).filter(fits)
    dataset = dataset.group_by_window(
        lambda element: tf.cast(bucket_of(element), tf.int64),
        assemble,
        window_size_func=lambda key: tf.gather(batch_sizes, key),
    )
    # The tokenizer op counts as stateful, though it only holds the model; without this the iterator cannot be saved.
    options = tf.data.Options()
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return dataset.prefetch(2).with_options(options)


def evaluation_batches(source: Source, *, tokenizer, frontend, batch_size: int) -> tf.data.Dataset:
    """All utterances of a split once, in order, padded: `features`, `num_frames`, `text`, `utterance_id`."""
    parse = make_parser(tokenizer=tokenizer, frontend=frontend, subsampling=1)

    def featurise(element):
        waveform = element["waveform"]
        features, num_frames = frontend(waveform[None], tf.shape(waveform))
        return {
            "features": features[0], "num_frames": num_frames[0], "text": element["text"],
            "utterance_id": element["utterance_id"],
        }

    dataset = tf.data.TFRecordDataset(source.paths()).map(parse, num_parallel_calls=2)
    return dataset.map(featurise, num_parallel_calls=2).padded_batch(batch_size).prefetch(1)


_DTYPES = {"features": tf.float32, "num_frames": tf.int32, "tokens": tf.int32, "num_tokens": tf.int32}
