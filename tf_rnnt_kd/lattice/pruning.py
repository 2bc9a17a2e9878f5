"""Pruned lattices (Kuang et al. 2022, arXiv 2206.13236): a cheap joiner says which label positions each frame needs.

    nodes = simple_nodes(am, lm, labels=labels, **lengths)              # logits am_t + lm_u: one product of matrices
    band = pruning_band(occupancies(nodes, **lengths), width=5, **lengths)
    nodes = node_log_probs(..., band=band, **lengths)                   # the real joint, `width` nodes a frame
"""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice.forward_backward import Occupancies
from tf_rnnt_kd.lattice.nodes import NEGATIVE_INFINITY, NodeLogProbs, dimension, lattice_float
from tf_rnnt_kd.lattice.tensors import TensorLike

OFF_CENTRE = 5e-4
"""What a window's centre may cost per label position: far above rounding, far below an alignment worth keeping."""


class Band(NamedTuple):
    """The nodes (t, u) with first[t] <= u < first[t] + width; all others count as not there.

    first: [B, T] int32, without gradient.
    width: int, label positions per frame; may exceed U+1.
    """

    first: tf.Tensor
    width: int


def band_mask(band: Band, *, num_positions: int | tf.Tensor) -> tf.Tensor:
    """[B, T, U+1] bool, True inside the band; num_positions: U + 1. Knows nothing of the utterances' lengths."""
    above = tf.range(num_positions) - tf.cast(band.first, tf.int32)[:, :, None]
    return (above >= 0) & (above < band.width)


def in_band(nodes: NodeLogProbs, band: Band) -> NodeLogProbs:
    """The nodes with NEGATIVE_INFINITY outside the band, as if they had been computed on the band only.

    Alignments that leave the band lose their probability; what is left is not normalised again (as published). A stored
    teacher goes on the student's band this way: where it has an alignment that the student lacks, losses on alignments
    would be infinite. Losses on single nodes leave out by themselves what either model lacks.

    Args:
      nodes: NodeLogProbs [B, T, U+1].
      band: Band of the same B and T.

    Returns:
      NodeLogProbs [B, T, U+1]; no gradient reaches nodes outside the band.
    """
    nodes = NodeLogProbs(*(lattice_float(x) for x in nodes))
    if not nodes.blank.shape[:2].is_compatible_with(band.first.shape):
        raise ValueError(f"a band of {band.first.shape} [B, T] does not fit nodes of {nodes.blank.shape} [B, T, U+1]")
    inside = band_mask(band, num_positions=dimension(nodes.blank, 2))
    return NodeLogProbs(*(tf.where(inside, x, tf.constant(NEGATIVE_INFINITY, x.dtype)) for x in nodes))


def pruning_band(occupancies: Occupancies, *, width: int, logit_lengths: TensorLike, label_lengths: TensorLike) -> Band:
    """The band that keeps most of the alignments' probability, frame by frame.

    At frame t an alignment stays in the window p <= u < p + width if its blank arc leaves from there and it did not
    come in by the label arc from (t, p-1); the window chosen has the largest

        sum of blank[t, p : p + width] - label[t, p-1]                              (as published)

    Peaked alignments fit into several windows equally well, and the real joint's may lie a little to either side of the
    simple one's: each position that a window's centre is off the mean position of the alignments costs it OFF_CENTRE of
    occupancy, for up to `width` positions. Then the windows are made admissible (the lower bound as published); in each
    utterance

        first[0] = 0; first[t] <= first[t+1] <= first[t] + width - 1 (neighbours overlap, so a blank leads on);
        first[T_b - 1] = max(U_b + 1 - width, 0), so that the last window ends with U_b; no window reaches beyond U_b
        unless U_b + 1 < width, where first is 0 throughout.

    So an alignment stays in the band, unless U_b > T_b (width - 1), when none can: the last window then does not reach
    U_b, and the band's lattice is impossible.

    Args:
      occupancies: Occupancies [B, T, U+1] of the simple lattice (or of a teacher).
      width: int >= 2. From U+1 on, nothing is pruned.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.

    Returns:
      Band, without gradient; the same rules hold on in the frames beyond T_b.

    Raises:
      ValueError: if width is below 2.
    """
    _check_width(width)
    blank, label = (tf.stop_gradient(tf.convert_to_tensor(x)) for x in occupancies)
    num_positions = dimension(blank, 2)
    positions = tf.range(num_positions)
    below = tf.pad(tf.cumsum(blank, axis=2), [[0, 0], [0, 0], [1, 0]])  # of the positions < u, for u = 0..U+1
    inside = tf.gather(below, tf.minimum(positions + width, num_positions), axis=2) - below[:, :, :-1]
    kept = inside - tf.pad(label[:, :, :-1], [[0, 0], [0, 0], [1, 0]])

    positions = tf.cast(positions, blank.dtype)
    mean = tf.reduce_sum(blank * positions, axis=2, keepdims=True)  # the frame's blank occupancies sum to 1
    off_centre = tf.minimum(tf.abs(positions + 0.5 * (width - 1) - mean), width)
    first = tf.argmax(kept - OFF_CENTRE * off_centre, axis=2, output_type=tf.int32)
    return Band(_admissible(first, width, logit_lengths, label_lengths), width)


