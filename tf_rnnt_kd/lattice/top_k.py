"""A teacher's nodes as their K most probable symbols and the mass of all others: what a record can afford to hold."""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice import joint_rows
from tf_rnnt_kd.lattice import rows as lattice_rows
from tf_rnnt_kd.lattice.joint import Joint, prepare
from tf_rnnt_kd.lattice.nodes import NEGATIVE_INFINITY, dimension, node_mask
from tf_rnnt_kd.lattice.tensors import TensorLike


class TopK(NamedTuple):
    """The K most probable symbols of each node.

    symbols: [B, T, U+1, K] int32, different ones.
    log_probs: [B, T, U+1, K] their natural log-probabilities, most probable first.
    rest: [B, T, U+1] log of the mass of all other symbols, a log-sum-exp over them; NEGATIVE_INFINITY for K = V.

    Padding holds symbol 0 .. K-1 with NEGATIVE_INFINITY.
    """

    symbols: tf.Tensor
    log_probs: tf.Tensor
    rest: tf.Tensor


def top_k(
    joint: Joint, *, k: int, logit_lengths: TensorLike, label_lengths: TensorLike, rows_per_slice: int | None = None
) -> TopK:
    """TopK of a Joint.

    Args:
      joint: lattice.Joint.
      k: int in 1..V.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      rows_per_slice: nodes that are worked on at a time.

    Returns:
      TopK, float32 (float64 if the encoder is), without gradient.
    """
    joint = prepare(joint)
    num_symbols = joint.kernel.shape[1]
    if not 1 <= k <= num_symbols:
        raise ValueError(f"k={k} is not in 1..V for V={num_symbols} symbols")
    sizes = {"num_frames": dimension(joint.encoder, 1), "num_positions": dimension(joint.predictor, 1)}
    wanted = node_mask(logit_lengths, label_lengths, **sizes)
    rows = lattice_rows.Rows(wanted, size=rows_per_slice or lattice_rows.default_size(joint.kernel, passes="forward"))
    tables = lattice_rows.tables(joint, wanted)
    dtype = joint.encoder.dtype

    def body(i, carry):
        node, _ = rows.nodes(i)
        logits, _ = joint_rows.distribution_rows(tables, joint_rows.hidden_rows(tables, rows, node))
        log_probs = tf.nn.log_softmax(logits)
        best, symbols = tf.math.top_k(log_probs, k)
        at = lattice_rows.symbol_indices(symbols)
        others = tf.tensor_scatter_nd_update(log_probs, at, tf.fill(tf.shape(symbols), best.dtype.min))
        rest = tf.reduce_logsumexp(others, axis=1) if k < num_symbols else tf.fill([tf.shape(best)[0]], best.dtype.min)
        floats = tf.concat([tf.transpose(best), rest[None]], 0)
        return carry[0].write(i, tf.transpose(symbols)), carry[1].write(i, tf.maximum(floats, NEGATIVE_INFINITY))

    symbols, floats = rows.loop(body, (rows.array(tf.int32, numbers=k), rows.array(dtype, numbers=k + 1)))
    symbols = [tf.where(wanted, x, i) for i, x in enumerate(rows.spread(symbols, numbers=k))]
    *best, rest = (tf.where(wanted, x, NEGATIVE_INFINITY) for x in rows.spread(floats, numbers=k + 1))
    return TopK(*(tf.stop_gradient(x) for x in (tf.stack(symbols, -1), tf.stack(best, -1), rest)))
