"""What all node losses share: a value per node of teacher and student, shifted in time, weighted, and reduced."""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.lattice import NodeLogProbs
from tf_rnnt_kd.lattice.nodes import IMPOSSIBLE

REDUCTIONS = ("sum", "mean", "per_frame")


class Compared(NamedTuple):
    """Nodes to compare one by one.

    teacher: NodeLogProbs [B, T, U+1], without gradient.
    student: NodeLogProbs [B, T, U+1]: at (t, u) the student's node (t + shift, u).
    mask: [B, T, U+1] bool, where both nodes exist: inside the utterance, and inside the band where a model has one.
    """

    teacher: NodeLogProbs
    student: NodeLogProbs
    mask: tf.Tensor


def compare(teacher, student, *, logit_lengths, label_lengths, shift=0):
    """Lines the teacher's node (t, u) up with the student's node (t + shift, u).

    Args:
      teacher: NodeLogProbs [B, T, U+1].
      student: NodeLogProbs [B, T, U+1] over the same labels and frame rate.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shift: int, frames by which the student may be later (> 0) or earlier (< 0) than the teacher. Teacher nodes
        whose partner lies outside the utterance, or outside the student's band, are not compared.

    Returns:
      Compared.
    """
    if not all(t.shape.is_compatible_with(s.shape) for t, s in zip(teacher, student, strict=True)):
        raise ValueError(
            f"teacher nodes {teacher.blank.shape} and student nodes {student.blank.shape} do not fit: node losses need "
            "the same labels and the same frame rate; full-sum losses do not"
        )
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    teacher = NodeLogProbs(*(tf.stop_gradient(x) for x in lattice.mask_nodes(teacher, **lengths)))
    student = lattice.mask_nodes(student, **lengths)
    dtype = student.blank.dtype
    teacher = NodeLogProbs(*(tf.cast(x, dtype) for x in teacher))
    student = NodeLogProbs(*(advance(x, shift, lattice.NEGATIVE_INFINITY) for x in student))
    return Compared(teacher, student, ~missing(teacher) & ~missing(student))


def missing(nodes):
    """[B, T, U+1] bool: the node does not exist, as in padding and outside a band; nothing can happen there."""
    # Not the opposite of `>`: a NaN exists, and must be seen.
    return (nodes.blank <= IMPOSSIBLE) & (nodes.label <= IMPOSSIBLE) & (nodes.rest <= IMPOSSIBLE)


def kl(teacher, student):
    """Three-way KL(teacher || student) of each node, [B, T, U+1]; 0 where the teacher's probabilities are all 0."""
    return tf.add_n([tf.exp(t) * (t - s) for t, s in zip(teacher, student, strict=True)])


def reduce_nodes(values, *, mask, logit_lengths, node_weights=None, reduction_over_nodes="sum"):
    """One number per utterance.

    Args:
      values: [B, T, U+1], may hold anything where `mask` is False.
      mask: [B, T, U+1] bool, the nodes that count.
      logit_lengths: [B] int, frames.
      node_weights: None, or [B, T, U+1] bool or float.
      reduction_over_nodes: 'sum': sum of weight x value; 'mean': that divided by the sum of the weights (1 each without
        node_weights); 'per_frame': the sum divided by logit_length. An utterance in which no node counts gives 0.

    Returns:
      [B].
    """
    check_reduction(reduction_over_nodes)
    weights = tf.cast(mask, values.dtype)
    if node_weights is not None:
        node_weights = tf.stop_gradient(tf.cast(node_weights, values.dtype))
        weights = tf.where(mask, node_weights, tf.zeros([], weights.dtype))
    # Masked values are replaced, not multiplied by 0: they may be NaN.
    total = tf.reduce_sum(weights * tf.where(mask, values, tf.zeros([], values.dtype)), axis=[1, 2])
    return reduce_total(
        total, weights=weights, logit_lengths=logit_lengths, reduction_over_nodes=reduction_over_nodes
    )


def reduce_total(total, *, weights, logit_lengths, reduction_over_nodes):
    """As reduce_nodes, from the weighted sum [B] and the weights [B, T, U+1], 0 at nodes that do not count."""
    if reduction_over_nodes == "mean":
        return tf.math.divide_no_nan(total, tf.reduce_sum(weights, axis=[1, 2]))
    if reduction_over_nodes == "per_frame":
        return tf.math.divide_no_nan(total, tf.cast(logit_lengths, total.dtype))
    return total


def node_posterior(teacher, teacher_occupancies=None, *, logit_lengths, label_lengths):
    """Probability [B, T, U+1] that an alignment of the teacher visits the node; from its occupancies if at hand."""
    if teacher_occupancies is None:
        teacher_occupancies = lattice.occupancies(teacher, logit_lengths=logit_lengths, label_lengths=label_lengths)
    return teacher_occupancies.blank + teacher_occupancies.label


def both_weights(weights, node_weights):
    """Product of a loss's own weights [B, T, U+1] and the caller's (or None), as floats."""
    weights = weights if weights.dtype == tf.float64 else tf.cast(weights, tf.float32)
    return weights if node_weights is None else weights * tf.cast(node_weights, weights.dtype)


def reduce_arcs(total, *, logit_lengths, label_lengths, reduction_over_nodes="sum"):
    """As reduce_nodes for a sum over the arcs of alignments: 'mean' divides by the T_b + U_b arcs that each has."""
    check_reduction(reduction_over_nodes)
    frames, labels = (tf.cast(x, total.dtype) for x in (logit_lengths, label_lengths))
    divisor = {"sum": tf.ones_like(frames), "mean": frames + labels, "per_frame": frames}[reduction_over_nodes]
    return total / tf.maximum(divisor, 1.0)


def check_shifts(shifts):
    """The shifts as a tuple of ints."""
    shifts = tuple(int(shift) for shift in shifts)
    if not shifts:
        raise ValueError("shifts is empty; give the frames by which the student may be later, e.g. (0, 1, 2)")
    return shifts


def check_reduction(reduction_over_nodes):
    if reduction_over_nodes not in REDUCTIONS:
        raise ValueError(f"reduction_over_nodes={reduction_over_nodes!r} is not one of {', '.join(REDUCTIONS)}")


def advance(x, shift, fill):
    """x[:, t + shift] at t, `fill` where that is outside."""
    if not shift:
        return x
    # tf.pad first: a shift longer than the utterance leaves nothing but fill.
    size = tf.shape(x)[1]
    before, after = max(-shift, 0), max(shift, 0)
    padded = tf.pad(x, [[0, 0], [before, after], [0, 0]], constant_values=fill)
    return tf.slice(padded, [0, after, 0], [-1, size, -1])
