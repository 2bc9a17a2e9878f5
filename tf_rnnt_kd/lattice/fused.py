"""The fused primitive: from the joint network's two inputs to three numbers per node, never holding [B, T, U+1, V].

Forward works through the nodes in slices and keeps five numbers of each. Backward is handed the gradients of the three
log-probabilities, knows from them how large the gradient of the node's logits will be, leaves out the nodes where it is
negligible, recomputes the joint of the others and multiplies back: for an RNN-T loss most nodes drop out, since a
node's gradient is bounded by its posterior.
"""

import functools

import tensorflow as tf

from tf_rnnt_kd.lattice import factorised, joint_rows, symbols
from tf_rnnt_kd.lattice import rows as lattice_rows
from tf_rnnt_kd.lattice.joint import Joint, is_broken, prepare
from tf_rnnt_kd.lattice.logits import check_labels, next_label, resolve_blank
from tf_rnnt_kd.lattice.nodes import (
    NEGATIVE_INFINITY,
    NodeLogProbs,
    dimension,
    label_arc_mask,
    mask_nodes,
    node_mask,
    poison,
)
from tf_rnnt_kd.lattice.pruning import Band, band_mask
from tf_rnnt_kd.lattice.tensors import TensorLike

DEFAULT_LIVE_THRESHOLD = 2e-7


