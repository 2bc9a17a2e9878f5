"""The collapsed distribution of each node: three masses, blank + label + rest = 1, so two numbers say it all.

Stored are two log-odds (`companding` says how),

    s1 = log P(blank) - log P(not blank),        s2 = log P(label | not blank) - log P(rest | not blank).

At u = U there is no label: the mass there is blank or rest.

Layout: one byte (8 or 16: the bits), the band's width W as little-endian uint16 (0: the whole lattice), then deflated:
the steps of the band if there is one (`bands`), and int8 or little-endian int16 differences along time [2, U+1, T] or
[2, W, T] (`packing`). The frames and labels are not in it: the record has them.

Measured over log-odds from -12 to 12 (`tests/records/test_codecs.py` states and checks it):

| bits | mean KL(exact, stored) per node | largest | error of a log-prob x, at most |
|---|---|---|---|
| 8 | 1.1e-5 nats | 1.3e-4 nats | 0.016 (1 + |x|) |
| 16 | 2e-10 nats | 4e-8 nats | 6.1e-5 (1 + |x|) |

In a band the same holds of its nodes; the others come back as NEGATIVE_INFINITY in all three.
"""

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.lattice import NEGATIVE_INFINITY
from tf_rnnt_kd.records.codecs import bands, companding, packing
from tf_rnnt_kd.records.codecs.bands import StoredBand

_STEPS = {8: 127, 16: 32767}
_HEADER = 3


def encode_collapsed(
    blank: np.ndarray, *, label: np.ndarray, rest: np.ndarray, bits: int = 8, band: StoredBand | None = None
) -> bytes:
    """Log-probs of blank, label and rest, each [T, U+1], -> bytes. The label column at u = U is not read.

    The three need not be exactly normalised; what is stored is their proportion. Of a lattice with a band only the
    nodes in it are read.

    Raises:
        ValueError: `bits` is neither 8 nor 16, shapes differ, a node holds NaN, +inf or no mass at all, or the band is
            of another lattice.
    """
    if bits not in _STEPS:
        raise ValueError(f"bits must be 8 or 16, got {bits}")
    blank, label, rest = (np.asarray(array, np.float64) for array in (blank, label, rest))
    if blank.ndim != 2 or not blank.shape == label.shape == rest.shape:
        raise ValueError(f"blank, label, rest must all be [T, U+1], got {blank.shape}, {label.shape}, {rest.shape}")
    num_labels, width, start = blank.shape[1] - 1, 0, b""
    positions = np.broadcast_to(np.arange(num_labels + 1), blank.shape)
    if band is not None:
        blank, label, rest, positions = (bands.cut_to_band(x, band) for x in (blank, label, rest, positions))
        width, start = band.width, bands.encode_steps(band)
    log_odds = _log_odds(blank, np.where(positions == num_labels, -np.inf, label), rest, positions)
    log_odds[1][positions == num_labels] = 0.0
    codes = companding.compand(log_odds, steps=_STEPS[bits]).astype(packing.DTYPES[bits])
    header = bytes([bits]) + np.array(width, "<u2").tobytes()
    return header + packing.deflate(start + packing.differences(np.swapaxes(codes, 1, 2)))


