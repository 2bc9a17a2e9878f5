"""Collapsed distillation on the teacher's live nodes only (after Kurata and Saon 2020; papers.md section 7, row 7)."""

import tensorflow as tf

from tf_rnnt_kd.lattice.forward_backward import Occupancies
from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses.collapsed import collapsed
from tf_rnnt_kd.losses.weighting import teacher_weights


def node_masked(
    teacher: NodeLogProbs,
    student: NodeLogProbs,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    threshold: float = 1e-3,
    shift: int = 0,
    node_weights: TensorLike | None = None,
    reduction_over_nodes: str = "sum",
    teacher_occupancies: Occupancies | None = None,
) -> tf.Tensor:
    """KL(teacher || student) of the nodes whose posterior under the teacher is above a threshold.

    Args:
      teacher: NodeLogProbs [B, T, U+1]; receives no gradient.
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      threshold: float in [0, 1), of the teacher's node posterior.
      shift: int frames, see `collapsed`.
      node_weights: None, or [B, T, U+1] weights of the teacher's nodes.
      reduction_over_nodes: 'sum', 'mean' (over the live nodes), 'per_frame'.
      teacher_occupancies: lattice.Occupancies of the teacher if at hand, to save their computation.

    Returns:
      [B] float32, nats.
    """
    if not 0.0 <= threshold < 1.0:
        raise ValueError(f"threshold={threshold} must be in [0, 1): it bounds a probability from below")
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    options = {"threshold": threshold, "teacher_occupancies": teacher_occupancies, "node_weights": node_weights}
    return collapsed(
        teacher,
        student,
        **lengths,
        shift=shift,
        node_weights=teacher_weights(teacher, "live", **lengths, **options),
        reduction_over_nodes=reduction_over_nodes,
    )
