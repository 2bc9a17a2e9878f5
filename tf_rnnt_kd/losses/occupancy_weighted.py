"""Collapsed distillation where the teacher's alignments go (papers.md section 7, row 6)."""

import tensorflow as tf

from tf_rnnt_kd.lattice.forward_backward import Occupancies
from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses.collapsed import collapsed
from tf_rnnt_kd.losses.weighting import teacher_weights


def occupancy_weighted(
    teacher: NodeLogProbs,
    student: NodeLogProbs,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    shift: int = 0,
    node_weights: TensorLike | None = None,
    reduction_over_nodes: str = "sum",
    teacher_occupancies: Occupancies | None = None,
) -> tf.Tensor:
    """Sum over nodes of the teacher's node posterior x KL(teacher || student).

    Args:
      teacher: NodeLogProbs [B, T, U+1]; receives no gradient.
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shift: int frames, see `collapsed`.
      node_weights: None, or [B, T, U+1] further weights of the teacher's nodes.
      reduction_over_nodes: 'sum', 'mean' (divides by the sum of the weights, which without shift is T_b + U_b),
        'per_frame'.
      teacher_occupancies: lattice.Occupancies of the teacher if at hand, to save their computation.

    Returns:
      [B] float32, nats.
    """
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    options = {"teacher_occupancies": teacher_occupancies, "node_weights": node_weights}
    return collapsed(
        teacher,
        student,
        **lengths,
        shift=shift,
        node_weights=teacher_weights(teacher, "posterior", **lengths, **options),
        reduction_over_nodes=reduction_over_nodes,
    )
