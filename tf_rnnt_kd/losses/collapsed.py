"""Collapsed soft distillation: three-way KL per node (Panchapagesan et al. 2020, arXiv 2011.06110; papers.md 2.2)."""

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses import over_nodes


def collapsed(
    teacher: NodeLogProbs, student: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike,
    shift: int = 0, node_weights: TensorLike | None = None, reduction_over_nodes: str = "sum",
) -> tf.Tensor:
    """KL(teacher || student) over {blank, next label, everything else}, added up over the lattice.

    Args:
      teacher: NodeLogProbs [B, T, U+1]; receives no gradient.
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shift: int frames: the teacher's node (t, u) is compared with the student's (t + shift, u); > 0 lets a streaming
        student be later. Frames without a partner are left out.
      node_weights: None, or [B, T, U+1] bool mask or float weights of the teacher's nodes.
      reduction_over_nodes: 'sum' (as published), 'mean' (divides by the sum of weights), 'per_frame' (divides by T_b).

    Returns:
      [B] float32, nats; never above the KL over all V symbols.

    Raises:
      ValueError: if teacher and student differ in shape, or for an unknown reduction.
    """
    over_nodes.check_reduction(reduction_over_nodes)
    pair = over_nodes.compare(
        teacher, student, logit_lengths=logit_lengths, label_lengths=label_lengths, shift=int(shift)
    )
    return over_nodes.reduce_nodes(
        over_nodes.kl(pair.teacher, pair.student),
        mask=pair.mask,
        logit_lengths=logit_lengths,
        node_weights=node_weights,
        reduction_over_nodes=reduction_over_nodes,
    )
