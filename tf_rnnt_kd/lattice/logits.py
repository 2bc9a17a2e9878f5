"""Lattice nodes from a tensor of logits, for those who already hold [B, T, U+1, V]."""

import tensorflow as tf

from tf_rnnt_kd.lattice import symbols
from tf_rnnt_kd.lattice.nodes import NodeLogProbs, dimension, label_arc_mask, lattice_float, mask_nodes, node_mask


def node_log_probs_from_logits(logits, *, labels, logit_lengths, label_lengths, blank_index=0):
    """Three log-probabilities per node from dense logits.

    Args:
      logits: [B, T, U+1, V] any float dtype; need not be normalised; -inf is allowed, padding may hold anything.
      labels: [B, U] int, symbols in [0, V) other than the blank; padding may hold anything.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      blank_index: int in [-V, V).

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
    exists = node_mask(logit_lengths, label_lengths, **sizes)
    has_label = label_arc_mask(logit_lengths, label_lengths, **sizes)
    label = next_label(labels, num_symbols=dimension(logits, 3))[:, None, :]
    label = tf.where(has_label, label, dimension(logits, 3))
    logits = lattice_float(logits)
    nodes = _from_logits(tf.where(exists[..., None], logits, tf.zeros_like(logits)), label, blank_index)
    return mask_nodes(nodes, logit_lengths=logit_lengths, label_lengths=label_lengths)


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


def _from_logits(logits, label, blank_index):
    @tf.custom_gradient
    def run(z):
        nodes, rest = symbols.collapse(z, label=label, blank_index=blank_index)

        def gradient(*upstream):
            return symbols.collapse_gradient(
                z, label=label, blank_index=blank_index, nodes=nodes, rest=rest, upstream=NodeLogProbs(*upstream)
            )

        return tuple(nodes), gradient

    return NodeLogProbs(*run(logits))
