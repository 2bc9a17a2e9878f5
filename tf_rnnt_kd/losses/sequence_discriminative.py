"""Sequence-discriminative distillation: how the teacher ranks N hypotheses (papers.md 3.2, both derived forms)."""

import tensorflow as tf

from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses.scores import both_finite, distance, or_infinite


def sequence_posterior(
    teacher_log_probs: TensorLike, student_log_probs: TensorLike, *, hypothesis_mask: TensorLike | None = None,
    scale: float = 1.0,
) -> tf.Tensor:
    """KL(q_T || q_S) with q = softmax over the hypotheses of scale x log P(y^n|x); gradient: scale (q_S - q_T).

    Args:
      teacher_log_probs: [B, N] natural log; receive no gradient.
      student_log_probs: [B, N].
      hypothesis_mask: [B, N] bool, which hypotheses exist, or None for all. Elsewhere anything may stand.
      scale: float > 0 of both scores; below 1 it softens the ranking.

    Returns:
      [B] float32, nats; +inf with gradient 0 where a hypothesis is impossible to either model; 0 for fewer than two
      hypotheses.
    """
    if not scale > 0:
        raise ValueError(f"scale={scale} must be above 0")
    exists, possible, teacher, student = _scores(teacher_log_probs, student_log_probs, hypothesis_mask, scale)
    teacher, student = tf.nn.log_softmax(teacher), tf.nn.log_softmax(student)
    terms = tf.exp(teacher) * (teacher - student)
    return or_infinite(possible, tf.reduce_sum(tf.where(exists, terms, tf.zeros([], terms.dtype)), axis=-1))


def sequence_margin(
    teacher_log_probs: TensorLike, student_log_probs: TensorLike, *, hypothesis_mask: TensorLike | None = None,
    scale: float = 1.0, distance_kind: str = "l1", delta: float = 1.0,
) -> tf.Tensor:
    """A distance between the two models' log posterior of the first hypothesis among all (the MMI criterion's value).

    distance(log q_S(y^1), log q_T(y^1)), q as in `sequence_posterior`.

    Args:
      teacher_log_probs: [B, N], the hypothesis to single out (the 1-best, or the reference) first.
      student_log_probs: [B, N].
      hypothesis_mask: [B, N] bool or None; the first hypothesis must exist where any does.
      scale: see `sequence_posterior`.
      distance_kind: 'l1', 'l2' or 'huber', see `full_sum`.
      delta: see `full_sum`.

    Returns:
      [B] float32; +inf with gradient 0 where a hypothesis is impossible to either model; 0 for fewer than two
      hypotheses.
    """
    if not scale > 0:
        raise ValueError(f"scale={scale} must be above 0")
    exists, possible, teacher, student = _scores(teacher_log_probs, student_log_probs, hypothesis_mask, scale)
    difference = tf.nn.log_softmax(student)[:, 0] - tf.nn.log_softmax(teacher)[:, 0]
    difference = tf.where(exists[:, 0], difference, tf.zeros([], difference.dtype))
    return or_infinite(possible, distance(difference, distance_kind, delta=delta))


def _scores(teacher, student, hypothesis_mask, scale):
    """Which hypotheses exist [B, N], which utterances are possible [B], and scaled scores, -1e30 for no hypothesis."""
    student = tf.convert_to_tensor(student)
    teacher = tf.stop_gradient(tf.cast(teacher, student.dtype))
    exists = tf.ones_like(student, tf.bool) if hypothesis_mask is None else tf.cast(hypothesis_mask, tf.bool)
    finite, teacher, student = both_finite(teacher, student)
    bottom = tf.constant(-1e30, student.dtype)
    teacher, student = (tf.where(exists, scale * x, bottom) for x in (teacher, student))
    return exists, tf.reduce_all(finite | ~exists, axis=-1), teacher, student
