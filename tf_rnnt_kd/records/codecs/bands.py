"""The part of a lattice that lies near the teacher's alignment: W label positions at each frame.

A band is stored with the numbers in it, as the steps between the first positions of its windows, 2 bytes a frame before
compression. Nodes outside are not stored; they come back as nodes that do not exist, as `lattice.in_band` leaves them:
losses on nodes pass over them, and no alignment leads through them.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_rnnt_kd import lattice

LARGEST_NUMBER = 2**16 - 1  # of label positions, symbols and the like in a header
STEP_BYTES = 2


class StoredBand(NamedTuple):
    """The nodes (t, u) of one utterance with first[t] <= u < first[t] + width.

    first: int32 [T], never falling. width: label positions per frame, at most U+1; no window reaches beyond U.
    """

    first: np.ndarray
    width: int


def band_around(token_frames: np.ndarray, *, width: int, num_frames: int) -> StoredBand | None:
    """The band of `width` positions centred on an alignment, which it holds as a whole.

    Where the alignment emits `width` labels or more at one frame, no such band can hold it: the utterance's is wider.

    Args:
        token_frames: int [U], the frame at which each label is emitted; negative if there is no alignment.
        width: 2 or more.
        num_frames: T.

    Returns:
        The band, or None where it would be the whole lattice, or there is no alignment.
    """
    token_frames = np.asarray(token_frames)
    if not len(token_frames) or token_frames.min() < 0:
        return None
    width = max(width, int(np.bincount(token_frames).max()) + 1)
    if width > len(token_frames):
        return None
    band = lattice.band_around(
        token_frames[None].astype(np.int32),
        width=width,
        num_frames=num_frames,
        logit_lengths=[num_frames],
        label_lengths=[len(token_frames)],
    )
    return StoredBand(band.first[0].numpy(), width)


def cut_to_band(array: np.ndarray, band: StoredBand) -> np.ndarray:
    """[T, U+1, ...] -> [T, W, ...].

    Raises:
        ValueError: the band is of another lattice.
    """
    first = np.asarray(band.first)
    fits = first.shape == array.shape[:1] and 1 <= band.width <= array.shape[1]
    if not fits or first.min() < 0 or first.max() + band.width > array.shape[1] or (np.diff(first) < 0).any():
        raise ValueError(f"a band of {len(first)} windows of {band.width} does not fit a lattice {array.shape[:2]}")
    positions = first[:, None] + np.arange(band.width)
    return np.take_along_axis(array, positions.reshape(positions.shape + (1,) * (array.ndim - 2)), axis=1)


def put_back(array: np.ndarray, band: StoredBand, *, num_labels: int, fill: float | np.ndarray) -> np.ndarray:
    """[T, W, ...] -> [T, U+1, ...] with `fill` (of the shape ..., or a number) outside the band."""
    positions = np.asarray(band.first)[:, None] + np.arange(band.width)
    whole = np.empty([len(array), num_labels + 1, *array.shape[2:]], array.dtype)
    whole[:] = fill
    np.put_along_axis(whole, positions.reshape(positions.shape + (1,) * (array.ndim - 2)), array, axis=1)
    return whole


def put_back_tf(array: tf.Tensor, first: tf.Tensor, *, num_positions: tf.Tensor, fill) -> tf.Tensor:
    """`put_back` in graph: [T, W, ...], int32 [T], scalar U+1 -> [T, U+1, ...]."""
    width = tf.shape(array)[1]
    offset = tf.range(num_positions) - first[:, None]
    inside = (offset >= 0) & (offset < width)
    spread = tf.gather(array, tf.clip_by_value(offset, 0, width - 1), axis=1, batch_dims=1)
    inside = tf.reshape(inside, tf.concat([tf.shape(inside), tf.ones([array.shape.rank - 2], tf.int32)], 0))
    return tf.where(inside, spread, tf.cast(fill, array.dtype))


def encode_steps(band: StoredBand) -> bytes:
    """The first positions as little-endian uint16 steps from one to the next: 2 T bytes."""
    steps = np.diff(np.asarray(band.first, np.int64), prepend=0)
    if steps.max(initial=0) > LARGEST_NUMBER:
        raise ValueError(f"a band that climbs {steps.max()} positions in one frame: at most {LARGEST_NUMBER}")
    return steps.astype("<u2").tobytes()


def decode_steps(encoded: bytes) -> np.ndarray:
    """2 T bytes -> first positions, int32 [T]."""
    return np.cumsum(np.frombuffer(encoded, "<u2"), dtype=np.int32)


def decode_steps_tf(encoded: tf.Tensor) -> tf.Tensor:
    """`decode_steps` in graph."""
    return tf.cumsum(tf.cast(tf.io.decode_raw(encoded, tf.uint16, little_endian=True), tf.int32))