def decode_collapsed(encoded: bytes, *, num_frames: int, num_labels: int) -> np.ndarray:
    """Bytes -> float32 [T, U+1, 3]: normalised log-probs of blank, label and rest.

    The label at u = U, and all three outside a band, are the lattice's NEGATIVE_INFINITY, which is finite.

    Raises:
        ValueError: the bytes are damaged, or of another number of frames and labels.
    """
    bits = encoded[0] if encoded else None
    if bits not in _STEPS or len(encoded) < _HEADER:
        raise ValueError(f"not a collapsed lattice: {len(encoded)} bytes that start with {encoded[:1]!r}")
    width = int.from_bytes(encoded[1:_HEADER], "little")
    payload = packing.inflate(encoded[_HEADER:], what="collapsed lattice")
    start = bands.STEP_BYTES * num_frames if width else 0
    shape = (2, width or num_labels + 1, num_frames)
    if len(payload) != start + np.prod(shape) * bits // 8:
        count = (len(payload) - start) * 4 // bits
        raise ValueError(f"a collapsed lattice of {count} nodes, expected {shape[2]} x {shape[1]}")
    codes = packing.sums(payload[start:], bits=bits, shape=shape)
    log_odds = companding.expand(np.swapaxes(codes, 1, 2), steps=_STEPS[bits])
    not_blank = -np.logaddexp(0, log_odds[0])
    blank = -np.logaddexp(0, -log_odds[0])
    label = not_blank - np.logaddexp(0, -log_odds[1])
    rest = not_blank - np.logaddexp(0, log_odds[1])
    nodes = np.stack([blank, label, rest], axis=-1)
    if width:
        band = StoredBand(bands.decode_steps(payload[:start]), width)
        nodes = bands.put_back(nodes, band, num_labels=num_labels, fill=NEGATIVE_INFINITY)
    last = nodes[:, -1]
    exists = last[:, 0] > NEGATIVE_INFINITY
    last[exists, 2] = np.logaddexp(last[exists, 1], last[exists, 2])
    last[:, 1] = NEGATIVE_INFINITY
    return nodes.astype(np.float32)


def decode_collapsed_tf(encoded: tf.Tensor, *, num_frames: tf.Tensor, num_labels: tf.Tensor) -> tf.Tensor:
    """`decode_collapsed` in graph: scalar string, scalar integers T and U -> float32 [T, U+1, 3].

    Damaged bytes and another number of nodes raise tf.errors.InvalidArgumentError or DataLossError when it runs.
    """
    num_frames, num_positions = tf.cast(num_frames, tf.int32), tf.cast(num_labels, tf.int32) + 1
    width = tf.cast(_number(encoded, 1, tf.uint16), tf.int32)
    start = tf.where(width > 0, bands.STEP_BYTES * num_frames, 0)
    payload = packing.inflate_tf(tf.strings.substr(encoded, _HEADER, -1))
    shape = tf.stack([2, tf.where(width > 0, width, num_positions), num_frames])

    def read(bits):
        codes = packing.sums_tf(tf.strings.substr(payload, start, -1), bits=bits, shape=shape)
        return companding.expand_tf(tf.transpose(codes, [0, 2, 1]), steps=_STEPS[bits])

    bits = _number(encoded, 0, tf.uint8)
    with tf.control_dependencies([tf.debugging.Assert((bits == 8) | (bits == 16), [bits])]):
        log_odds = tf.cond(bits == 8, lambda: read(8), lambda: read(16))
    not_blank, blank = tf.math.log_sigmoid(-log_odds[0]), tf.math.log_sigmoid(log_odds[0])
    label, rest = (not_blank + tf.math.log_sigmoid(sign * log_odds[1]) for sign in (1, -1))
    first = tf.cond(
        width > 0,
        lambda: bands.decode_steps_tf(tf.strings.substr(payload, 0, start)),
        lambda: tf.zeros([num_frames], tf.int32),
    )
    is_last = first[:, None] + tf.range(shape[1]) == num_positions - 1
    label, rest = tf.where(is_last, NEGATIVE_INFINITY, label), tf.where(is_last, not_blank, rest)
    nodes = tf.stack([blank, label, rest], axis=-1)
    return bands.put_back_tf(nodes, first, num_positions=num_positions, fill=NEGATIVE_INFINITY)


def _number(encoded, place, dtype):
    """A scalar of the header."""
    return tf.io.decode_raw(tf.strings.substr(encoded, place, dtype.size), dtype, little_endian=True)[0]


def _log_odds(blank, label, rest, positions):
    """[2, T, W] of log-probs [T, W]; `positions` says which u they are of."""
    with np.errstate(invalid="ignore"):
        total = np.logaddexp(blank, np.logaddexp(label, rest))
        if not np.isfinite(total).all():
            frame, place = np.argwhere(~np.isfinite(total))[0]
            node = f"(t={frame}, u={positions[frame, place]})"
            raise ValueError(f"node {node} has log mass {total[frame, place]}: not a distribution")
        log_odds = np.stack([blank - np.logaddexp(label, rest), label - rest])
    log_odds[1] = np.where(np.isnan(log_odds[1]), 0.0, log_odds[1])  # blank has all the mass: any split will do
    return log_odds
