"""Entropy of the student's posterior over alignments (papers.md section 7, row 26), a regulariser."""

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses import over_nodes
from tf_rnnt_kd.losses.scores import both_finite, or_infinite


def alignment_entropy(
    student: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike, reduction_over_nodes: str = "sum",
    student_log_prob: TensorLike | None = None,
) -> tf.Tensor:
    """H = -sum over alignments of P(pi|y,x) log P(pi|y,x) = log P(y|x) - mean over alignments of log P(pi, y|x).

    Give it a negative weight to keep alignments from becoming too peaked, a positive one to sharpen them.

    Args:
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      reduction_over_nodes: 'sum', 'mean' (divides by T_b + U_b), 'per_frame'.
      student_log_prob: [B] log P(y|x) of the same nodes if at hand.

    Returns:
      [B] float32, nats, at least 0; +inf with gradient 0 for an impossible transcript.
    """
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    if student_log_prob is None:
        student_log_prob = lattice.full_sum(student, **lengths)
    possible, log_prob, _ = both_finite(student_log_prob, student_log_prob)
    student = lattice.mask_nodes(student, **lengths)
    mean = lattice.path_expectation(student, student.blank, student.label, **lengths)
    return or_infinite(
        possible, over_nodes.reduce_arcs(log_prob - mean, reduction_over_nodes=reduction_over_nodes, **lengths)
    )