def node_log_probs(
    encoder: TensorLike,
    predictor: TensorLike,
    kernel: TensorLike,
    bias: TensorLike,
    *,
    labels: TensorLike,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    blank_index: int = 0,
    activation: str = "tanh",
    combination: str = "add",
    factorised_blank: bool = False,
    band: Band | None = None,
    live_threshold: float | None = None,
    rows_per_slice: int | None = None,
) -> NodeLogProbs:
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
      combination: 'add', or 'multiply' for activation(encoder_t * predictor_u).
      factorised_blank: bool, False for a softmax over the logits, True for a blank apart from it, see lattice.Joint.
      band: lattice.Band of the only nodes to compute, or None for all.
      live_threshold: the backward pass leaves out nodes whose logits' gradient (sum of absolute values) is at most
        this share of the largest in the utterance. 0 leaves out nodes without any gradient only. None: 2e-7, in
        float64 0.
      rows_per_slice: nodes that are worked on at a time, their [rows, V] logits being the largest temporary; None:
        3072 in the forward and 1024 in the backward pass, fewer for V or H above 1024.

    Returns:
      NodeLogProbs [B, T, U+1] float32 (float64 if `encoder` is). Differentiable once with respect to encoder,
      predictor, kernel and bias; each gradient comes in its input's dtype and is computed in float32 or float64.

    Raises:
      ValueError: if static shapes do not fit or the activation or combination is unknown.
    """
    joint = prepare(Joint(encoder, predictor, kernel, bias, activation, combination, factorised_blank))
    labels = tf.cast(labels, tf.int32)
    if labels.shape.rank != 2:
        raise ValueError(f"labels must be [B, U], got {labels.shape}")
    num_frames, num_positions = dimension(joint.encoder, 1), dimension(joint.predictor, 1)
    check_labels(labels, num_positions=joint.predictor.shape[1])
    blank_index = resolve_blank(blank_index, joint.kernel.shape[1])
    if live_threshold is None:
        live_threshold = 0.0 if joint.encoder.dtype == tf.float64 else DEFAULT_LIVE_THRESHOLD
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    wanted = node_mask(**lengths, num_frames=num_frames, num_positions=num_positions)
    if band is not None:
        wanted &= band_mask(band, num_positions=num_positions)
    has_label = label_arc_mask(**lengths, num_frames=1, num_positions=num_positions)[:, 0]
    label = tf.where(has_label, next_label(labels, num_symbols=joint.kernel.shape[1]), joint.kernel.shape[1])

    # A loop that was traced outside XLA does not compile inside it, so only eager calls share their traces.
    make = _make if tf.inside_function() else _make_once
    settings = joint._replace(blank_index=blank_index)[4:]
    forward, backward = make(settings, float(live_threshold), rows_per_slice, joint.encoder.dtype)

    @tf.custom_gradient
    def run(*inputs):
        kept = forward(*inputs, label, wanted)
        for x in kept:
            x.set_shape([joint.encoder.shape[0], joint.encoder.shape[1], joint.predictor.shape[1]])
        nodes = NodeLogProbs(*kept[:3])

        def gradient(*upstream):
            return backward(*inputs, label, wanted, *kept, *upstream)

        return tuple(nodes), gradient

    broken = is_broken(joint, **lengths)[:, None, None]
    return mask_nodes(NodeLogProbs(*(poison(x, broken) for x in run(*joint[:4]))), **lengths)


def _make(settings, live_threshold, rows_per_slice, dtype):
    """(forward, backward) traced once for all shapes; inside a compiled step their shapes are static nevertheless.

    `settings` are the fields of a Joint behind its tensors.
    """
    *_, factorised_blank, blank_index = settings
    form = factorised if factorised_blank else symbols
    sequence, matrix, vector = (tf.TensorSpec([None] * rank, dtype) for rank in (3, 2, 1))
    inputs = [sequence, sequence, matrix, vector, tf.TensorSpec([None, None], tf.int32)]
    inputs.append(tf.TensorSpec([None, None, None], tf.bool))

    def products_of(joint, rows, node):
        hidden = joint_rows.hidden_rows(joint, rows, node)
        return hidden, tf.matmul(hidden, joint.kernel)

    @tf.function(input_signature=inputs, autograph=False)
    def forward(encoder, predictor, kernel, bias, label, wanted):
        rows = lattice_rows.Rows(wanted, size=rows_per_slice or lattice_rows.default_size(kernel, passes="forward"))
        label = tf.reshape(label, [-1])
        joint = lattice_rows.tables(Joint(encoder, predictor, kernel, bias, *settings), wanted)

        def body(i, array):
            node, _ = rows.nodes(i)
            _, products = products_of(joint, rows, node)
            here = tf.gather(label, rows.position(node))
            return array.write(i, tf.stack(symbols.summarise(products, bias, label=here, blank_index=blank_index)))

        summary = symbols.Summary(*rows.spread(rows.loop(body, rows.array(dtype, numbers=4)), numbers=4))
        nodes = form.normalise(summary)
        return (*(tf.where(wanted, x, NEGATIVE_INFINITY) for x in nodes), summary.peak, summary.total)

    @tf.function(input_signature=inputs + [sequence] * 8, autograph=False)
    def backward(encoder, predictor, kernel, bias, label, wanted, *per_node):
        nodes, (peak, total), upstream = NodeLogProbs(*per_node[:3]), per_node[3:5], NodeLogProbs(*per_node[5:])
        gradients = form.logit_gradients(nodes, upstream)
        magnitude = tf.where(wanted, tf.add_n([tf.abs(x) for x in gradients]), 0.0)
        largest = tf.reduce_max(magnitude, axis=[1, 2], keepdims=True)
        live = wanted & ~(magnitude <= live_threshold * largest)  # a NaN is live, and will be seen
        rows = lattice_rows.Rows(live, size=rows_per_slice or lattice_rows.default_size(kernel, passes="backward"))
        projections = lattice_rows.Projections(rows, encoder, predictor)
        label = tf.reshape(label, [-1])
        joint = lattice_rows.tables(Joint(encoder, predictor, kernel, bias, *settings), live)
        numbers = tf.reshape(tf.stack([*gradients, peak, total], axis=-1), [-1, 5])

        def body(i, carry):
            arrays, to_kernel, to_bias = carry
            node, real = rows.nodes(i)
            hidden, products = products_of(joint, rows, node)
            *gradients, peak, total = tf.unstack(tf.gather(numbers, node), num=5, axis=1)
            to_logits = symbols.spread_gradients(
                products,
                bias,
                label=tf.gather(label, rows.position(node)),
                blank_index=blank_index,
                peak=peak,
                total=total,
                gradients=symbols.LogitGradients(*(tf.where(real, x, 0.0) for x in gradients)),
            )
            back = joint_rows.back_through_joint(joint, rows, node, hidden, to_logits)
            more_to_kernel, more_to_bias, to_rows = back
            arrays = projections.add(arrays, node, real, to_rows)
            return arrays, to_kernel + more_to_kernel, to_bias + more_to_bias

        carry = (projections.start(), *(lattice_rows.zeros_shaped_like(x, rows) for x in (kernel, bias)))
        arrays, *others = rows.loop(body, carry)
        return (*projections.finish(arrays), *others)

    return forward, backward


_make_once = functools.cache(_make)
