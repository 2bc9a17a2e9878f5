"""Matrices of floats, rows of which are frames or label positions: bfloat16, or int8 with one scale per row.

| | bytes per number, before compression | error of a number x, at most |
|---|---|---|
| bfloat16 | 2 | 2^-8 |x| |
| int8 | 1, and 4 per row | m / 254 + 2^-20 m, where m is the largest |x| of its row |

bfloat16 is stored as all low bytes, and then the high ones of [D, R], deflated: of the low bytes (seven bits of the
mantissa) nothing can be saved, and mixed with them little of the others. int8 is stored as differences along time of
[D, R], deflated (`packing`).
"""

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records.codecs import packing

_LARGEST = 127


def encode_bfloat16(array: np.ndarray) -> bytes:
    """Floats [R, D] -> bytes, rounded to nearest even.

    Raises:
        ValueError: not a matrix, NaN or infinity, or a value that bfloat16 turns into infinity.
    """
    array = _matrix(array)
    rounded = array.astype(tf.bfloat16.as_numpy_dtype)
    if not np.isfinite(rounded.astype(np.float32)).all():
        raise ValueError(f"values up to {np.abs(array).max():g} are too large for bfloat16")
    planes = rounded.T.copy().view(np.uint8).reshape(-1, 2)
    return planes[:, 0].tobytes() + packing.deflate(planes[:, 1].tobytes())


def decode_bfloat16(encoded: bytes, *, shape: tuple[int, int]) -> np.ndarray:
    """Bytes -> float32 [R, D].

    Raises:
        ValueError: the bytes are damaged, or of another number of values.
    """
    size = int(np.prod(shape))
    high = packing.inflate(encoded[size:], what="bfloat16 matrix")
    if len(high) != size:
        raise ValueError(f"{len(high)} bfloat16 values, expected {size} for shape {tuple(shape)}")
    planes = np.stack([np.frombuffer(half, np.uint8) for half in (encoded[:size], high)], axis=-1)
    return planes.view(tf.bfloat16.as_numpy_dtype).astype(np.float32).reshape(shape[::-1]).T


def decode_bfloat16_tf(encoded: tf.Tensor, *, shape: tf.Tensor) -> tf.Tensor:
    """`decode_bfloat16` in graph: scalar string, integers [2] -> float32 [R, D]; not for empty matrices.

    Damage and another shape raise tf.errors.InvalidArgumentError or DataLossError when it runs.
    """
    size = tf.reduce_prod(tf.cast(shape, tf.int32))
    low = tf.io.decode_raw(tf.strings.substr(encoded, 0, size), tf.uint8)
    high = tf.io.decode_raw(packing.inflate_tf(tf.strings.substr(encoded, size, -1)), tf.uint8)
    values = tf.reshape(tf.bitcast(tf.stack([low, high], axis=-1), tf.bfloat16), tf.reverse(shape, [0]))
    return tf.cast(tf.transpose(values), tf.float32)


def encode_int8(array: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Floats [R, D] -> (bytes, float32 [R]): codes -127..127, and what a step of each row is worth.

    Raises:
        ValueError: not a matrix, NaN or infinity.
    """
    array = _matrix(array)
    scale = np.abs(array).max(axis=1, initial=0.0) / np.float32(_LARGEST)
    # A row of zeros, or so small that its scale is 0, comes back as zeros whatever the codes are.
    codes = np.rint(array / np.where(scale > 0, scale, 1)[:, None]).clip(-_LARGEST, _LARGEST).astype(np.int8)
    return packing.deflate(packing.differences(codes.T)), scale


def decode_int8(encoded: bytes, *, scale: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bytes, float32 [R] -> float32 [R, D].

    Raises:
        ValueError: the bytes are damaged, or of another shape.
    """
    raw = packing.inflate(encoded, what="int8 matrix")
    if len(raw) != np.prod(shape) or len(scale) != shape[0]:
        raise ValueError(f"{len(raw)} int8 values and {len(scale)} scales, expected those of shape {tuple(shape)}")
    return packing.sums(raw, bits=8, shape=shape[::-1]).T * np.asarray(scale, np.float32)[:, None]


def decode_int8_tf(encoded: tf.Tensor, *, scale: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """`decode_int8` in graph: scalar string, float32 [R], integers [2] -> float32 [R, D]; errors as for bfloat16."""
    codes = packing.sums_tf(packing.inflate_tf(encoded), bits=8, shape=tf.reverse(shape, [0]))
    return tf.cast(tf.transpose(codes), tf.float32) * scale[:, None]


def _matrix(array):
    """As finite float32 [R, D]."""
    array = np.asarray(array, np.float32)
    if array.ndim != 2:
        raise ValueError(f"a matrix of frames or label positions is needed, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(array))} non-finite values in an array of {array.shape}")
    return array
