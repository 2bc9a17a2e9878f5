"""The fused primitive: from the joint network's two inputs to three numbers per node, never holding [B, T, U+1, V].

The lattice is worked through in slices of frames. Forward keeps five numbers a node (the three log-probabilities and
two statistics of the rest); backward recomputes a slice's joint and multiplies its gradient back: four matrix products
in all. Slices have static size and their number follows the longest utterance, so XLA compiles one program per shape.
"""

import functools

import tensorflow as tf

from tf_rnnt_kd.lattice import symbols
from tf_rnnt_kd.lattice.logits import check_labels, next_label, resolve_blank
from tf_rnnt_kd.lattice.nodes import NodeLogProbs, dimension, label_arc_mask, lattice_float, mask_nodes

_ACTIVATIONS = {  # name: (function, derivative as a function of the output)
    "tanh": (tf.tanh, lambda h: 1.0 - h * h),
    "relu": (tf.nn.relu, lambda h: tf.cast(h > 0, h.dtype)),
    "sigmoid": (tf.sigmoid, lambda h: h * (1.0 - h)),
    "linear": (tf.identity, tf.ones_like),
}


def node_log_probs(
    encoder,
    predictor,
    kernel,
    bias,
    *,
    labels,
    logit_lengths,
    label_lengths,
    blank_index=0,
    activation="tanh",
    max_slice_elements=2**20,
):
    """NodeLogProbs of logits(t, u) = activation(encoder_t + predictor_u) @ kernel + bias.

    Args:
      encoder: [B, T, H] any float dtype, encoder output in joint space; padding may hold anything.
      predictor: [B, U+1, H], prediction network output in joint space, the start position first; same about padding.
      kernel: [H, V].
      bias: [V].
      labels: [B, U] int, symbols in [0, V) other than the blank; padding may hold anything.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      blank_index: int in [-V, V).
      activation: 'tanh', 'relu', 'sigmoid' or 'linear'.
      max_slice_elements: how many numbers the largest temporary (rows x max(H, V)) may hold; about eight temporaries
        of this size live at once in the backward pass. At least one frame of the whole batch is worked on at a time.
        Slices that stay in cache are faster on CPU than larger ones.

    Returns:
      NodeLogProbs [B, T, U+1] float32 (float64 if `encoder` is). Differentiable once with respect to encoder,
      predictor, kernel and bias; each gradient comes in its input's dtype and is computed in float32 or float64.

    Raises:
      ValueError: if static shapes do not fit or the activation is unknown.
    """
    encoder, predictor, kernel, bias = (tf.convert_to_tensor(x) for x in (encoder, predictor, kernel, bias))
    labels = tf.cast(labels, tf.int32)
    _check_shapes(encoder, predictor, kernel, bias, labels)
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is not one of {', '.join(sorted(_ACTIVATIONS))}")
    check_labels(labels, num_positions=predictor.shape[1])
    blank_index = resolve_blank(blank_index, kernel.shape[1])
    encoder = lattice_float(encoder)
    predictor, kernel, bias = (tf.cast(x, encoder.dtype) for x in (predictor, kernel, bias))

    num_frames, num_positions = dimension(encoder, 1), dimension(predictor, 1)
    logit_lengths, label_lengths = tf.cast(logit_lengths, tf.int32), tf.cast(label_lengths, tf.int32)
    frame_exists = tf.sequence_mask(logit_lengths, num_frames)[..., None]
    position_exists = tf.sequence_mask(label_lengths + 1, num_positions)[..., None]
    encoder = tf.where(frame_exists, encoder, tf.zeros_like(encoder))
    predictor = tf.where(position_exists, predictor, tf.zeros_like(predictor))
    has_label = label_arc_mask(logit_lengths, label_lengths, num_frames=1, num_positions=num_positions)[:, 0]
    label = tf.where(has_label, next_label(labels, num_symbols=kernel.shape[1]), kernel.shape[1])

    # A loop that was traced outside XLA does not compile inside it, so only eager calls share their traces.
    make = _make if tf.inside_function() else _make_once
    forward, backward = make(blank_index, activation, int(max_slice_elements), encoder.dtype)
    # XLA turns the trip count into a loop bound; frames past the longest utterance cost nothing.
    longest = tf.reduce_max(logit_lengths)

    @tf.custom_gradient
    def run(encoder, predictor, kernel, bias):
        *nodes, peak, total = forward(encoder, predictor, kernel, bias, label, longest)
        for x in (*nodes, peak, total):
            x.set_shape([encoder.shape[0], encoder.shape[1], predictor.shape[1]])

        def gradient(*upstream):
            return backward(encoder, predictor, kernel, bias, label, longest, *nodes, peak, total, *upstream)

        return tuple(nodes), gradient

    nodes = NodeLogProbs(*run(encoder, predictor, kernel, bias))
    return mask_nodes(nodes, logit_lengths=logit_lengths, label_lengths=label_lengths)


