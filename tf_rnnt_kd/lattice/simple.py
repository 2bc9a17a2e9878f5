"""The simple joiner of pruned RNN-T (Kuang et al. 2022, arXiv 2206.13236): logits(t, u) = am_t + lm_u."""

import functools

import tensorflow as tf

from tf_rnnt_kd.lattice.logits import check_labels, next_label, node_log_probs_from_logits, resolve_blank
from tf_rnnt_kd.lattice.nodes import (
    IMPOSSIBLE,
    NEGATIVE_INFINITY,
    NodeLogProbs,
    at_least,
    dimension,
    lattice_float,
    mask_nodes,
)
from tf_rnnt_kd.lattice.tensors import TensorLike


def simple_nodes(
    am: TensorLike,
    lm: TensorLike,
    *,
    labels: TensorLike,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    blank_index: int = 0,
    lm_only_scale: float = 0.0,
    am_only_scale: float = 0.0,
) -> NodeLogProbs:
    """NodeLogProbs of logits(t, u) = am_t + lm_u, without a [B, T, U+1, V] tensor.

    A node's label depends on u alone, so the mass of the other symbols is a product of matrices, exp(am) exp(lm)^T with
    lm's entries for blank and y_{u+1} left out: no difference is taken. The factors' peaks over these symbols are taken
    out; where every one of them lies some 87 nats (708 in float64) below the sum of both peaks, their mass is 0.

    Smoothing (as published) replaces the arcs' log-probabilities by a weighted mean, not normalised again, of those of
    three models: am + lm, lm alone, and am + log(unigram), the unigram being the mean of softmax(lm) over all positions
    of the batch:

        (1 - lm_only_scale - am_only_scale) log p + lm_only_scale log p_lm(. | u) + am_only_scale log p_am(. | t)

    `rest` is then all the mass that blank and label leave, what the mean has lost included.

    Args:
      am: [B, T, V] any float dtype, the encoder's output projected to symbols; padding may hold anything.
      lm: [B, U+1, V], the prediction network's output projected to symbols, the start position first; same about
        padding.
      labels: [B, U] int, symbols in [0, V) other than the blank; padding may hold anything.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      blank_index: int in [-V, V).
      lm_only_scale: float >= 0; the published recipe has 0.25.
      am_only_scale: float >= 0; the published recipe has 0. Above 0 the unigram lets batch mates change an utterance's
        numbers. The two scales may add up to 1.

    Returns:
      NodeLogProbs [B, T, U+1] float32 (float64 if `am` is); the three masses sum to 1. Differentiable once with respect
      to am and lm.

    Raises:
      ValueError: if static shapes do not fit or a scale is out of range.
    """
    am, lm, labels = lattice_float(am), tf.convert_to_tensor(lm), tf.cast(labels, tf.int32)
    _check(am, lm, labels, lm_only_scale, am_only_scale)
    blank_index = resolve_blank(blank_index, am.shape[2])
    logit_lengths, label_lengths = tf.cast(logit_lengths, tf.int32), tf.cast(label_lengths, tf.int32)
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    position_exists = tf.sequence_mask(label_lengths + 1, dimension(lm, 1))
    am = _clean(am, tf.sequence_mask(logit_lengths, dimension(am, 1)))
    lm = _clean(tf.cast(lm, am.dtype), position_exists)
    nodes = _joined(am, lm, labels, blank_index, lengths)
    if not lm_only_scale and not am_only_scale:
        return nodes

    parts = [_scaled(nodes, 1.0 - lm_only_scale - am_only_scale)]
    if lm_only_scale:  # one frame, the same for all
        frame = {"logit_lengths": tf.ones_like(logit_lengths), "label_lengths": label_lengths}
        alone = node_log_probs_from_logits(lm[:, None], labels=labels, blank_index=blank_index, **frame)
        parts.append(_scaled(alone, lm_only_scale))
    if am_only_scale:
        unigram = tf.broadcast_to(_log_unigram(lm, position_exists), tf.shape(lm))
        unigram.set_shape(lm.shape)
        parts.append(_scaled(_joined(am, unigram, labels, blank_index, lengths), am_only_scale))
    blank, label, rest = (functools.reduce(tf.add, group) for group in zip(*parts, strict=True))
    # The three models' rests give a bound that holds what rounding takes from the difference.
    return mask_nodes(NodeLogProbs(blank, label, tf.maximum(_log_remainder(blank, label), rest)), **lengths)


