"""Losses over N hypotheses of an utterance, weighted by how much the teacher believes them (papers.md 3.2, 5.13)."""

import tensorflow as tf

from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses.full_sum import full_sum


def hard_n_best(
    teacher_log_probs: TensorLike, student_log_probs: TensorLike, *, hypothesis_mask: TensorLike | None = None,
    scale: float = 1.0,
) -> tf.Tensor:
    """sum over n of w_n x -log P_S(y^n|x), with w = softmax over n of scale x log P_T(y^n|x).

    Args:
      teacher_log_probs: [B, N] scores of the hypotheses, natural log; receive no gradient.
      student_log_probs: [B, N] log P_S(y^n|x): lattice.full_sum of [B*N] lattices, reshaped.
      hypothesis_mask: [B, N] bool, which hypotheses exist, or None for all. Elsewhere anything may stand.
      scale: float; 0 weighs all hypotheses alike.

    Returns:
      [B] float32; +inf if the student finds a hypothesis of nonzero weight impossible; 0 without any hypothesis.
    """
    weights = hypothesis_weights(teacher_log_probs, hypothesis_mask=hypothesis_mask, scale=scale)
    return _weighted(-tf.convert_to_tensor(student_log_probs), weights)


def full_sum_n_best(
    teacher_log_probs: TensorLike,
    student_log_probs: TensorLike,
    *,
    hypothesis_mask: TensorLike | None = None,
    hypothesis_lengths: TensorLike | None = None,
    scale: float = 1.0,
    distance_kind: str = "l1",
    delta: float = 1.0,
    per_label: bool = False,
) -> tf.Tensor:
    """sum over n of w_n x distance(log P_S(y^n|x), log P_T(y^n|x)), with w as in `hard_n_best`.

    Args:
      teacher_log_probs: [B, N], see `hard_n_best`.
      student_log_probs: [B, N].
      hypothesis_mask: [B, N] bool or None.
      hypothesis_lengths: [B, N] int, labels of each hypothesis; needed with per_label.
      scale: of the teacher's scores in the weights.
      distance_kind: see `full_sum`.
      delta: see `full_sum`.
      per_label: see `full_sum`.

    Returns:
      [B] float32; 0 without any hypothesis.
    """
    if per_label and hypothesis_lengths is None:
        raise ValueError("per_label needs hypothesis_lengths [B, N], the number of labels of each hypothesis")
    weights = hypothesis_weights(teacher_log_probs, hypothesis_mask=hypothesis_mask, scale=scale)
    value = full_sum(
        teacher_log_probs,
        student_log_probs,
        label_lengths=hypothesis_lengths,
        distance_kind=distance_kind,
        delta=delta,
        per_label=per_label,
    )
    return _weighted(value, weights)


def hypothesis_weights(teacher_log_probs, *, hypothesis_mask=None, scale=1.0):
    """[B, N] softmax of scale x the teacher's scores over the hypotheses that exist and are possible; else 0."""
    scores = tf.stop_gradient(tf.convert_to_tensor(teacher_log_probs))
    exists = tf.math.is_finite(scores)
    if hypothesis_mask is not None:
        exists &= tf.cast(hypothesis_mask, tf.bool)
    scores = tf.where(exists, scale * scores, tf.constant(-1e30, scores.dtype))
    return tf.where(exists, tf.nn.softmax(scores, axis=-1), tf.zeros([], scores.dtype))


def _weighted(values, weights):
    """Sum over hypotheses; those of weight 0 count for nothing, whatever (NaN included) stands there."""
    weights = tf.cast(weights, values.dtype)
    return tf.reduce_sum(weights * tf.where(weights > 0, values, tf.zeros([], values.dtype)), axis=-1)
