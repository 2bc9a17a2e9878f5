"""Scans over the lattice, one anti-diagonal d = t + u at a time, alpha and beta stacked on the batch axis.

Both directions become the same recursion by flipping the lattice in t and u for beta and by attaching every arc's
weight to the node that it enters:

    state(t, u) = logaddexp(state(t-1, u) + by_blank(t, u), state(t, u-1) + by_label(t, u)),  state(start) = 0.

The grid has T+1 rows: row T_b holds the end node (T_b, U_b), which the final blank enters. Skewing (pad, reshape) lays
diagonal d into row d, so that a step reads one row. The state is float64: occupancies are differences of scores that
grow with T + U, and the scan costs little beside the joint.
"""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import NEGATIVE_INFINITY


class Arcs(NamedTuple):
    """Per arc values on the padded lattice, [B, T, U+1] float64, of the arcs that leave node (t, u)."""

    blank: tf.Tensor
    label: tf.Tensor


def path_scores(arcs, logit_lengths, label_lengths):
    """Forward and backward scores.

    Args:
      arcs: Arcs of log weights, NEGATIVE_INFINITY where there is no arc.
      logit_lengths: [B] int32.
      label_lengths: [B] int32.

    Returns:
      alpha, beta [B, T+1, U+1]: log weight of all paths from (0, 0) to (t, u) and from (t, u) to the end
      (T_b, U_b); at or below IMPOSSIBLE where there is none.
    """
    batch = tf.shape(arcs.blank)[0]
    stacked = _alpha_scan(*_both_directions(arcs, NEGATIVE_INFINITY), *_starts(arcs, logit_lengths, label_lengths))
    return _split(stacked, batch)


def path_moments(arcs, values, logit_lengths, label_lengths):
    """As path_scores, and the mean of a sum of arc values over the partial paths (first-order expectation semiring).

    Args:
      arcs: Arcs of log weights.
      values: Arcs of finite values.
      logit_lengths: [B] int32.
      label_lengths: [B] int32.

    Returns:
      alpha, beta, alpha_mean, beta_mean: [B, T+1, U+1] each; a mean is that of the values' sum along the paths that
      alpha or beta sum over, weighted by the paths' weights.
    """
    batch = tf.shape(arcs.blank)[0]
    scores, means = _moment_scan(
        *_both_directions(arcs, NEGATIVE_INFINITY),
        *_both_directions(values, 0.0),
        *_starts(arcs, logit_lengths, label_lengths),
    )
    return (*_split(scores, batch), *_split(means, batch))


def skew(x):
    """[B, R, C] -> [R + C - 1, B, C]: row d holds the entries (d - c, c); the corners hold entries of no meaning."""
    batch, rows, columns = tf.unstack(tf.shape(x))
    x = tf.pad(tf.transpose(x, [0, 2, 1]), [[0, 0], [0, 0], [0, columns]])
    x = tf.reshape(x, [batch, columns * (rows + columns)])[:, : columns * (rows + columns - 1)]
    return tf.transpose(tf.reshape(x, [batch, columns, rows + columns - 1]), [2, 0, 1])


def unskew(x):
    """[R + C - 1, B, C] -> [B, R, C], the inverse of skew."""
    diagonals, batch, columns = tf.unstack(tf.shape(x))
    x = tf.reshape(tf.transpose(x, [1, 2, 0]), [batch, columns * diagonals])
    x = tf.reshape(tf.pad(x, [[0, 0], [0, columns]]), [batch, columns, diagonals + 1])
    return tf.transpose(x[:, :, : diagonals + 1 - columns], [0, 2, 1])


def entering(arcs, fill):
    """Arc values [B, T, U+1] moved to the nodes that the arcs enter: two [B, T+1, U+1], `fill` where none enters."""
    by_blank = tf.pad(arcs.blank, [[0, 0], [1, 0], [0, 0]], constant_values=tf.cast(fill, arcs.blank.dtype))
    by_label = tf.pad(arcs.label[:, :, :-1], [[0, 0], [0, 1], [1, 0]], constant_values=tf.cast(fill, arcs.label.dtype))
    return by_blank, by_label


def log_add(a, b):
    """log(exp(a) + exp(b)) of finite numbers."""
    return tf.maximum(a, b) + tf.math.log1p(tf.exp(-tf.abs(a - b)))


