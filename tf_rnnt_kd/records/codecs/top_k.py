"""The K most probable symbols of each node, their log-probs, and the log of the mass of all others.

Stored of p_1 >= p_2 >= ... >= p_K and the rest r are K log-odds, companded as `companding` says, in unsigned bytes:
log p_1 - log p_i for i = 2..K, from 0 up, and log r - log p_1, of either sign. Nothing is stored of p_1: it follows as

    log p_1 = -log(1 + sum over i of p_i / p_1 + r / p_1),

so that all K + 1 masses sum to one whatever was rounded, and the rest is never 1 - p. Code 0 of the rest says that it
has no mass at all, as for K = V. float16 log-probs would take twice the bytes, and sum to one less well than this.

| mean KL(exact, stored) per node | largest | error of a log-prob x, at most |
|---|---|---|
| 4e-5 nats | 3e-4 nats | 0.015 (1 + |x|) |

(K = 8 of 40 symbols, from flat nodes to sure ones; `tests/records/test_top_k_codec.py` states and checks it.)

Layout: one byte (bytes per symbol, 1 for V <= 256, else 2), K and the band's width W (0: the whole lattice) as
little-endian uint16, then deflated: the steps of the band if there is one, the symbols [K, U+1 or W, T] as they are
(they repeat), and the codes [K, U+1 or W, T] as differences along time (`packing`).
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.lattice import NEGATIVE_INFINITY
from tf_rnnt_kd.records.codecs import bands, companding, packing
from tf_rnnt_kd.records.codecs.bands import StoredBand

_HEADER = 5
_DOWN_STEPS = 255  # of log p_1 - log p_i
_REST_STEPS = 127  # of log r - log p_1, round the code 128
_REST_ZERO = 128


class StoredTopK(NamedTuple):
    """One utterance's K best symbols, as `lattice.TopK`: int32 [T, U+1, K], float32 [T, U+1, K] and [T, U+1]."""

    symbols: np.ndarray
    log_probs: np.ndarray
    rest: np.ndarray


def encode_top_k(
    symbols: np.ndarray, *, log_probs: np.ndarray, rest: np.ndarray, vocab_size: int, band: StoredBand | None = None
) -> bytes:
    """Symbols and log-probs [T, U+1, K], most probable first, and the rest [T, U+1] -> bytes.

    They need not be exactly normalised; what is stored is their proportion. Of a lattice with a band only the nodes in
    it are read.

    Raises:
        ValueError: shapes differ, symbols are out of range, V is above 65,535, a node holds NaN, +inf or no mass in its
            first symbol, its symbols are not in order, or the band is of another lattice.
    """
    symbols, rest = np.asarray(symbols), np.asarray(rest, np.float64)
    log_probs = np.maximum(np.asarray(log_probs, np.float64), NEGATIVE_INFINITY)
    if symbols.ndim != 3 or symbols.shape != log_probs.shape or rest.shape != symbols.shape[:2] or not symbols.size:
        raise ValueError(
            "symbols and log_probs must be [T, U+1, K] and rest [T, U+1], got "
            f"{symbols.shape}, {log_probs.shape}, {rest.shape}"
        )
    if vocab_size > bands.LARGEST_NUMBER:
        raise ValueError(f"top_k is for at most {bands.LARGEST_NUMBER} symbols, this vocabulary has {vocab_size}")
    start, width = b"", 0
    if band is not None:
        symbols, log_probs, rest = (bands.cut_to_band(x, band) for x in (symbols, log_probs, rest))
        start, width = bands.encode_steps(band), band.width
    best = log_probs[..., 0]
    good = np.isfinite(best) & (best > NEGATIVE_INFINITY / 2) & ~np.isnan(rest) & (rest < np.inf)
    good &= ~np.isnan(log_probs).any(-1) & (np.diff(log_probs, axis=-1) <= 0).all(-1)
    good &= ((symbols >= 0) & (symbols < vocab_size)).all(-1)
    if not good.all():
        frame, place = np.argwhere(~good)[0]
        found = f"{symbols[frame, place]} with {log_probs[frame, place]}, rest {rest[frame, place]}"
        raise ValueError(f"frame {frame} holds no K best of {vocab_size} symbols, most probable first: {found}")
    down = companding.compand(best[..., None] - log_probs[..., 1:], steps=_DOWN_STEPS)
    others = companding.compand(rest - best, steps=_REST_STEPS) + _REST_ZERO
    others = np.where(rest <= NEGATIVE_INFINITY / 2, 0, others)
    codes = np.concatenate([down, others[..., None]], axis=-1)
    symbol_bytes = 1 if vocab_size <= 256 else 2
    header = bytes([symbol_bytes]) + np.array([symbols.shape[-1], width], "<u2").tobytes()
    symbols, codes = symbols.T.astype(f"<u{symbol_bytes}"), codes.T.astype(np.uint8).view(np.int8)
    return header + packing.deflate(start + symbols.tobytes() + packing.differences(codes))


