"""Teacher lattices as bytes: the collapsed distribution of each node, and bfloat16 projections.

A collapsed node has three masses, blank + label + rest = 1, so two numbers say it all. Stored are two log-odds,

    s1 = log P(blank) - log P(not blank),        s2 = log P(label | not blank) - log P(rest | not blank),

each companded by asinh, clipped at +-`MAX_LOG_ODDS` and rounded to a signed integer. Log-odds rather than log-probs:
what is read back sums to one by construction, both tails keep their relative precision, and no mass is ever found as
1 - p. asinh: steps are even round 0, where an error costs most (its KL is p (1 - p) error^2 / 2), and grow with |s|,
so that a mass of 1e-9 is still one of about 1e-9. The scale 1 minimises that cost for log-odds spread evenly.

At u = U there is no label: the mass there is blank or rest. Layout: one byte (8 or 16: the bits), then zlib of
int8 or little-endian int16 [2, T, U+1]. The frames and labels are not in it: the record has them.

Measured over log-odds from -12 to 12 (`tests/records/test_codecs.py` states and checks it):

| bits | mean KL(exact, stored) per node | largest | error of a log-prob x, at most |
|---|---|---|---|
| 8 | 1.1e-5 nats | 1.3e-4 nats | 0.016 (1 + |x|) |
| 16 | 2e-10 nats | 4e-8 nats | 6.1e-5 (1 + |x|) |
"""

import zlib

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.lattice import NEGATIVE_INFINITY

MAX_LOG_ODDS = 32.0
_RANGE = float(np.arcsinh(MAX_LOG_ODDS))
_LARGEST_CODE = {8: 127, 16: 32767}
_DTYPES = {8: np.dtype("int8"), 16: np.dtype("<i2")}
_ZLIB_LEVEL = 6


def encode_collapsed(blank: np.ndarray, *, label: np.ndarray, rest: np.ndarray, bits: int = 8) -> bytes:
    """Log-probs of blank, label and rest, each [T, U+1], -> bytes. The label column at u = U is not read.

    The three need not be exactly normalised; what is stored is their proportion.

    Raises:
        ValueError: `bits` is neither 8 nor 16, shapes differ, or a node holds NaN, +inf or no mass at all.
    """
    if bits not in _LARGEST_CODE:
        raise ValueError(f"bits must be 8 or 16, got {bits}")
    blank, label, rest = (np.asarray(array, np.float64) for array in (blank, label, rest))
    if blank.ndim != 2 or not blank.shape == label.shape == rest.shape:
        raise ValueError(f"blank, label, rest must all be [T, U+1], got {blank.shape}, {label.shape}, {rest.shape}")
    label = np.concatenate([label[:, :-1], np.full_like(label[:, -1:], -np.inf)], axis=1)
    with np.errstate(invalid="ignore"):
        total = np.logaddexp(blank, np.logaddexp(label, rest))
    if not np.isfinite(total).all():
        frame, position = np.argwhere(~np.isfinite(total))[0]
        raise ValueError(f"node (t={frame}, u={position}) has log mass {total[frame, position]}: not a distribution")
    with np.errstate(invalid="ignore"):
        log_odds = np.stack([blank - np.logaddexp(label, rest), label - rest])
    log_odds[1] = np.where(np.isnan(log_odds[1]), 0.0, log_odds[1])  # blank has all the mass: any split will do
    log_odds[1, :, -1] = 0.0
    companded = np.arcsinh(np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)) / _RANGE
    codes = np.rint(companded * _LARGEST_CODE[bits]).astype(_DTYPES[bits])
    return bytes([bits]) + zlib.compress(codes.tobytes(), _ZLIB_LEVEL)


