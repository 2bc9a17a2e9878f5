"""What attention knows of time: rotated queries and keys, or scores of relative positions."""

import tensorflow as tf


def rotate(vectors, positions):
    """Rotary position embedding (Su et al. 2021): vectors [B, T, N, D] turned by angles of positions [T].

    The product of a rotated query and a rotated key depends on the difference of their positions only, so a stream
    may number its frames from any origin.
    """
    half = vectors.shape[-1] // 2
    angles = _angles(positions, half)
    cos = tf.cast(tf.cos(angles), vectors.dtype)[None, :, None, :]
    sin = tf.cast(tf.sin(angles), vectors.dtype)[None, :, None, :]
    first, second = tf.split(vectors, 2, axis=-1)
    return tf.concat([first * cos - second * sin, first * sin + second * cos], axis=-1)


def sinusoids(distances, width):
    """Sines and cosines (Vaswani et al. 2017, section 3.5) of distances [M] in frames: float32 [M, width]."""
    angles = _angles(distances, width // 2)
    return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)


def distances_between(query_positions, key_positions):
    """All distances from a query to a key, Q + K of them, descending; both positions are consecutive numbers.

    The last is one that no pair has: `align_distances` needs it.
    """
    largest = query_positions[-1] - key_positions[0]
    return largest - tf.range(tf.size(query_positions) + tf.size(key_positions))


def align_distances(scores, num_keys):
    """Scores [B, N, Q, Q + K] by the distances of `distances_between` -> [B, N, Q, K] by keys.

    Query i and key j are at place Q - 1 - i + j of the distances: in one row of all scores, each query's begin one
    place before where the row would end if rows were one shorter (Dai et al. 2019, appendix B).
    """
    batch, num_heads, num_queries, num_distances = tf.unstack(tf.shape(scores))
    flat = tf.reshape(scores, [batch, num_heads, num_queries * num_distances])
    begin, row = num_queries - 1, num_distances - 1
    # tf.slice, because its gradient is a mere padding.
    flat = tf.slice(flat, [0, 0, begin], [batch, num_heads, num_queries * row])
    rows = tf.reshape(flat, [batch, num_heads, num_queries, row])
    return tf.slice(rows, [0, 0, 0, 0], [batch, num_heads, num_queries, num_keys])


def _angles(positions, half):
    """Positions [T] times `half` frequencies from 1 down to 1/10000: float32 [T, half]."""
    frequencies = tf.pow(10000.0, -tf.range(half, dtype=tf.float32) / half)
    return tf.cast(positions, tf.float32)[:, None] * frequencies[None, :]