def _make(blank_index, activation, max_slice_elements, dtype):
    """(forward, backward) traced once for all shapes; inside a compiled step their shapes are static nevertheless."""
    function, derivative = _ACTIVATIONS[activation]
    sequence, matrix, vector = (tf.TensorSpec([None] * rank, dtype) for rank in (3, 2, 1))
    inputs = [sequence, sequence, matrix, vector, tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)]

    def joint_slice(encoder, predictor, kernel, bias):
        hidden = function(encoder[:, :, None, :] + predictor[:, None, :, :])
        rows = tf.reshape(hidden, [-1, tf.shape(hidden)[3]])
        logits = tf.matmul(rows, kernel) + bias
        return rows, tf.reshape(logits, tf.concat([tf.shape(hidden)[:3], [tf.shape(kernel)[1]]], 0))

    @tf.function(input_signature=inputs, autograph=False)
    def forward(encoder, predictor, kernel, bias, label, longest):
        slices = _Slices(encoder, predictor, kernel, max_slice_elements)

        padded = slices.pad(encoder)

        def body(i, arrays):
            _, logits = joint_slice(slices.take(padded, i), predictor, kernel, bias)
            nodes, rest = symbols.collapse(logits, label=slices.spread(label), blank_index=blank_index)
            return i + 1, tuple(array.write(i, x) for array, x in zip(arrays, (*nodes, *rest), strict=True))

        arrays = tuple(slices.array(dtype) for _ in range(5))
        arrays = slices.loop(body, arrays, longest)
        return tuple(slices.join(array) for array in arrays)

    @tf.function(input_signature=inputs + [sequence] * 8, autograph=False)
    def backward(encoder, predictor, kernel, bias, label, longest, *per_node):
        slices = _Slices(encoder, predictor, kernel, max_slice_elements)
        padded_encoder, padded = slices.pad(encoder), [slices.pad(x) for x in per_node]

        def body(i, carry):
            to_encoder, to_predictor, to_kernel, to_bias = carry
            rows, logits = joint_slice(slices.take(padded_encoder, i), predictor, kernel, bias)
            here = [slices.take(x, i) for x in padded]
            to_logits = symbols.collapse_gradient(
                logits,
                label=slices.spread(label),
                blank_index=blank_index,
                nodes=NodeLogProbs(*here[:3]),
                rest=symbols.RestStatistics(*here[3:5]),
                upstream=NodeLogProbs(*here[5:]),
            )
            to_logits = tf.reshape(to_logits, [-1, tf.shape(kernel)[1]])
            to_kernel += tf.matmul(rows, to_logits, transpose_a=True)
            to_bias += tf.reduce_sum(to_logits, axis=0)
            to_sum = tf.matmul(to_logits, kernel, transpose_b=True) * derivative(rows)
            to_sum = tf.reshape(to_sum, tf.concat([tf.shape(logits)[:3], [tf.shape(kernel)[0]]], 0))
            to_encoder = to_encoder.write(i, tf.reduce_sum(to_sum, axis=2))
            to_predictor += tf.reduce_sum(to_sum, axis=1)
            return i + 1, (to_encoder, to_predictor, to_kernel, to_bias)

        carry = (slices.array(dtype), tf.zeros_like(predictor), tf.zeros_like(kernel), tf.zeros_like(bias))
        to_encoder, *others = slices.loop(body, carry, longest)
        return (slices.join(to_encoder), *others)

    return forward, backward


_make_once = functools.cache(_make)


class _Slices:
    """Cuts the frame axis into equal slices that hold at most max_slice_elements numbers per [rows, max(H, V)]."""

    def __init__(self, encoder, predictor, kernel, max_slice_elements):
        self.batch, self.num_frames = tf.shape(encoder)[0], tf.shape(encoder)[1]
        self.num_positions = tf.shape(predictor)[1]
        # In floating point: the product may exceed int32.
        per_frame = tf.cast(self.batch * self.num_positions, tf.float64) * tf.cast(
            tf.reduce_max(tf.shape(kernel)), tf.float64
        )
        frames = tf.cast(tf.maximum(tf.floor(max_slice_elements / tf.maximum(per_frame, 1.0)), 1.0), tf.int32)
        count = tf.maximum(-(-self.num_frames // frames), 1)
        self.frames = -(-self.num_frames // count)  # equal slices: at most count - 1 frames of padding
        self.count = count

    def pad(self, x):
        return tf.pad(x, [[0, 0], [0, self.count * self.frames - self.num_frames], [0, 0]])

    def take(self, padded, i):
        return tf.slice(padded, [0, i * self.frames, 0], [self.batch, self.frames, tf.shape(padded)[2]])

    def spread(self, label):
        return tf.broadcast_to(label[:, None, :], [self.batch, self.frames, self.num_positions])

    def array(self, dtype):
        return tf.TensorArray(dtype, size=self.count, element_shape=[None, None, None])

    def loop(self, body, carry, longest):
        live = (longest + self.frames - 1) // tf.maximum(self.frames, 1)
        return tf.while_loop(lambda i, _: i < live, body, (0, carry), parallel_iterations=1)[1]

    def join(self, array):
        joined = tf.transpose(array.stack(), [1, 0, 2, 3])
        merged = tf.reshape(joined, [self.batch, self.count * self.frames, tf.shape(joined)[3]])
        return merged[:, : self.num_frames]


def _check_shapes(encoder, predictor, kernel, bias, labels):
    ranks = (encoder.shape.rank, predictor.shape.rank, kernel.shape.rank, bias.shape.rank, labels.shape.rank)
    width = {x for x in (encoder.shape[-1], predictor.shape[-1], kernel.shape[0]) if x is not None}
    if ranks != (3, 3, 2, 1, 2) or len(width) > 1 or not kernel.shape[1:].is_compatible_with(bias.shape):
        raise ValueError(
            "expected encoder [B, T, H], predictor [B, U+1, H], kernel [H, V], bias [V], labels [B, U], got "
            f"{encoder.shape}, {predictor.shape}, {kernel.shape}, {bias.shape}, {labels.shape}"
        )
