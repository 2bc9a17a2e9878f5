"""Distillation of the distribution over alignments (entropy semiring, ICLR 2023; papers.md 1.6).

For one label sequence y, the teacher's alignments pi have posterior P_T(pi | y, x). A path score is a sum over its
arcs, so all three losses need the teacher's arc occupancies g_T and one scan of the student, never the paths.
An arc that the teacher uses and the student's -inf logits forbid costs occupancy x 1e30.
"""

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.lattice.forward_backward import Occupancies
from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses import over_nodes
from tf_rnnt_kd.losses.scores import both_finite, or_infinite


def alignment_kl(
    teacher: NodeLogProbs,
    student: NodeLogProbs,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    reduction_over_nodes: str = "sum",
    teacher_occupancies: Occupancies | None = None,
    teacher_path_log_prob: TensorLike | None = None,
    student_log_prob: TensorLike | None = None,
) -> tf.Tensor:
    """KL between the posteriors over alignments, sum over pi of P_T(pi|y,x) log(P_T(pi|y,x) / P_S(pi|y,x)).

    = sum over arcs of g_T (log p_T - log p_S) - log P_T(y|x) + log P_S(y|x); gradient: g_S - g_T of each arc.

    Args:
      teacher: NodeLogProbs [B, T, U+1]; receives no gradient.
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      reduction_over_nodes: 'sum' (as published), 'mean' (divides by T_b + U_b), 'per_frame'.
      teacher_occupancies: lattice.Occupancies of the teacher if at hand, to save their computation.
      teacher_path_log_prob: [B] lattice.full_sum of `teacher` if at hand: log P_T(y|x) of a lattice that is whole.
      student_log_prob: [B] log P_S(y|x) if at hand.

    Returns:
      [B] float32, nats, at least 0; +inf with gradient 0 where teacher or student has no alignment.
    """
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    arcs = _arc_sum(teacher, student, teacher_occupancies, lengths)
    teacher_log_prob, student_log_prob = _log_probs(teacher, student, teacher_path_log_prob, student_log_prob, lengths)
    possible, teacher_score, student_score = both_finite(teacher_log_prob, student_log_prob)
    value = over_nodes.reduce_arcs(
        arcs - teacher_score + student_score, reduction_over_nodes=reduction_over_nodes, **lengths
    )
    return or_infinite(possible, value)


def alignment_kl_semiring(
    teacher: NodeLogProbs,
    student: NodeLogProbs,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    reduction_over_nodes: str = "sum",
    teacher_occupancies: Occupancies | None = None,
    teacher_path_log_prob: TensorLike | None = None,
) -> tf.Tensor:
    """The published, unnormalised form: sum over pi of P_T(pi, y|x) log(P_T(pi, y|x) / P_S(pi, y|x)).

    = P_T(y|x) x sum over arcs of g_T (log p_T - log p_S). It vanishes where the teacher finds y unlikely, as any
    long utterance that it is not sure of; it is not bounded by 0 from below. See `alignment_kl` for the arguments.

    Returns:
      [B] float32; 0 with gradient 0 where the teacher has no alignment.
    """
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    arcs = _arc_sum(teacher, student, teacher_occupancies, lengths)
    if teacher_path_log_prob is None:
        teacher_path_log_prob = lattice.full_sum(teacher, **lengths)
    value = tf.stop_gradient(tf.exp(tf.cast(teacher_path_log_prob, arcs.dtype))) * arcs
    return over_nodes.reduce_arcs(value, reduction_over_nodes=reduction_over_nodes, **lengths)


def alignment_cross_entropy(
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
    """-sum over arcs of g_T log p_S: `alignment_kl` without its constants and without the student's normalisation.

    Args:
      teacher: NodeLogProbs [B, T, U+1]; receives no gradient.
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shift: int frames: the teacher's arc at (t, u) is compared with the student's at (t + shift, u).
      node_weights: None, or [B, T, U+1] weights of the teacher's nodes.
      reduction_over_nodes: 'sum', 'mean' (divides by the sum of weight x occupancy, T_b + U_b without either),
        'per_frame'.
      teacher_occupancies: lattice.Occupancies of the teacher if at hand, to save their computation.

    Returns:
      [B] float32, nats; 0 where the teacher has no alignment.
    """
    over_nodes.check_reduction(reduction_over_nodes)
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    used = _teacher_occupancies(teacher, student, teacher_occupancies, lengths)
    pair = over_nodes.compare(teacher, student, shift=int(shift), **lengths)
    posterior = used.blank + used.label
    cost = -(used.blank * pair.student.blank + used.label * pair.student.label)
    # Per visit of the node, so that the weights are the posteriors and 'mean' divides by them.
    return over_nodes.reduce_nodes(
        tf.math.divide_no_nan(cost, posterior),
        mask=pair.mask,
        logit_lengths=logit_lengths,
        node_weights=over_nodes.both_weights(posterior, node_weights),
        reduction_over_nodes=reduction_over_nodes,
    )


def _arc_sum(teacher, student, teacher_occupancies, lengths):
    used = _teacher_occupancies(teacher, student, teacher_occupancies, lengths)
    pair = over_nodes.compare(teacher, student, **lengths)
    cost = used.blank * (pair.teacher.blank - pair.student.blank)
    cost += used.label * (pair.teacher.label - pair.student.label)
    # Not pair.mask: arcs that only the student lacks (outside its band) count, or the KL would not be one.
    return tf.reduce_sum(tf.where(over_nodes.missing(pair.teacher), tf.zeros([], cost.dtype), cost), axis=[1, 2])


def _teacher_occupancies(teacher, student, teacher_occupancies, lengths):
    if teacher_occupancies is None:
        teacher_occupancies = lattice.occupancies(teacher, **lengths)
    dtype = student.blank.dtype if student.blank.dtype == tf.float64 else tf.float32
    return lattice.Occupancies(*(tf.stop_gradient(tf.cast(x, dtype)) for x in teacher_occupancies))


def _log_probs(teacher, student, teacher_log_prob, student_log_prob, lengths):
    if teacher_log_prob is None:
        teacher_log_prob = lattice.full_sum(teacher, **lengths)
    if student_log_prob is None:
        student_log_prob = lattice.full_sum(student, **lengths)
    return tf.stop_gradient(tf.cast(teacher_log_prob, student_log_prob.dtype)), student_log_prob
