"""Sums over all alignments: log P(y|x), arc occupancies, expectations of path sums; with their exact gradients."""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice.diagonals import Arcs, path_moments, path_scores
from tf_rnnt_kd.lattice.nodes import IMPOSSIBLE, NEGATIVE_INFINITY, NodeLogProbs, mask_nodes, poison
from tf_rnnt_kd.lattice.tensors import TensorLike


class Occupancies(NamedTuple):
    """Posterior probability that an alignment of y uses the arc that leaves node (t, u).

    blank: [B, T, U+1]; sums to the number of frames T_b of the utterance.
    label: [B, T, U+1]; sums to the number of its labels U_b.

    Their sum is the posterior of the node. All 0 for an impossible transcript and outside the utterance's lattice.
    """

    blank: tf.Tensor
    label: tf.Tensor


def full_sum(nodes: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike) -> tf.Tensor:
    """log P(y|x), the log of the sum over all alignments.

    Args:
      nodes: NodeLogProbs [B, T, U+1]; anything may stand in the padding.
      logit_lengths: [B] int, frames. 0 frames and 0 labels give 0 (a dummy row of a padded batch).
      label_lengths: [B] int, labels.

    Returns:
      [B] natural log, float32 (float64 for float64 nodes); -inf for a transcript without any possible alignment. The
      gradient with respect to an arc's log-probability is the arc's occupancy; 0 for an impossible transcript,
      whatever comes from above.
    """
    return forward_backward(nodes, logit_lengths=logit_lengths, label_lengths=label_lengths)[0]


def forward_backward(
    nodes: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike
) -> tuple[tf.Tensor, Occupancies]:
    """`full_sum` and, from the same scan, `occupancies` as constants: (log_prob [B], Occupancies)."""
    arcs, dtype, lengths = _arcs(nodes, logit_lengths, label_lengths)

    @tf.custom_gradient
    def run(blank, label):
        log_prob, possible, occupancies = _sums(Arcs(blank, label), lengths)

        def gradient(upstream, *_):
            upstream = tf.where(possible, upstream, tf.zeros([], upstream.dtype))[:, None, None]
            return upstream * occupancies.blank, upstream * occupancies.label

        return (tf.where(possible, log_prob, tf.constant(-float("inf"), log_prob.dtype)), *occupancies), gradient

    log_prob, *occupied = run(*arcs)
    occupancies = Occupancies(*(tf.stop_gradient(tf.cast(x, dtype)) for x in occupied))
    return tf.cast(log_prob, dtype), occupancies


def is_possible(nodes: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike) -> tf.Tensor:
    """[B] bool: False where no alignment has a probability above 0 (its loss is +inf and its gradient 0)."""
    return tf.math.is_finite(full_sum(nodes, logit_lengths=logit_lengths, label_lengths=label_lengths))


def occupancies(nodes: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike) -> Occupancies:
    """Arc posteriors given y.

    Args:
      nodes: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.

    Returns:
      Occupancies [B, T, U+1], float32 (float64 for float64 nodes). Differentiable once: the gradient of arc a's
      occupancy with respect to arc c's log-probability is the covariance of the two arcs' indicators.
    """
    arcs, dtype, lengths = _arcs(nodes, logit_lengths, label_lengths)

    @tf.custom_gradient
    def run(blank, label):
        arcs = Arcs(blank, label)
        result = _sums(arcs, lengths)[2]

        def gradient(*upstream):
            return _expectation(arcs, Arcs(*upstream), lengths)[2]

        return tuple(result), gradient

    return Occupancies(*(tf.cast(x, dtype) for x in run(*arcs)))


def path_expectation(
    nodes: NodeLogProbs, blank_values: TensorLike, label_values: TensorLike, *, logit_lengths: TensorLike,
    label_lengths: TensorLike,
) -> tf.Tensor:
    """Mean, over the alignments of y weighted by their posterior, of the sum of a value per arc along the alignment.

    Args:
      nodes: NodeLogProbs [B, T, U+1].
      blank_values: [B, T, U+1] finite value of each blank arc.
      label_values: [B, T, U+1] finite value of each label arc.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.

    Returns:
      [B], 0 for an impossible transcript. Differentiable once in the values (gradient: the arc's occupancy) and in the
      nodes' log-probabilities (gradient: the covariance of the arc's use and the path's sum).
    """
    arcs, dtype, lengths = _arcs(nodes, logit_lengths, label_lengths)
    exists = [x > IMPOSSIBLE for x in arcs]
    wide = (tf.cast(x, tf.float64) for x in (blank_values, label_values))
    values = [tf.where(keep, x, tf.zeros([], x.dtype)) for keep, x in zip(exists, wide, strict=True)]

    @tf.custom_gradient
    def run(blank, label, blank_values, label_values):
        mean, used, covariances = _expectation(Arcs(blank, label), Arcs(blank_values, label_values), lengths)

        def gradient(upstream):
            return tuple(upstream[:, None, None] * x for x in (*covariances, *used))

        return mean, gradient

    return tf.cast(run(*arcs, *values), dtype)


def _arcs(nodes, logit_lengths, label_lengths):
    nodes = mask_nodes(nodes, logit_lengths=logit_lengths, label_lengths=label_lengths)
    lengths = tf.cast(logit_lengths, tf.int32), tf.cast(label_lengths, tf.int32)
    return Arcs(*(tf.cast(x, tf.float64) for x in (nodes.blank, nodes.label))), nodes.blank.dtype, lengths


def _sums(arcs, lengths):
    """(log_prob, possible, Occupancies), float64; log_prob is 0 where not possible."""
    return _posteriors(arcs, *path_scores(arcs, *lengths))


def _posteriors(arcs, alpha, beta):
    broken = tf.reduce_any([tf.reduce_any(tf.math.is_nan(x), axis=[1, 2]) for x in arcs], axis=0)
    score = poison(beta[:, 0, 0], broken)
    possible = broken | (score > IMPOSSIBLE)
    log_prob = tf.where(possible, score, tf.zeros([], score.dtype))
    before = alpha[:, :-1] - log_prob[:, None, None]
    after_label = tf.pad(beta[:, :-1, 1:], [[0, 0], [0, 0], [0, 1]], constant_values=NEGATIVE_INFINITY)
    used = tf.exp(before + arcs.blank + beta[:, 1:]), tf.exp(before + arcs.label + after_label)
    keep = possible[:, None, None]
    return log_prob, possible, Occupancies(*(tf.where(keep, x, tf.zeros([], x.dtype)) for x in used))


def _expectation(arcs, values, lengths):
    """(mean [B], Occupancies, covariance of each arc's indicator with the path's sum), float64."""
    alpha, beta, alpha_mean, beta_mean = path_moments(arcs, values, *lengths)
    _, possible, used = _posteriors(arcs, alpha, beta)
    mean = tf.where(possible, beta_mean[:, 0, 0], tf.zeros_like(beta_mean[:, 0, 0]))
    before = alpha_mean[:, :-1] - mean[:, None, None]
    after_label = tf.pad(beta_mean[:, :-1, 1:], [[0, 0], [0, 0], [0, 1]])
    covariances = (
        used.blank * (before + values.blank + beta_mean[:, 1:]),
        used.label * (before + values.label + after_label),
    )
    return mean, used, covariances
