"""The factorised blank of the hybrid autoregressive transducer (HAT, Variani et al. 2020, arXiv 2003.07705, section 3).

A node's blank logit z_b decides by itself whether a label comes, the other logits which:

    P(blank) = sigmoid(z_b),    P(k) = (1 - P(blank)) exp(z_k) / sum over labels j of exp(z_j).

It is a softmax whose blank logit is z_b + log sum of exp(z_j). So only what makes log-probabilities of logits differs
from `symbols`, and what takes their gradient back; nothing is computed by way of that sum, which would round z_b away
beside large z_j.
"""

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import NEGATIVE_INFINITY, NodeLogProbs, at_least, lattice_float
from tf_rnnt_kd.lattice.rows import compiled
from tf_rnnt_kd.lattice.symbols import LogitGradients
from tf_rnnt_kd.lattice.tensors import TensorLike


def normalise(summary):
    """NodeLogProbs of a symbols.Summary, of the same shape."""
    blank, label, peak, total = summary
    bottom = tf.constant(NEGATIVE_INFINITY, blank.dtype)
    top = tf.maximum(label, peak)
    log_total = tf.where(tf.equal(total, 0.0), bottom, tf.math.log(total))
    label, rest = label - top, (peak - top) + log_total
    emits = -tf.math.softplus(blank) - _log_sum_exp_of_two(label, rest)
    return NodeLogProbs(*(at_least(x, bottom) for x in (-tf.math.softplus(-blank), emits + label, emits + rest)))


def logit_gradients(nodes, upstream):
    """symbols.LogitGradients from the gradients of the three log-probabilities, see symbols.logit_gradients.

    With q the probabilities of label and rest where the blank is not taken, and g the upstream gradients, the label's
    logit gets g_label q_rest - g_rest q_label, the others together the opposite, and the blank's what it gets in a
    softmax.
    """
    blank_p, label_p, rest_p = (tf.exp(x) for x in nodes)
    # From the logarithms: the probabilities themselves may be 0 beside a certain blank.
    emits = _log_sum_exp_of_two(nodes.label, nodes.rest)
    label_q, rest_q = tf.exp(nodes.label - emits), tf.exp(nodes.rest - emits)
    to_label = upstream.label * rest_q - upstream.rest * label_q
    to_blank = upstream.blank * (label_p + rest_p) - blank_p * (upstream.label + upstream.rest)
    return LogitGradients(to_blank, to_label, -to_label)


def factorised_log_probs(logits: TensorLike, *, blank_index: int = 0) -> tf.Tensor:
    """Log-probabilities of logits with a factorised blank; softmax and argmax of logits do not apply to these.

    Args:
      logits: [..., V] any float dtype, need not be normalised.
      blank_index: int in [0, V).

    Returns:
      [..., V] float32 (float64 for float64 logits), natural log, normalised. Differentiable.
    """
    return _log_probs(lattice_float(logits), _symbols(logits), tf.constant(blank_index))[0]


def log_prob_rows(logits, *, blank_index):
    """Logits [R, V] -> (`factorised_log_probs` [R, V], probabilities of the labels where no blank is taken [R, V])."""
    return _compiled_log_probs(logits, _symbols(logits), tf.constant(blank_index))


def gradient_rows(gradient, shares, *, blank_index):
    """Gradient [R, V] of the logits from that of their log-probabilities as logits of a softmax.

    The rows of `gradient` sum to 0, as those of all functions of a softmax do; `shares` are from `log_prob_rows`.
    """
    return _compiled_gradient(gradient, shares, _symbols(gradient), tf.constant(blank_index))


def _symbols(logits):
    return tf.range(tf.shape(logits)[-1])


def _log_probs(logits, symbols, blank_index):
    is_blank = symbols == blank_index
    blank = tf.gather(logits, blank_index, axis=-1)[..., None]
    # Chosen, not multiplied by 0: a gradient goes neither from the blank's column to the labels nor back.
    labels = tf.nn.log_softmax(tf.where(is_blank, tf.constant(NEGATIVE_INFINITY, logits.dtype), logits))
    log_probs = tf.where(is_blank, -tf.math.softplus(-blank), labels - tf.math.softplus(blank))
    return log_probs, tf.exp(labels)


_compiled_log_probs = compiled(_log_probs)


@compiled
def _compiled_gradient(gradient, shares, symbols, blank_index):
    to_blank = tf.gather(gradient, blank_index, axis=1)[:, None]
    return tf.where(symbols == blank_index, to_blank, gradient + shares * to_blank)


def _log_sum_exp_of_two(a, b):
    low, high = tf.minimum(a, b), tf.maximum(a, b)
    return high + tf.math.log1p(tf.exp(low - high))
