"""Collapsed distillation with a time shift chosen node by node (papers.md 5.13 and section 7, row 10)."""

from collections.abc import Sequence

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses import over_nodes


def window_min(
    teacher: NodeLogProbs,
    student: NodeLogProbs,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    shifts: Sequence[int] = (0, 1, 2),
    node_weights: TensorLike | None = None,
    reduction_over_nodes: str = "sum",
) -> tf.Tensor:
    """At each of the teacher's nodes the smallest KL(teacher(t, u) || student(t + s, u)) over a window of shifts s.

    Args:
      teacher: NodeLogProbs [B, T, U+1]; receives no gradient.
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shifts: ints, frames; > 0 lets the student be later. Shifts that leave the utterance do not count.
      node_weights: None, or [B, T, U+1] weights of the teacher's nodes.
      reduction_over_nodes: 'sum', 'mean', 'per_frame', over the nodes for which some shift counts.

    Returns:
      [B] float32, nats. The gradient goes to the chosen nodes.
    """
    over_nodes.check_reduction(reduction_over_nodes)
    shifts = over_nodes.check_shifts(shifts)
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    pairs = [over_nodes.compare(teacher, student, shift=shift, **lengths) for shift in shifts]
    values = [tf.where(p.mask, over_nodes.kl(p.teacher, p.student), p.teacher.blank.dtype.max) for p in pairs]
    return over_nodes.reduce_nodes(
        tf.reduce_min(tf.stack(values), axis=0),
        mask=tf.reduce_any(tf.stack([p.mask for p in pairs]), axis=0),
        logit_lengths=logit_lengths,
        node_weights=node_weights,
        reduction_over_nodes=reduction_over_nodes,
    )
