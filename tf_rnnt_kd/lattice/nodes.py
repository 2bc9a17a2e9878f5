"""What a lattice node is made of: three log-probabilities, and which nodes exist.

The lattice of an utterance with T_b encoder frames and U_b labels has the nodes (t, u), 0 <= t < T_b, 0 <= u <= U_b.
At a node the joint network gives a distribution over V symbols; nearly every loss needs three numbers of it only.
"""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice.tensors import TensorLike

NEGATIVE_INFINITY = -1e30
"""Stands for log 0 everywhere in the lattice: finite, so that differences and products with 0 are never NaN."""

IMPOSSIBLE = -1e29
"""A path score at or below this holds at least one arc of probability 0 (real scores stay far above)."""


class NodeLogProbs(NamedTuple):
    """Log-probabilities (natural log, float32; float64 if the inputs were) of what can happen at each node (t, u).

    blank: [B, T, U+1] log P(blank | t, u), the arc to (t+1, u).
    label: [B, T, U+1] log P(y_{u+1} | t, u), the arc to (t, u+1); NEGATIVE_INFINITY at u >= label_length.
    rest:  [B, T, U+1] log of the mass on every other symbol, a log-sum-exp over them (at u = label_length: over all
           symbols except blank).

    Nodes outside an utterance's lattice hold NEGATIVE_INFINITY in all three, so that their probabilities are 0.
    """

    blank: tf.Tensor
    label: tf.Tensor
    rest: tf.Tensor


def dimension(tensor, axis):
    """The size of an axis: an int where it is known while tracing, else a scalar int32 tensor."""
    static = tensor.shape[axis]
    return static if static is not None else tf.shape(tensor)[axis]


def node_mask(
    logit_lengths: TensorLike, label_lengths: TensorLike, *, num_frames: int | tf.Tensor,
    num_positions: int | tf.Tensor,
) -> tf.Tensor:
    """True at the nodes that exist.

    Args:
      logit_lengths: [B] int, encoder frames of each utterance.
      label_lengths: [B] int, labels of each utterance.
      num_frames: T, the padded number of frames.
      num_positions: U + 1, the padded number of label positions.

    Returns:
      [B, T, U+1] bool: t < logit_length and u <= label_length.
    """
    frames = tf.range(num_frames)[None, :, None] < tf.cast(logit_lengths, tf.int32)[:, None, None]
    positions = tf.range(num_positions)[None, None, :] <= tf.cast(label_lengths, tf.int32)[:, None, None]
    return frames & positions


def label_arc_mask(
    logit_lengths: TensorLike, label_lengths: TensorLike, *, num_frames: int | tf.Tensor,
    num_positions: int | tf.Tensor,
) -> tf.Tensor:
    """[B, T, U+1] bool: True where the node has a label arc, t < logit_length and u < label_length."""
    frames = tf.range(num_frames)[None, :, None] < tf.cast(logit_lengths, tf.int32)[:, None, None]
    positions = tf.range(num_positions)[None, None, :] < tf.cast(label_lengths, tf.int32)[:, None, None]
    return frames & positions


def mask_nodes(nodes: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike) -> NodeLogProbs:
    """Makes nodes from anywhere (a record, another toolkit) safe: float32, NEGATIVE_INFINITY for -inf and padding.

    Args:
      nodes: NodeLogProbs [B, T, U+1]; may hold -inf, and anything, NaN included, outside the utterances' lattices.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.

    Returns:
      NodeLogProbs as its docstring promises; gradients pass through the nodes that exist.
    """
    nodes = NodeLogProbs(*(lattice_float(x) for x in nodes))
    if nodes.blank.shape.rank != 3 or not all(nodes.blank.shape.is_compatible_with(x.shape) for x in nodes):
        raise ValueError(
            "nodes must be three tensors of one shape [B, T, U+1], got "
            f"blank {nodes.blank.shape}, label {nodes.label.shape}, rest {nodes.rest.shape}"
        )
    sizes = {"num_frames": dimension(nodes.blank, 1), "num_positions": dimension(nodes.blank, 2)}
    exists = node_mask(logit_lengths, label_lengths, **sizes)
    has_label = label_arc_mask(logit_lengths, label_lengths, **sizes)
    return NodeLogProbs(_floor(nodes.blank, exists), _floor(nodes.label, has_label), _floor(nodes.rest, exists))


def lattice_float(tensor):
    """The tensor in the precision of lattice arithmetic: float64 stays, everything else becomes float32."""
    tensor = tf.convert_to_tensor(tensor)
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)


def at_least(x, bottom):
    """The larger one, and NaN where x is NaN: a maximum may drop it."""
    return tf.where(x < bottom, bottom, x)


def poison(x, broken):
    """NaN where `broken`. Maxima, exp and tanh that XLA compiles for CPU turn NaN into numbers, so that one has to be
    looked for where it may come in, lest a loss looks sound."""
    return tf.where(broken, tf.constant(float("nan"), x.dtype), x)


def _floor(log_probs, keep):
    bottom = tf.constant(NEGATIVE_INFINITY, log_probs.dtype)
    return tf.where(keep, at_least(log_probs, bottom), bottom)
