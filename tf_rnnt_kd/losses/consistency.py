"""Consistency of two modes of one model, e.g. full-context and streaming (papers.md section 7, row 25)."""

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses.collapsed import collapsed


def symmetric_consistency(
    first: NodeLogProbs, second: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike, shift: int = 0,
    node_weights: TensorLike | None = None, reduction_over_nodes: str = "sum",
) -> tf.Tensor:
    """0.5 KL(first || second) + 0.5 KL(second || first), the three-way KL of `collapsed`, added up over the lattice.

    In each half the distribution on the left is held constant, as a teacher is, so that each mode learns from the
    other; the value is symmetric.

    Args:
      first: NodeLogProbs [B, T, U+1].
      second: NodeLogProbs [B, T, U+1] of the same weights in another mode, over the same labels and frames.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shift: int frames: the node (t, u) of `first` is compared with (t + shift, u) of `second` in both halves; > 0 lets
        `second` be later. Frames without a partner are left out.
      node_weights: None, or [B, T, U+1] bool mask or float weights of the nodes of `first`; a pair has the same weight
        in both halves.
      reduction_over_nodes: 'sum', 'mean' (divides by the sum of weights), 'per_frame' (divides by T_b).

    Returns:
      [B] float32, nats. Both `first` and `second` receive gradients.
    """
    shift = int(shift)
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    # What rolls round belongs to frames of `second` that have no partner.
    moved_weights = None if node_weights is None else tf.roll(node_weights, shift, axis=1)
    halves = [
        collapsed(*pair, shift=by, node_weights=weights, reduction_over_nodes=reduction_over_nodes, **lengths)
        for pair, by, weights in (((first, second), shift, node_weights), ((second, first), -shift, moved_weights))
    ]
    return 0.5 * (halves[0] + halves[1])