def decode_collapsed(encoded: bytes, *, num_frames: int, num_labels: int) -> np.ndarray:
    """Bytes -> float32 [T, U+1, 3]: normalised log-probs of blank, label and rest.

    The label at u = U is the lattice's NEGATIVE_INFINITY, which is finite.

    Raises:
        ValueError: the bytes are damaged, or of another number of frames and labels.
    """
    bits = encoded[0] if encoded else None
    if bits not in _LARGEST_CODE:
        raise ValueError(f"not a collapsed lattice: {len(encoded)} bytes that start with {encoded[:1]!r}")
    try:
        codes = np.frombuffer(zlib.decompress(encoded[1:]), _DTYPES[bits])
    except zlib.error as error:
        raise ValueError(f"damaged collapsed lattice of {len(encoded)} bytes: {error}") from error
    if codes.size != 2 * num_frames * (num_labels + 1):
        raise ValueError(f"a collapsed lattice of {codes.size // 2} nodes, expected {num_frames} x {num_labels + 1}")
    codes = codes.reshape(2, num_frames, num_labels + 1)
    log_odds = np.sinh(codes * (_RANGE / _LARGEST_CODE[bits]))
    not_blank = -np.logaddexp(0, log_odds[0])
    blank = -np.logaddexp(0, -log_odds[0])
    label = not_blank - np.logaddexp(0, -log_odds[1])
    rest = not_blank - np.logaddexp(0, log_odds[1])
    label[:, -1], rest[:, -1] = NEGATIVE_INFINITY, not_blank[:, -1]
    return np.stack([blank, label, rest], axis=-1).astype(np.float32)


def decode_collapsed_tf(encoded: tf.Tensor, *, num_frames: tf.Tensor, num_labels: tf.Tensor) -> tf.Tensor:
    """`decode_collapsed` in graph: scalar string, scalar integers T and U -> float32 [T, U+1, 3].

    Damaged bytes and another number of nodes raise tf.errors.InvalidArgumentError or DataLossError when it runs.
    """
    payload = tf.io.decode_compressed(tf.strings.substr(encoded, 1, -1), compression_type="ZLIB")

    def read(bits, dtype):
        codes = tf.cast(tf.io.decode_raw(payload, dtype, little_endian=True), tf.float32)
        return codes * (_RANGE / _LARGEST_CODE[bits])

    header = tf.strings.substr(encoded, 0, 1)
    companded = tf.cond(header == bytes([8]), lambda: read(8, tf.int8), lambda: read(16, tf.int16))
    nodes_shape = tf.stack([tf.cast(num_frames, tf.int32), tf.cast(num_labels, tf.int32) + 1])
    with tf.control_dependencies([tf.debugging.Assert((header == bytes([8])) | (header == bytes([16])), [header])]):
        log_odds = tf.sinh(tf.reshape(companded, tf.concat([[2], nodes_shape], axis=0)))
    not_blank = tf.math.log_sigmoid(-log_odds[0])
    blank = tf.math.log_sigmoid(log_odds[0])
    is_last = tf.range(nodes_shape[1]) == nodes_shape[1] - 1
    label = tf.where(is_last, NEGATIVE_INFINITY, not_blank + tf.math.log_sigmoid(log_odds[1]))
    rest = tf.where(is_last, not_blank, not_blank + tf.math.log_sigmoid(-log_odds[1]))
    return tf.stack([blank, label, rest], axis=-1)


def encode_bfloat16(array: np.ndarray) -> bytes:
    """Floats of any shape -> little-endian bfloat16, rounded to nearest even: relative error at most 2^-8.

    Raises:
        ValueError: NaN or infinity, or a value that bfloat16 turns into infinity.
    """
    rounded = np.asarray(array, np.float32).astype(tf.bfloat16.as_numpy_dtype)
    if not np.isfinite(rounded.astype(np.float32)).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(array))} non-finite values in an array of {np.shape(array)}")
    return rounded.view("<u2").tobytes()


def decode_bfloat16(encoded: bytes, *, shape: tuple[int, ...]) -> np.ndarray:
    """Little-endian bfloat16 -> float32 of `shape`; ValueError where the sizes differ."""
    values = np.frombuffer(encoded, "<u2").view(tf.bfloat16.as_numpy_dtype).astype(np.float32)
    if values.size != np.prod(shape):
        raise ValueError(f"{values.size} bfloat16 values, expected {np.prod(shape)} for shape {tuple(shape)}")
    return values.reshape(shape)


def decode_bfloat16_tf(encoded: tf.Tensor, *, shape: tf.Tensor) -> tf.Tensor:
    """`decode_bfloat16` in graph: scalar string, integer vector -> float32 of `shape`."""
    values = tf.bitcast(tf.io.decode_raw(encoded, tf.uint16, little_endian=True), tf.bfloat16)
    return tf.cast(tf.reshape(values, shape), tf.float32)
