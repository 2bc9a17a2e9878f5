"""Weights of any rank as a matrix cut into blocks; those at the lower and right edge may be smaller."""

import numpy as np
import tensorflow as tf


def grid(shape, block) -> tuple[int, int]:
    """Numbers of block rows and block columns of a variable of this shape [..., M]: rows are all axes but the last."""
    rows, columns = _matrix(shape)
    return -(-rows // block[0]), -(-columns // block[1])


def mean_magnitude(values, *, block):
    """Values [..., M] -> mean absolute value of each block, float32, of shape `grid`."""
    rows, columns = _matrix(values.shape)
    matrix = tf.abs(tf.cast(tf.reshape(values, [rows, columns]), tf.float32))
    height, width = grid(values.shape, block)
    padded = tf.pad(matrix, [[0, height * block[0] - rows], [0, width * block[1] - columns]])
    sums = tf.reduce_sum(tf.reshape(padded, [height, block[0], width, block[1]]), axis=[1, 3])
    return sums / _lengths(rows, block[0])[:, None] / _lengths(columns, block[1])


def expand(per_block, *, shape, block):
    """Values per block, of shape `grid` -> of the variable's shape."""
    rows, columns = _matrix(shape)
    matrix = tf.repeat(tf.repeat(per_block, block[0], axis=0)[:rows], block[1], axis=1)[:, :columns]
    return tf.reshape(matrix, shape)


def zero_share(values: np.ndarray, *, block) -> float:
    """Share of the blocks that hold nothing but zeros."""
    return float(np.mean(mean_magnitude(values != 0, block=block).numpy() == 0))


def _lengths(total, length):
    """Lengths of the pieces of an axis, [count] float32: all of `length` but the last."""
    starts = np.arange(0, total, length)
    return np.minimum(total - starts, length).astype(np.float32)


def _matrix(shape):
    *rows, columns = (int(length) for length in shape)
    return int(np.prod(rows)), columns
