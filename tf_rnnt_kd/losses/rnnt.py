"""The RNN-T loss (Graves 2012), with FastEmit (Yu et al. 2021)."""

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike


def rnnt(
    nodes: NodeLogProbs, *, logit_lengths: TensorLike, label_lengths: TensorLike, fastemit_lambda: float = 0.0
) -> tf.Tensor:
    """-log P(y|x).

    Args:
      nodes: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      fastemit_lambda: every label arc's gradient is multiplied by 1 + fastemit_lambda (papers.md 5.8); the value and
        the blank arcs' gradient do not change.

    Returns:
      [B] float32, natural log; +inf with gradient 0 for an impossible transcript (lattice.is_possible tells them).
    """
    if fastemit_lambda:
        nodes = nodes._replace(label=scale_gradient(nodes.label, 1.0 + fastemit_lambda))
    return -lattice.full_sum(nodes, logit_lengths=logit_lengths, label_lengths=label_lengths)


def rnnt_loss(
    logits: TensorLike, *, labels: TensorLike, logit_lengths: TensorLike, label_lengths: TensorLike,
    blank_index: int = 0, fastemit_lambda: float = 0.0,
) -> tf.Tensor:
    """-log P(y|x) from dense logits [B, T, U+1, V] (need not be normalised); see `rnnt` and, for the arguments,
    `lattice.node_log_probs_from_logits`. Returns [B] float32."""
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    nodes = lattice.node_log_probs_from_logits(logits, labels=labels, blank_index=blank_index, **lengths)
    return rnnt(nodes, fastemit_lambda=fastemit_lambda, **lengths)


def scale_gradient(tensor, factor):
    """The tensor itself, bit for bit, with its gradient multiplied by the number `factor`."""

    @tf.custom_gradient
    def run(x):
        return tf.identity(x), lambda upstream: upstream * tf.constant(factor, upstream.dtype)

    return run(tensor)