def decode_top_k(encoded: bytes, *, num_frames: int, num_labels: int) -> StoredTopK:
    """Bytes -> the K best symbols, their normalised log-probs and the rest's.

    Nodes outside a band hold the symbols 0..K-1 with NEGATIVE_INFINITY; so does the rest where it has no mass.

    Raises:
        ValueError: the bytes are damaged, or of another number of frames and labels.
    """
    if len(encoded) < _HEADER or encoded[0] not in (1, 2):
        raise ValueError(f"not the K best symbols: {len(encoded)} bytes that start with {encoded[:1]!r}")
    symbol_bytes, (k, width) = encoded[0], np.frombuffer(encoded[1:_HEADER], "<u2").astype(int)
    payload = packing.inflate(encoded[_HEADER:], what="top_k lattice")
    start = bands.STEP_BYTES * num_frames if width else 0
    shape = (int(k), int(width) or num_labels + 1, num_frames)
    middle = start + int(np.prod(shape)) * symbol_bytes
    if len(payload) != middle + np.prod(shape):
        wanted = f"{k} symbols at {num_frames} x {shape[1]} nodes"
        raise ValueError(f"{len(payload)} bytes of top_k, expected those of {wanted}")
    symbols = np.frombuffer(payload[start:middle], f"<u{symbol_bytes}").reshape(shape)
    codes = packing.sums(payload[middle:], bits=8, shape=shape).view(np.uint8)
    down = companding.expand(codes[:-1], steps=_DOWN_STEPS)
    others = companding.expand(codes[-1].astype(int) - _REST_ZERO, steps=_REST_STEPS)
    others = np.where(codes[-1] == 0, -np.inf, others)
    best = -np.logaddexp.reduce(np.concatenate([np.zeros_like(others)[None], -down, others[None]]), axis=0)
    log_probs = np.concatenate([best[None], best - down])
    rest = np.where(codes[-1] == 0, NEGATIVE_INFINITY, best + others)
    found = StoredTopK(
        symbols.T.astype(np.int32), log_probs.T.astype(np.float32), rest.T.astype(np.float32)
    )
    if not width:
        return found
    band = StoredBand(bands.decode_steps(payload[:start]), int(width))
    fills: tuple[float | np.ndarray, ...] = (np.arange(k, dtype=np.int32), NEGATIVE_INFINITY, NEGATIVE_INFINITY)
    return StoredTopK(
        *(bands.put_back(x, band, num_labels=num_labels, fill=f) for x, f in zip(found, fills, strict=True))
    )


def top_k_size(encoded: bytes) -> int:
    """K of encoded bytes."""
    return int.from_bytes(encoded[1:3], "little")


def decode_top_k_tf(encoded: tf.Tensor, *, num_frames: tf.Tensor, num_labels: tf.Tensor) -> StoredTopK:
    """`decode_top_k` in graph: scalar string, scalar integers T and U -> tensors.

    Damage and another number of nodes raise tf.errors.InvalidArgumentError or DataLossError when it runs.
    """
    num_frames, num_positions = tf.cast(num_frames, tf.int32), tf.cast(num_labels, tf.int32) + 1
    symbol_bytes = tf.io.decode_raw(tf.strings.substr(encoded, 0, 1), tf.uint8)[0]
    k, width = tf.unstack(
        tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 1, 4), tf.uint16, little_endian=True), tf.int32), num=2
    )
    payload = packing.inflate_tf(tf.strings.substr(encoded, _HEADER, -1))
    start = tf.where(width > 0, bands.STEP_BYTES * num_frames, 0)
    shape = tf.stack([k, tf.where(width > 0, width, num_positions), num_frames])
    middle = start + tf.reduce_prod(shape) * tf.cast(symbol_bytes, tf.int32)

    def read_symbols(dtype):
        raw = tf.strings.substr(payload, start, middle - start)
        return tf.reshape(tf.cast(tf.io.decode_raw(raw, dtype, little_endian=True), tf.int32), shape)

    with tf.control_dependencies([tf.debugging.Assert((symbol_bytes == 1) | (symbol_bytes == 2), [symbol_bytes])]):
        symbols = tf.cond(symbol_bytes == 1, lambda: read_symbols(tf.uint8), lambda: read_symbols(tf.uint16))
    raw = tf.strings.substr(payload, middle, -1)
    codes = tf.math.floormod(packing.sums_tf(raw, bits=8, shape=shape), 256)
    nothing = codes[-1] == 0
    down = companding.expand_tf(codes[:-1], steps=_DOWN_STEPS)
    others = companding.expand_tf(codes[-1] - _REST_ZERO, steps=_REST_STEPS)
    others = tf.where(nothing, NEGATIVE_INFINITY, others)
    best = -tf.reduce_logsumexp(tf.concat([tf.zeros_like(others)[None], -down, others[None]], 0), axis=0)
    log_probs = tf.concat([best[None], best - down], 0)
    found = (
        tf.transpose(symbols),
        tf.transpose(log_probs),
        tf.transpose(tf.where(nothing, NEGATIVE_INFINITY, best + others)),
    )
    first = tf.cond(
        width > 0,
        lambda: bands.decode_steps_tf(tf.strings.substr(payload, 0, start)),
        lambda: tf.zeros([num_frames], tf.int32),
    )
    fills = (tf.range(k), NEGATIVE_INFINITY, NEGATIVE_INFINITY)
    return StoredTopK(
        *(bands.put_back_tf(x, first, num_positions=num_positions, fill=f) for x, f in zip(found, fills, strict=True))
    )
