"""From V logits of a node to its three log-probabilities, and the gradient back. Shared by every way to make nodes.

Logits come as rows [R, V]; what is summed over V is computed slice by slice, what is left is a few numbers per node.
"""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import NEGATIVE_INFINITY, NodeLogProbs, at_least, poison
from tf_rnnt_kd.lattice.rows import compiled


class Summary(NamedTuple):
    """Four numbers that stand for the V logits of a node, each [...].

    blank: the blank's logit.
    label: the next label's logit, NEGATIVE_INFINITY where there is none.
    peak: largest logit among the other symbols (or any number near it: `total` is relative to it).
    total: sum of exp(logit - peak) over the other symbols.
    """

    blank: tf.Tensor
    label: tf.Tensor
    peak: tf.Tensor
    total: tf.Tensor


class LogitGradients(NamedTuple):
    """Gradients of a node's logits, each [...]: the blank's, the next label's, and all the others' together."""

    blank: tf.Tensor
    label: tf.Tensor
    rest: tf.Tensor


def summarise(logits, bias, *, label, blank_index):
    """Summary of rows of logits.

    Args:
      logits: [R, V] float, still without the bias: adding it would be one more pass over them. -inf is allowed.
      bias: [V] float.
      label: [R] int32, the next label's symbol, V where there is none.
      blank_index: int.

    Returns:
      Summary of [R].
    """
    bottom = tf.constant(NEGATIVE_INFINITY, logits.dtype)
    has_label = label < tf.shape(logits)[1]
    label = tf.where(has_label, label, blank_index)
    blank_logit = at_least(logits[:, blank_index] + bias[blank_index], bottom)
    label_logit = at_least(tf.gather(logits, label, batch_dims=1) + tf.gather(bias, label), bottom)
    # Relative to a number that is at hand, which saves the search for the largest; exact unless others are further
    # from it than half the range of float32, and then they are summed again relative to their own largest.
    near = tf.maximum(blank_logit, label_logit)
    without_blank = tf.tensor_scatter_nd_update(bias, [[blank_index]], [bottom])
    symbols = tf.range(tf.shape(logits)[1])
    total = _sum_of_others(logits, without_blank, symbols, label, near)
    far = tf.reduce_any((total < _SMALL) | ~(total < 1.0 / _SMALL))
    peak, total = tf.cond(far, lambda: _peak_of_others(logits, without_blank, symbols, label), lambda: (near, total))
    return Summary(blank_logit, tf.where(has_label, label_logit, bottom), peak, total)


def normalise(summary):
    """NodeLogProbs of a Summary, of the same shape.

    The mass of the other symbols is their own log-sum-exp, and the three are normalised by differences, so nothing
    cancels: neither for a confident model (1 - p would be 0) nor for logits of magnitude 1e4.
    """
    blank, label, peak, total = summary
    bottom = tf.constant(NEGATIVE_INFINITY, blank.dtype)
    top = tf.maximum(tf.maximum(blank, label), peak)
    log_total = tf.where(tf.equal(total, 0.0), bottom, tf.math.log(total))
    blank, label, rest = blank - top, label - top, (peak - top) + log_total
    normaliser = _log_sum_exp_of_three(blank, label, rest)
    return NodeLogProbs(*(at_least(x - normaliser, bottom) for x in (blank, label, rest)))


def logit_gradients(nodes, upstream):
    """LogitGradients from the gradients of the three log-probabilities.

    With p the three probabilities and g the upstream gradients, the gradient of the group i as a whole is
    g_i (1 - p_i) - p_i (sum of the other g), 1 - p_i being the sum of the other two.

    Args:
      nodes: NodeLogProbs of any shape.
      upstream: NodeLogProbs of the same shape, gradients; 0 at arcs that do not exist.
    """
    blank_p, label_p, rest_p = (tf.exp(x) for x in nodes)
    return LogitGradients(
        upstream.blank * (label_p + rest_p) - blank_p * (upstream.label + upstream.rest),
        upstream.label * (blank_p + rest_p) - label_p * (upstream.blank + upstream.rest),
        upstream.rest * (blank_p + label_p) - rest_p * (upstream.blank + upstream.label),
    )


def spread_gradients(logits, bias, *, label, blank_index, peak, total, gradients):
    """Gradient of rows of logits: the rest's is shared out among its symbols in proportion to their probabilities.

    Args:
      logits: [R, V], without the bias.
      bias: [V].
      label: [R] int32, V where there is none.
      blank_index: int.
      peak: [R], of the Summary.
      total: [R], of the Summary.
      gradients: LogitGradients of [R]; a row where all three are 0 gets 0, whatever its logits are.

    Returns:
      [R, V], in the logits' dtype.
    """
    scale = tf.math.divide_no_nan(gradients.rest, total)
    symbols = tf.range(tf.shape(logits)[1])
    blank = tf.constant(blank_index)
    return _spread(logits, bias, symbols, label, blank, peak, scale, gradients.blank, gradients.label)


# The range of symbols is an argument: made inside, it keeps XLA on CPU from using vector instructions.
@compiled
def _sum_of_others(logits, bias, symbols, label, peak):
    def exps(part):
        others = _exp(logits[:, part] + bias[part] - peak[:, None])
        return tf.where(symbols[part] == label[:, None], tf.zeros([], logits.dtype), others)

    # XLA adds up a row one number after the other, which takes longer than the exponentials. So columns that are a
    # part apart first, which are vector instructions, and then the few sums. It rounds less, too.
    width = tf.shape(logits)[1] // _PARTS
    parts = tf.add_n([exps(slice(i * width, (i + 1) * width)) for i in range(_PARTS)])
    return tf.reduce_sum(parts, axis=1) + tf.reduce_sum(exps(slice(_PARTS * width, None)), axis=1)


@compiled
def _peak_of_others(logits, bias, symbols, label):
    bottom = tf.constant(NEGATIVE_INFINITY, logits.dtype)
    others = tf.where(symbols == label[:, None], bottom, at_least(logits + bias, bottom))
    peak = tf.reduce_max(others, axis=1)
    return peak, tf.reduce_sum(_exp(others - peak[:, None]), axis=1)


@compiled
def _spread(logits, bias, symbols, label, blank_index, peak, scale, to_blank, to_label):
    gradient = tf.exp(tf.cast(logits, peak.dtype) + bias - peak[:, None]) * scale[:, None]
    gradient = tf.where(symbols == label[:, None], to_label[:, None], gradient)
    gradient = tf.where(symbols == blank_index, to_blank[:, None], gradient)
    used = (scale != 0.0) | (to_blank != 0.0) | (to_label != 0.0)
    return tf.cast(tf.where(used[:, None], gradient, tf.zeros([], peak.dtype)), logits.dtype)


_SMALL = 1e-20
_PARTS = 16


def _exp(x):
    """NaN of NaN, which XLA's own exp on CPU turns into a number."""
    return poison(tf.exp(x), tf.math.is_nan(x))


def _log_sum_exp_of_three(a, b, c):
    """Exact also when one of the three holds nearly all: log1p of the two smaller ones."""
    low, high = tf.minimum(a, b), tf.maximum(a, b)
    largest, middle, smallest = tf.maximum(high, c), tf.maximum(low, tf.minimum(high, c)), tf.minimum(low, c)
    return largest + tf.math.log1p(tf.exp(middle - largest) + tf.exp(smallest - largest))
