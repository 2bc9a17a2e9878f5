"""Pruned RNN-T (Kuang et al. 2022, arXiv 2206.13236; papers.md 5.6): a simple joiner's loss beside the real one's.

Two projections to symbols, `am` of the encoder's output and `lm` of the prediction network's, are trained beside the
model. Their lattice costs one product of matrices, and says on which few label positions the real joint is needed:

    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    simple = lattice.simple_nodes(am, lm, labels=labels, lm_only_scale=0.25, **lengths)
    simple_log_prob, occupancies = lattice.forward_backward(simple, **lengths)
    band = lattice.pruning_band(occupancies, width=5, **lengths)
    student = lattice.node_log_probs(encoder, predictor, kernel, bias, labels=labels, band=band, **lengths)
    scales = losses.pruning_scales(step, warm_up_steps=2000)
    loss = losses.pruned_rnnt(simple, student, simple_log_prob=simple_log_prob, **scales._asdict(), **lengths)

Distillation on the band is any loss over nodes, given the teacher's nodes on the same band: `band=band` for a joint,
`lattice.in_band(teacher, band)` for stored nodes. For the teacher's bounds shared with the student, make the band from
the teacher's occupancies, or with `lattice.band_around` from its alignment.

These functions are no term of an `Objective`: they need two lattices of one model. Its terms take the pruned nodes as
`student` and the simple loss is added to their sum.
"""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses.rnnt import rnnt
from tf_rnnt_kd.losses.scores import or_infinite


class PruningScales(NamedTuple):
    """Weights of the two losses, by the names that `pruned_rnnt` gives them."""

    simple_scale: tf.Tensor
    pruned_scale: tf.Tensor


def pruned_rnnt(
    simple_nodes: NodeLogProbs,
    nodes: NodeLogProbs,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    simple_scale: float | tf.Tensor = 0.5,
    pruned_scale: float | tf.Tensor = 1.0,
    simple_log_prob: TensorLike | None = None,
) -> tf.Tensor:
    """simple_scale x (-log P_simple(y|x)) + pruned_scale x (-log P(y|x) over the alignments inside the band).

    The second term is never below `rnnt` of the whole lattice, and equal to it for a band as wide as the lattice.

    Args:
      simple_nodes: NodeLogProbs [B, T, U+1], lattice.simple_nodes.
      nodes: NodeLogProbs [B, T, U+1] of the real joint, NEGATIVE_INFINITY outside the band.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      simple_scale: number or scalar tensor.
      pruned_scale: number or scalar tensor.
      simple_log_prob: [B] lattice.full_sum of simple_nodes if at hand, to save a scan.

    Returns:
      [B] float32, natural log; +inf with gradient 0, that of the other part included, where a part of nonzero scale has
      no alignment (a transcript too long for the band, say).
    """
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    if simple_log_prob is None:
        simple_log_prob = lattice.full_sum(simple_nodes, **lengths)
    pruned = rnnt(nodes, **lengths)
    total = _scaled(-tf.cast(simple_log_prob, pruned.dtype), simple_scale) + _scaled(pruned, pruned_scale)
    return or_infinite(~tf.math.is_inf(total), total)


def pruning_scales(step: int | tf.Tensor, *, warm_up_steps: float, simple_loss_scale: float = 0.5) -> PruningScales:
    """The published schedule: the band is worth little until the simple joiner has learned to align.

    simple_scale goes from 1 to simple_loss_scale and pruned_scale from 0.1 to 1, linearly over warm_up_steps.

    Args:
      step: number or scalar tensor, training steps done.
      warm_up_steps: number >= 0; 2000 is published. 0 gives the final scales.
      simple_loss_scale: float, 0.5 as published.

    Returns:
      PruningScales of scalar float32 tensors.

    Raises:
      ValueError: if warm_up_steps is negative.
    """
    if warm_up_steps < 0:
        raise ValueError(f"warm_up_steps={warm_up_steps} must be at least 0")
    done = tf.clip_by_value(tf.cast(step, tf.float32) / warm_up_steps, 0.0, 1.0) if warm_up_steps else tf.ones([])
    return PruningScales(1.0 - (1.0 - simple_loss_scale) * done, 0.1 + 0.9 * done)


def _scaled(loss, scale):
    return tf.math.multiply_no_nan(loss, tf.cast(scale, loss.dtype))
