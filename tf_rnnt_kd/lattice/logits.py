"""Lattice nodes from a tensor of logits, for those who already hold [B, T, U+1, V]."""

import functools

import tensorflow as tf

from tf_rnnt_kd.lattice import factorised, symbols
from tf_rnnt_kd.lattice.nodes import NodeLogProbs, dimension, label_arc_mask, mask_nodes, node_mask, poison
from tf_rnnt_kd.lattice.rows import Rows, power_of_two
from tf_rnnt_kd.lattice.tensors import TensorLike


def node_log_probs_from_logits(
    logits: TensorLike, *, labels: TensorLike, logit_lengths: TensorLike, label_lengths: TensorLike,
    blank_index: int = 0, factorised_blank: bool = False,
) -> NodeLogProbs:
    """Three log-probabilities per node from dense logits.

    Args:
      logits: [B, T, U+1, V] any float dtype; need not be normalised; -inf is allowed, padding may hold anything.
      labels: [B, U] int, symbols in [0, V) other than the blank; padding may hold anything.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      blank_index: int in [-V, V).
      factorised_blank: bool, False for a softmax over the logits, True for a blank apart from it, see lattice.Joint.

    Returns:
      NodeLogProbs [B, T, U+1] float32 (float64 for float64 logits). The gradient reaches `logits` in their dtype and is
      0 in the padding.

    Raises:
      ValueError: if static shapes do not fit.
    """
    logits, labels = tf.convert_to_tensor(logits), tf.cast(labels, tf.int32)
    if logits.shape.rank != 4 or labels.shape.rank != 2:
        raise ValueError(f"logits must be [B, T, U+1, V] and labels [B, U], got {logits.shape} and {labels.shape}")
    check_labels(labels, num_positions=logits.shape[2])
    blank_index = resolve_blank(blank_index, logits.shape[3])
    sizes = {"num_frames": dimension(logits, 1), "num_positions": dimension(logits, 2)}
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    has_label = label_arc_mask(**lengths, num_frames=1, num_positions=sizes["num_positions"])[:, 0]
    label = tf.where(has_label, next_label(labels, num_symbols=logits.shape[3]), logits.shape[3])
    make = _make if tf.inside_function() else _make_once
    forward, backward = make(blank_index, bool(factorised_blank), logits.dtype)
    wanted = node_mask(**lengths, **sizes)

    @tf.custom_gradient
    def run(logits):
        kept = forward(logits, label, wanted)
        for x in kept:
            x.set_shape(logits.shape[:3])

        def gradient(*upstream):
            return backward(logits, label, *kept, *upstream)

        return kept[:3], gradient

    return mask_nodes(NodeLogProbs(*run(logits)), **lengths)


def next_label(labels, *, num_symbols):
    """[B, U] labels -> [B, U+1], the symbol of the label arc at position u; num_symbols (no symbol) at the last."""
    return tf.pad(labels, [[0, 0], [0, 1]], constant_values=num_symbols)


def check_labels(labels, *, num_positions):
    """ValueError unless a lattice of U+1 positions goes with [B, U] labels (as far as shapes are static)."""
    if None not in (labels.shape[1], num_positions) and labels.shape[1] + 1 != num_positions:
        raise ValueError(
            f"labels hold {labels.shape[1]} labels, so the lattice needs {labels.shape[1] + 1} label positions (one "
            f"per label and one before the first), got {num_positions}"
        )


def resolve_blank(blank_index, num_symbols):
    """The blank's index counted from 0."""
    if num_symbols is None:
        raise ValueError("the number of symbols V must be known statically; set the last dimension's shape")
    if not -num_symbols <= blank_index < num_symbols:
        raise ValueError(f"blank_index={blank_index} is not in [-V, V) for V={num_symbols} symbols")
    return blank_index % num_symbols


def _make(blank_index, factorised_blank, dtype):
    """(forward, backward) for any lengths; see fused.py for why there are two ways to get them."""
    form = factorised if factorised_blank else symbols
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    inputs = [tf.TensorSpec([None] * 4, dtype), tf.TensorSpec([None] * 2, tf.int32)]
    per_node = tf.TensorSpec([None] * 3, wide)

    @tf.function(input_signature=[*inputs, tf.TensorSpec([None] * 3, tf.bool)], autograph=False)
    def forward(logits, label, wanted):
        flat, label = tf.reshape(logits, [-1, tf.shape(logits)[3]]), tf.reshape(label, [-1])
        rows = Rows(wanted, size=_ROWS)
        no_bias = tf.zeros([tf.shape(logits)[3]], wide)

        def body(i, array):
            node, _ = rows.nodes(i)
            here = tf.cast(tf.gather(flat, node), wide)
            label_here = tf.gather(label, rows.position(node))
            summary = symbols.summarise(here, no_bias, label=label_here, blank_index=blank_index)
            return array.write(i, tf.stack(summary))

        summary = symbols.Summary(*rows.spread(rows.loop(body, rows.array(wide, numbers=4)), numbers=4))
        nodes = (poison(x, tf.math.is_nan(summary.total)) for x in form.normalise(summary))
        return (*nodes, summary.peak, summary.total)

    @tf.function(input_signature=[*inputs, *[per_node] * 8], autograph=False)
    def backward(logits, label, *per_node):
        nodes, (peak, total), upstream = NodeLogProbs(*per_node[:3]), per_node[3:5], NodeLogProbs(*per_node[5:])
        # All at once and compiled for this shape, so that the gradient is written once and nothing else of its size;
        # small lattices are rounded up, so that few shapes are compiled.
        flat = tf.reshape(logits, [-1, tf.shape(logits)[3]])
        size = tf.shape(flat)[0]
        more = tf.where(size <= _SMALL // tf.shape(flat)[1], power_of_two(size) - size, 0)

        def rows_of(x):
            return tf.pad(tf.reshape(x, [-1]), [[0, more]])

        gradients = symbols.LogitGradients(*(rows_of(x) for x in form.logit_gradients(nodes, upstream)))
        label = rows_of(tf.broadcast_to(label[:, None, :], tf.shape(peak)))
        gradient = symbols.spread_gradients(
            tf.pad(flat, [[0, more], [0, 0]]),
            tf.zeros([tf.shape(flat)[1]], wide),
            label=label,
            blank_index=blank_index,
            peak=rows_of(peak),
            total=rows_of(total),
            gradients=gradients,
        )
        return tf.reshape(gradient[:size], tf.shape(logits))

    return forward, backward


_make_once = functools.cache(_make)
_ROWS = 1024
_SMALL = 2**20
