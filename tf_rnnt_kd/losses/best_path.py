"""Collapsed distillation along one alignment (after Yang, Li, Woodland 2021, arXiv 2110.03334; papers.md 5.13)."""

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses.collapsed import collapsed
from tf_rnnt_kd.losses.weighting import teacher_weights


def best_path(
    teacher: NodeLogProbs, student: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike,
    shift: int = 0, node_weights: TensorLike | None = None, reduction_over_nodes: str = "sum",
) -> tf.Tensor:
    """KL(teacher || student) of the nodes that the teacher's best alignment of y visits.

    The alignment is the Viterbi path; the paper walks greedily, which agrees for peaked teachers and never does better.

    Args:
      teacher: NodeLogProbs [B, T, U+1]; receives no gradient.
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shift: int frames, see `collapsed`.
      node_weights: None, or [B, T, U+1] weights of the teacher's nodes.
      reduction_over_nodes: 'sum', 'mean' (over the T_b + U_b nodes of the path), 'per_frame'.

    Returns:
      [B] float32, nats; 0 where the teacher has no alignment.
    """
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    return collapsed(
        teacher,
        student,
        **lengths,
        shift=shift,
        node_weights=teacher_weights(teacher, "best_path", **lengths, node_weights=node_weights),
        reduction_over_nodes=reduction_over_nodes,
    )