def shift_right(x):
    """[..., C] -> [..., C], entry c becomes entry c + 1; NEGATIVE_INFINITY comes in."""
    bottom = tf.fill(tf.concat([tf.shape(x)[:-1], [1]], 0), tf.constant(NEGATIVE_INFINITY, x.dtype))
    return tf.concat([bottom, x[..., :-1]], axis=-1)


def _both_directions(arcs, fill):
    """Skewed arc values for alpha (rows 0..B-1 of the batch) and for beta (the rest), [D, 2B, U+1] each."""
    forward = entering(arcs, fill)
    # Flipped, an arc leaving (t, u) enters the flipped (t, u); no arc leaves row T.
    leaving = [tf.pad(x, [[0, 0], [0, 1], [0, 0]], constant_values=tf.cast(fill, x.dtype)) for x in arcs]
    return tuple(skew(tf.concat([f, tf.reverse(x, [1, 2])], 0)) for f, x in zip(forward, leaving, strict=True))


def _starts(arcs, logit_lengths, label_lengths):
    """Diagonal and column [2B] of the start node, whose score is 0: (0, 0) for alpha, the flipped end for beta."""
    num_frames, num_positions = tf.shape(arcs.blank)[1], tf.shape(arcs.blank)[2]
    rows, columns = num_frames - logit_lengths, num_positions - 1 - label_lengths
    zero = tf.zeros_like(logit_lengths)
    return tf.concat([zero, rows + columns], 0), tf.concat([zero, columns], 0)


def _split(stacked, batch):
    """[D, 2B, U+1] -> for alpha and beta [B, T+1, U+1] in the lattice's own order."""
    both = unskew(stacked)
    return both[:batch], tf.reverse(both[batch:], [1, 2])


_SKEWED = tf.TensorSpec([None, None, None], tf.float64)
_START = tf.TensorSpec([None], tf.int32)


@tf.function(input_signature=[_SKEWED, _SKEWED, _START, _START], autograph=False)
def _alpha_scan(by_blank, by_label, start_diagonal, start_column):
    diagonals, batch, columns = tf.unstack(tf.shape(by_blank))
    at_start_column = tf.range(columns)[None, :] == start_column[:, None]

    def body(d, state, history):
        state = log_add(state + by_blank[d], shift_right(state) + by_label[d])
        state = tf.where(at_start_column & (start_diagonal == d)[:, None], tf.zeros([], state.dtype), state)
        return d + 1, state, history.write(d, state)

    state = tf.fill([batch, columns], tf.constant(NEGATIVE_INFINITY, tf.float64))
    history = tf.TensorArray(tf.float64, size=diagonals, element_shape=[None, None])
    return tf.while_loop(lambda d, *_: d < diagonals, body, (0, state, history), parallel_iterations=1)[2].stack()


@tf.function(input_signature=[_SKEWED] * 4 + [_START, _START], autograph=False)
def _moment_scan(by_blank, by_label, blank_value, label_value, start_diagonal, start_column):
    diagonals, batch, columns = tf.unstack(tf.shape(by_blank))
    at_start_column = tf.range(columns)[None, :] == start_column[:, None]

    def body(d, state, mean, scores, means):
        via_blank, via_label = state + by_blank[d], shift_right(state) + by_label[d]
        share = tf.sigmoid(via_blank - via_label)
        label_mean = tf.pad(mean[:, :-1], [[0, 0], [1, 0]]) + label_value[d]
        mean = share * (mean + blank_value[d]) + (1.0 - share) * label_mean
        state = log_add(via_blank, via_label)
        start = at_start_column & (start_diagonal == d)[:, None]
        state, mean = (tf.where(start, tf.zeros([], x.dtype), x) for x in (state, mean))
        return d + 1, state, mean, scores.write(d, state), means.write(d, mean)

    state = tf.fill([batch, columns], tf.constant(NEGATIVE_INFINITY, tf.float64))
    arrays = [tf.TensorArray(tf.float64, size=diagonals, element_shape=[None, None]) for _ in range(2)]
    carry = (0, state, tf.zeros_like(state), *arrays)
    *_, scores, means = tf.while_loop(lambda d, *_: d < diagonals, body, carry, parallel_iterations=1)
    return scores.stack(), means.stack()