def _check(am, lm, labels, lm_only_scale, am_only_scale):
    ranks = (am.shape.rank, lm.shape.rank, labels.shape.rank)
    if ranks != (3, 3, 2) or not am.shape[2:].is_compatible_with(lm.shape[2:]):
        raise ValueError(
            f"expected am [B, T, V], lm [B, U+1, V], labels [B, U], got {am.shape}, {lm.shape}, {labels.shape}"
        )
    check_labels(labels, num_positions=lm.shape[1])
    if min(lm_only_scale, am_only_scale) < 0 or lm_only_scale + am_only_scale > 1:
        raise ValueError(
            f"lm_only_scale={lm_only_scale} and am_only_scale={am_only_scale} must be >= 0 and add up to at most 1"
        )


def _clean(x, exists):
    """No -inf, and 0 in the padding."""
    return tf.where(exists[..., None], at_least(x, tf.constant(NEGATIVE_INFINITY, x.dtype)), tf.zeros([], x.dtype))


def _scaled(nodes, scale):
    return NodeLogProbs(*(scale * x for x in nodes))


def _joined(am, lm, labels, blank_index, lengths):
    """NodeLogProbs of am + lm, both clean."""
    num_symbols, bottom = am.shape[2], tf.constant(NEGATIVE_INFINITY, am.dtype)
    has_label = tf.sequence_mask(lengths["label_lengths"], dimension(lm, 1))
    label = tf.where(has_label, next_label(labels, num_symbols=num_symbols), num_symbols)  # [B, U+1]
    is_blank = tf.range(num_symbols) == blank_index
    is_special = is_blank | (tf.range(num_symbols) == label[..., None])

    blank_logit = am[:, :, None, blank_index] + lm[:, None, :, blank_index]
    picked = tf.minimum(label, num_symbols - 1)
    label_logit = tf.gather(am, picked, axis=2, batch_dims=1) + tf.gather(lm, picked, batch_dims=2)[:, None]
    label_logit = tf.where(has_label[:, None], label_logit, bottom)
    rest_logit = _log_product(tf.where(is_blank, bottom, am), tf.where(is_special, bottom, lm))
    # A dense lattice of three symbols: blank, label, any other.
    logits = tf.stack([blank_logit, label_logit, rest_logit], axis=-1)
    return node_log_probs_from_logits(logits, labels=tf.ones_like(labels), **lengths)


def _log_product(am, lm):
    """log of the sum over k of exp(am[t, k] + lm[u, k]), [B, T, U+1]; NEGATIVE_INFINITY where it is 0."""
    am_peak, am = _without_peak(am)
    lm_peak, lm = _without_peak(lm)
    total = tf.matmul(am, lm, transpose_b=True)
    nothing = total <= 0  # and not NaN, which must be seen
    log_total = tf.math.log(tf.where(nothing, tf.ones_like(total), total))
    bottom = tf.constant(NEGATIVE_INFINITY, total.dtype)
    return tf.where(nothing, bottom, log_total + am_peak + tf.transpose(lm_peak, [0, 2, 1]))


def _without_peak(x):
    """[..., V] -> its maximum [..., 1], a constant to gradients, and exp(x - maximum), 0 for probabilities of 0."""
    peak = tf.stop_gradient(tf.reduce_max(x, axis=-1, keepdims=True))
    return peak, tf.where(x <= IMPOSSIBLE, tf.zeros([], x.dtype), tf.exp(x - peak))


def _log_unigram(lm, position_exists):
    """[V] log of the mean of softmax(lm) over the positions that exist."""
    weights = tf.cast(position_exists, lm.dtype)[..., None]
    mean = tf.reduce_sum(weights * tf.nn.softmax(lm), axis=[0, 1]) / tf.maximum(tf.reduce_sum(weights), 1.0)
    return tf.math.log(tf.maximum(mean, mean.dtype.as_numpy_dtype(1e-37)))


def _log_remainder(a, b):
    """log(1 - exp(a) - exp(b)) without forming either probability; NEGATIVE_INFINITY where nothing remains."""
    larger = a >= b  # chosen, not tf.maximum and tf.minimum, whose gradients would both take `a` of two equals
    high, low = tf.where(larger, a, b), tf.where(larger, b, a)
    total = high + tf.math.log1p(tf.exp(low - high))
    remains = total < 0
    remainder = tf.math.log(-tf.math.expm1(tf.where(remains, total, -tf.ones_like(total))))
    return tf.where(remains, remainder, tf.constant(NEGATIVE_INFINITY, total.dtype))
