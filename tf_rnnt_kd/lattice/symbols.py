"""From V logits of a node to its three log-probabilities, and the gradient back. Shared by every way to make nodes."""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import NEGATIVE_INFINITY, NodeLogProbs, dimension


class RestStatistics(NamedTuple):
    """What the backward pass keeps of a node, so that symbols' shares of the rest are exact for logits of any size.

    peak: [...] largest logit among the other symbols.
    total: [...] sum of exp(logit - peak) over them, at least 1.
    """

    peak: tf.Tensor
    total: tf.Tensor


def collapse(logits, *, label, blank_index):
    """Three log-probabilities of each node.

    The mass of the other symbols is their own log-sum-exp, and the three are normalised by differences, so nothing
    cancels: neither for a confident model (1 - p would be 0) nor for logits of magnitude 1e4.

    Args:
      logits: [..., V] float; -inf is allowed.
      label: [...] int32, the next label's symbol, V where there is none.
      blank_index: int.

    Returns:
      (NodeLogProbs of [...], RestStatistics of [...]).
    """
    bottom = tf.constant(NEGATIVE_INFINITY, logits.dtype)
    num_symbols = dimension(logits, -1)
    logits = tf.maximum(logits, bottom)
    blank_logit = logits[..., blank_index]
    picked = tf.gather(logits, tf.minimum(label, num_symbols - 1), batch_dims=label.shape.rank)
    label_logit = tf.where(label < num_symbols, picked, bottom)

    others = tf.where(_is_special(label, num_symbols, blank_index), bottom, logits)
    peak = tf.reduce_max(others, axis=-1)
    total = tf.reduce_sum(tf.exp(others - peak[..., None]), axis=-1)

    top = tf.maximum(tf.maximum(blank_logit, label_logit), peak)
    blank, label_, rest = blank_logit - top, label_logit - top, (peak - top) + tf.math.log(total)
    normaliser = _log_sum_exp_of_three(blank, label_, rest)
    nodes = NodeLogProbs(*(tf.maximum(x - normaliser, bottom) for x in (blank, label_, rest)))
    return nodes, RestStatistics(peak, total)


def collapse_gradient(logits, *, label, blank_index, nodes, rest, upstream):
    """Gradient of `collapse` with respect to the logits.

    With p the three probabilities and g the upstream gradients, the gradient of the group i as a whole is
    g_i (1 - p_i) - p_i (sum of the other g), 1 - p_i being the sum of the other two; the group `rest` is shared out
    among its symbols in proportion to their probabilities.

    Args:
      logits: [..., V].
      label: [...] int32, V where there is none.
      blank_index: int.
      nodes: what `collapse` returned.
      rest: what `collapse` returned.
      upstream: NodeLogProbs of [...], gradients; 0 at arcs that do not exist.

    Returns:
      [..., V].
    """
    num_symbols = dimension(logits, -1)
    blank_p, label_p, rest_p = (tf.exp(x) for x in nodes)
    to_blank = upstream.blank * (label_p + rest_p) - blank_p * (upstream.label + upstream.rest)
    to_label = upstream.label * (blank_p + rest_p) - label_p * (upstream.blank + upstream.rest)
    to_rest = upstream.rest * (blank_p + label_p) - rest_p * (upstream.blank + upstream.label)
    # Both bounds hold anyway where a node exists; they keep 0 * inf out of slices' padding, where nothing was computed.
    scale = to_rest / tf.maximum(rest.total, 1.0)
    exponent = tf.minimum(tf.maximum(logits, NEGATIVE_INFINITY) - rest.peak[..., None], 0.0)
    symbols = tf.range(num_symbols)
    gradient = tf.where(symbols == label[..., None], to_label[..., None], tf.exp(exponent) * scale[..., None])
    return tf.where(symbols == blank_index, to_blank[..., None], gradient)


def _is_special(label, num_symbols, blank_index):
    symbols = tf.range(num_symbols)
    return (symbols == blank_index) | (symbols == label[..., None])


def _log_sum_exp_of_three(a, b, c):
    """Exact also when one of the three holds nearly all: log1p of the two smaller ones."""
    low, high = tf.minimum(a, b), tf.maximum(a, b)
    largest, middle, smallest = tf.maximum(high, c), tf.maximum(low, tf.minimum(high, c)), tf.minimum(low, c)
    return largest + tf.math.log1p(tf.exp(middle - largest) + tf.exp(smallest - largest))
