"""Which of the teacher's nodes count, and how much: rows 6 to 8 of papers.md section 7 for any loss over nodes."""

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.losses import over_nodes

KINDS = ("posterior", "live", "best_path")


def teacher_weights(
    teacher, kind, *, logit_lengths, label_lengths, threshold=1e-3, teacher_occupancies=None, node_weights=None
):
    """Weights for `node_weights` of any loss over nodes.

    Args:
      teacher: NodeLogProbs [B, T, U+1].
      kind: 'posterior': the probability that one of the teacher's alignments visits the node; 'live': 1 where that
        exceeds `threshold`, else 0 (node masking after Kurata and Saon 2020); 'best_path': 1 on the nodes of the
        teacher's best alignment, else 0 (Yang et al. 2021).
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      threshold: of 'live', in 0..1.
      teacher_occupancies: lattice.Occupancies of the teacher if at hand.
      node_weights: [B, T, U+1] to multiply with, or None.

    Returns:
      [B, T, U+1] float, without gradient.
    """
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    if kind == "best_path":
        weights = lattice.viterbi(teacher, **lengths).nodes
    elif kind in KINDS:
        weights = over_nodes.node_posterior(teacher, teacher_occupancies, **lengths)
        weights = weights > threshold if kind == "live" else weights
    else:
        raise ValueError(f"weights of kind {kind!r} are not among {', '.join(KINDS)}")
    return tf.stop_gradient(over_nodes.both_weights(weights, node_weights))