def band_around(
    token_frames: TensorLike, *, width: int, num_frames: int | tf.Tensor, logit_lengths: TensorLike,
    label_lengths: TensorLike,
) -> Band:
    """The band centred on one alignment, such as a teacher's, whose bounds a student can share.

    Args:
      token_frames: [B, U] int, the frame at which each label is emitted (BestPath.token_frames); -1, anything negative,
        for labels that have none.
      width: int >= 2. The alignment stays inside if it emits fewer than `width` labels at every frame.
      num_frames: T, the padded number of frames.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.

    Returns:
      Band, admissible as described at `pruning_band`.

    Raises:
      ValueError: if width is below 2.
    """
    _check_width(width)
    token_frames = tf.cast(token_frames, tf.int32)
    emitted = tf.sequence_mask(tf.cast(label_lengths, tf.int32), dimension(token_frames, 1)) & (token_frames >= 0)
    frames = tf.range(num_frames)[None, :, None]
    enters = tf.reduce_sum(tf.cast(emitted[:, None] & (token_frames[:, None] < frames), tf.int32), axis=2)
    leaves = tf.reduce_sum(tf.cast(emitted[:, None] & (token_frames[:, None] <= frames), tf.int32), axis=2)
    first = tf.maximum((enters + leaves + 1 - width) // 2, 0)
    return Band(_admissible(first, width, logit_lengths, label_lengths), width)


def _check_width(width):
    if width < 2:
        raise ValueError(f"width={width}: a window holds at least 2 label positions, else no label arc lies inside")


def _admissible(first, width, logit_lengths, label_lengths):
    """The nearest windows [B, T] that keep the promises of `pruning_band`."""
    num_frames = dimension(first, 1)
    frames = tf.range(num_frames)
    last = tf.maximum(tf.cast(label_lengths, tf.int32) + 1 - width, 0)[:, None]
    first = tf.where(frames < tf.cast(logit_lengths, tf.int32)[:, None] - 1, tf.minimum(first, last), last)
    first = _minimum_from_here_on(first)
    # How far a window lies below the highest that climbs from position 0 by width - 1 a frame: this too never falls.
    slack = _minimum_from_here_on(frames * (width - 1) - first)
    return frames * (width - 1) - tf.maximum(slack, 0)


def _minimum_from_here_on(x):
    """[B, T] int -> min over t' >= t of x[:, t'], in log2(T) steps that double the distance looked ahead."""
    num_frames = dimension(x, 1)
    frames = tf.range(num_frames)

    def body(ahead, x):
        return 2 * ahead, tf.minimum(x, tf.gather(x, tf.minimum(frames + ahead, num_frames - 1), axis=1))

    return tf.while_loop(lambda ahead, _: ahead < num_frames, body, (1, x), parallel_iterations=1)[1]
