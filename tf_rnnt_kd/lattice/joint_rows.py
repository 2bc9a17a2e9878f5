"""The joint network on a slice of nodes, forward and back: rows [size, H] before the last layer, [size, V] after it.

Everywhere `joint` is a Joint whose encoder and predictor are tables [N, H], `rows.tables`, and `node` [size] are the
nodes of a slice, `Rows.nodes`.
"""

import tensorflow as tf

from tf_rnnt_kd.lattice import factorised
from tf_rnnt_kd.lattice.rows import compiled

ACTIVATIONS = {  # name: (function, derivative as a function of the output)
    "tanh": (tf.tanh, lambda h: 1.0 - h * h),
    "relu": (tf.nn.relu, lambda h: tf.cast(h > 0, h.dtype)),
    "sigmoid": (tf.sigmoid, lambda h: h * (1.0 - h)),
    "linear": (tf.identity, tf.ones_like),
}
COMBINATIONS = {"add": tf.add, "multiply": tf.multiply}


def hidden_rows(joint, rows, node):
    """activation(encoder_t + predictor_u), or of the product, [size, H]."""
    function = _COMPILED_ACTIVATIONS[joint.combination, joint.activation]
    return function(joint.encoder, joint.predictor, rows.frame(node), rows.position(node))


def logit_rows(joint, hidden):
    """[size, V]; TensorFlow fuses product and bias."""
    return tf.nn.bias_add(tf.matmul(hidden, joint.kernel), joint.bias)


def distribution_rows(joint, hidden):
    """Rows whose softmax is the nodes' distribution, and how a gradient gets back from them.

    Returns:
      [size, V], and a function: the gradient of these rows (of something that depends on their softmax alone) -> the
      gradient of the logits, both [size, V].
    """
    logits = logit_rows(joint, hidden)
    if not joint.factorised_blank:
        return logits, lambda gradient: gradient
    log_probs, shares = factorised.log_prob_rows(logits, blank_index=joint.blank_index)
    return log_probs, lambda gradient: factorised.gradient_rows(gradient, shares, blank_index=joint.blank_index)


def back_through_joint(joint, rows, node, hidden, to_logits):
    """Gradients of a slice: to kernel [H, V], to bias [V], and to the rows of (encoder, predictor), [size, H] each."""
    to_kernel = tf.matmul(hidden, to_logits, transpose_a=True)
    # A product is faster than a sum over rows; in eight parts, it rounds as little.
    parts = tf.one_hot(tf.range(tf.shape(hidden)[0]) % 8, 8, axis=0, dtype=hidden.dtype)
    to_bias = tf.reduce_sum(tf.matmul(parts, to_logits), axis=0)
    to_hidden = tf.matmul(to_logits, joint.kernel, transpose_b=True)
    to_rows = _COMPILED_DERIVATIVES[joint.activation](to_hidden, hidden)
    if joint.combination == "add":
        return to_kernel, to_bias, (to_rows, to_rows)
    others = joint.encoder, joint.predictor, rows.frame(node), rows.position(node)
    return to_kernel, to_bias, _back_through_product(to_rows, *others)


def _activation_of(combination, function):
    return compiled(
        lambda e, p, frame, position: function(combination(tf.gather(e, frame), tf.gather(p, position)))
    )


def _times_derivative(derivative):
    return compiled(lambda gradient, hidden: gradient * derivative(hidden))


@compiled
def _back_through_product(gradient, encoder, predictor, frame, position):
    return gradient * tf.gather(predictor, position), gradient * tf.gather(encoder, frame)


_COMPILED_ACTIVATIONS = {
    (combination, name): _activation_of(combine, function)
    for combination, combine in COMBINATIONS.items()
    for name, (function, _) in ACTIVATIONS.items()
}
_COMPILED_DERIVATIVES = {name: _times_derivative(derivative) for name, (_, derivative) in ACTIVATIONS.items()}
