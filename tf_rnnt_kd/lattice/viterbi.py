"""The single best alignment of y."""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice.diagonals import Arcs, entering, shift_right, skew, unskew
from tf_rnnt_kd.lattice.nodes import IMPOSSIBLE, NEGATIVE_INFINITY, NodeLogProbs, dimension, mask_nodes, node_mask
from tf_rnnt_kd.lattice.tensors import TensorLike


class BestPath(NamedTuple):
    """The most probable alignment.

    log_prob: [B] natural log, float32 (float64 for float64 nodes); -inf where no alignment is possible.
    token_frames: [B, U] int32, the frame at which each label is emitted; -1 in padding and for impossible transcripts.
    nodes: [B, T, U+1] bool, the T_b + U_b nodes that the alignment visits; none for an impossible transcript.
    """

    log_prob: tf.Tensor
    token_frames: tf.Tensor
    nodes: tf.Tensor


def viterbi(nodes: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike) -> BestPath:
    """The alignment of highest probability; of equally good ones, that which emits its labels earlier.

    Args:
      nodes: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.

    Returns:
      BestPath; carries no gradient.
    """
    nodes = mask_nodes(nodes, logit_lengths=logit_lengths, label_lengths=label_lengths)
    lengths = tf.cast(logit_lengths, tf.int32), tf.cast(label_lengths, tf.int32)
    num_frames, num_positions = dimension(nodes.blank, 1), dimension(nodes.blank, 2)
    arcs = Arcs(*(tf.stop_gradient(tf.cast(x, tf.float64)) for x in (nodes.blank, nodes.label)))
    by_blank, by_label = (skew(x) for x in entering(arcs, NEGATIVE_INFINITY))
    log_prob, columns = _best_columns(by_blank, by_label, *lengths)  # columns[d]: the path's u on diagonal d, [D, B]

    possible = log_prob > IMPOSSIBLE
    labels = tf.range(num_positions - 1)
    # Label j is emitted on the last diagonal whose u is still at most j; that diagonal's number is t + j.
    frames = tf.reduce_sum(tf.cast(columns[:, :, None] <= labels, tf.int32), axis=0) - 1 - labels
    frames = tf.where(possible[:, None] & tf.sequence_mask(lengths[1], num_positions - 1), frames, -1)
    visited = unskew(tf.cast(columns[:, :, None] == tf.range(num_positions), tf.int32))[:, :-1] > 0
    exists = node_mask(*lengths, num_frames=num_frames, num_positions=num_positions)
    log_prob = tf.where(possible, log_prob, tf.constant(-float("inf"), tf.float64))
    return BestPath(tf.cast(log_prob, nodes.blank.dtype), frames, visited & exists & possible[:, None, None])


_SKEWED = tf.TensorSpec([None, None, None], tf.float64)
_LENGTHS = tf.TensorSpec([None], tf.int32)


@tf.function(input_signature=[_SKEWED, _SKEWED, _LENGTHS, _LENGTHS], autograph=False)
def _best_columns(by_blank, by_label, logit_lengths, label_lengths):
    diagonals, batch, columns = tf.unstack(tf.shape(by_blank))
    last = logit_lengths + label_lengths

    def forward(d, state, best, took_label):
        via_blank, via_label = state + by_blank[d], shift_right(state) + by_label[d]
        state = tf.where(tf.equal(d, 0) & start, tf.zeros([], state.dtype), tf.maximum(via_blank, via_label))
        here = tf.gather(state, label_lengths, batch_dims=1)
        return d + 1, state, tf.where(last == d, here, best), took_label.write(d, via_label > via_blank)

    def backward(d, column, history):
        history = history.write(d, column)
        label = tf.gather(took_label[d], column, batch_dims=1) & (d <= last)
        return d - 1, column - tf.cast(label, tf.int32), history

    start = tf.tile((tf.range(columns) == 0)[None, :], [batch, 1])
    state = tf.fill([batch, columns], tf.constant(NEGATIVE_INFINITY, tf.float64))
    array = tf.TensorArray(tf.bool, size=diagonals, element_shape=[None, None])
    carry = (0, state, tf.fill([batch], tf.constant(NEGATIVE_INFINITY, tf.float64)), array)
    *_, best, took_label = tf.while_loop(lambda d, *_: d < diagonals, forward, carry, parallel_iterations=1)
    took_label = took_label.stack()
    array = tf.TensorArray(tf.int32, size=diagonals, element_shape=[None])
    carry = (diagonals - 1, label_lengths, array)
    return best, tf.while_loop(lambda d, *_: d >= 0, backward, carry, parallel_iterations=1)[2].stack()
