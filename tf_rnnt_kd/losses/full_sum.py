"""Full-sum distillation (after Zeineldeen et al. 2023, arXiv 2303.05958; papers.md 3.2): log P(y|x) of both models.

Needs no common frame rate and no common lattice, only the same text. The gradient of the squared distance is
(log P_S - log P_T) times that of log P_S: training stops when the student is as sure as the teacher, reverses beyond.
"""

import tensorflow as tf

from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses.scores import both_finite, distance, or_infinite


def full_sum(
    teacher_log_prob: TensorLike, student_log_prob: TensorLike, *, label_lengths: TensorLike,
    distance_kind: str = "l1", delta: float = 1.0, per_label: bool = False,
) -> tf.Tensor:
    """A distance between log P_T(y|x) and log P_S(y|x).

    Args:
      teacher_log_prob: [B] natural log; receives no gradient.
      student_log_prob: [B] natural log, lattice.full_sum of the student's nodes.
      label_lengths: [B] int, labels.
      distance_kind: 'l1', 'l2' (half the square) or 'huber'. From random initialisation scores differ by hundreds, and
        l2's gradient by as much: start it late or take the others.
      delta: where 'huber' turns from square to straight, nats (per label with per_label).
      per_label: divides both scores by the number of labels (an empty transcript counts as one label).

    Returns:
      [B] float32; +inf with gradient 0 where either score is -inf.
    """
    student_log_prob = tf.convert_to_tensor(student_log_prob)
    teacher_log_prob = tf.stop_gradient(tf.cast(teacher_log_prob, student_log_prob.dtype))
    possible, teacher, student = both_finite(teacher_log_prob, student_log_prob)
    difference = student - teacher
    if per_label:
        difference /= tf.maximum(tf.cast(label_lengths, difference.dtype), 1.0)
    return or_infinite(possible, distance(difference, distance_kind, delta=delta))
