"""Small integers along time, packed: what is stored is the difference to the frame before, deflated.

Neighbouring frames are alike, so the differences are small, and deflate finds more in them than in the numbers; time is
the last axis, so that they lie side by side. Differences and sums are modulo 2^bits: nothing can overflow.
"""

import zlib

import numpy as np
import tensorflow as tf

DTYPES: dict[int, np.dtype] = {8: np.dtype("int8"), 16: np.dtype("<i2")}
_TF_DTYPES = {8: tf.int8, 16: tf.int16}
_LEVEL = 1  # higher ones save one or two per cent of such numbers, and take up to four times as long


def differences(codes: np.ndarray) -> bytes:
    """int8 or int16 codes [.., T] -> bytes of their differences along time, in the same dtype."""
    return np.diff(codes, axis=-1, prepend=np.zeros_like(codes[..., :1])).tobytes()


def sums(raw: bytes, *, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse; the caller has checked that `raw` holds as many codes as `shape` says."""
    return np.cumsum(np.frombuffer(raw, DTYPES[bits]).reshape(shape), axis=-1, dtype=DTYPES[bits])


def sums_tf(raw: tf.Tensor, *, bits: int, shape: tf.Tensor) -> tf.Tensor:
    """The same in graph, as int32 with the values of int8 or int16."""
    steps = tf.cast(tf.io.decode_raw(raw, _TF_DTYPES[bits], little_endian=True), tf.int32)
    half = 2 ** (bits - 1)
    # The sum in 32 bits may wrap as well, which changes nothing modulo 2^bits.
    return tf.math.floormod(tf.cumsum(tf.reshape(steps, shape), axis=-1) + half, 2 * half) - half


def inflate(packed: bytes, *, what: str) -> bytes:
    """zlib's inverse; ValueError where the bytes are damaged."""
    try:
        return zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(f"damaged {what} of {len(packed)} bytes: {error}") from error


def deflate(raw: bytes) -> bytes:
    """A zlib stream."""
    return zlib.compress(raw, _LEVEL)


def inflate_tf(packed: tf.Tensor) -> tf.Tensor:
    """`inflate` in graph; damage raises tf.errors.InvalidArgumentError or DataLossError when it runs."""
    return tf.io.decode_compressed(packed, compression_type="ZLIB")
