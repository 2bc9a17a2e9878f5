"""Whole distributions at every node, float16 log-probs [T, U+1, V], deflated: for tests and tiny vocabularies.

Error of a log-prob x: at most 2^-11 |x| + 3e-8. What lies below -65504 comes back as that.
"""

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records.codecs import packing

LOWEST = -65504.0
"""The most negative number that float16 has; its exp is 0 in float32."""


def encode_dense(log_probs: np.ndarray) -> bytes:
    """Log-probs [T, U+1, V] -> bytes.

    Raises:
        ValueError: not three dimensions, NaN or +inf.
    """
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 3 or np.isnan(log_probs).any() or (log_probs == np.inf).any():
        broken = np.count_nonzero(np.isnan(log_probs) | (log_probs == np.inf))
        raise ValueError(f"dense log-probs must be [T, U+1, V], got {log_probs.shape} with {broken} NaN or +inf")
    return packing.deflate(np.maximum(log_probs, LOWEST).astype("<f2").tobytes())


def decode_dense(encoded: bytes, *, num_frames: int, num_labels: int) -> np.ndarray:
    """Bytes -> float32 [T, U+1, V].

    Raises:
        ValueError: the bytes are damaged, or of another number of frames and labels.
    """
    values = np.frombuffer(packing.inflate(encoded, what="dense lattice"), "<f2")
    nodes = num_frames * (num_labels + 1)
    if not nodes or values.size % nodes:
        raise ValueError(f"{values.size} dense log-probs do not fill {num_frames} x {num_labels + 1} nodes")
    return values.astype(np.float32).reshape(num_frames, num_labels + 1, -1)


def decode_dense_tf(encoded: tf.Tensor, *, num_frames: tf.Tensor, num_labels: tf.Tensor) -> tf.Tensor:
    """`decode_dense` in graph: scalar string, scalar integers T and U -> float32 [T, U+1, V].

    Damage and another number of nodes raise tf.errors.InvalidArgumentError or DataLossError when it runs.
    """
    values = tf.io.decode_raw(packing.inflate_tf(encoded), tf.float16, little_endian=True)
    shape = tf.stack([tf.cast(num_frames, tf.int32), tf.cast(num_labels, tf.int32) + 1, -1])
    return tf.cast(tf.reshape(values, shape), tf.float32)
