"""Collapsed distillation with one time shift chosen per utterance (papers.md section 7, row 11)."""

from collections.abc import Sequence

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import NodeLogProbs
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses import over_nodes


def best_shift(
    teacher: NodeLogProbs,
    student: NodeLogProbs,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    shifts: Sequence[int] = (0, 1, 2, 3),
    node_weights: TensorLike | None = None,
    reduction_over_nodes: str = "sum",
) -> tf.Tensor:
    """The collapsed loss at the shift whose mean KL per compared node is smallest; of equals, the first listed.

    Less degenerate than `window_min`: the whole utterance moves together.

    Args:
      teacher: NodeLogProbs [B, T, U+1]; receives no gradient.
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shifts: ints, frames; > 0 lets the student be later. Shifts as long as the utterance do not count.
      node_weights: None, or [B, T, U+1] weights of the teacher's nodes.
      reduction_over_nodes: 'sum', 'mean', 'per_frame', of the chosen shift's compared nodes.

    Returns:
      [B] float32, nats; 0 if no shift counts. The gradient goes to the chosen shift.
    """
    over_nodes.check_reduction(reduction_over_nodes)
    values, means = [], []
    for shift in over_nodes.check_shifts(shifts):
        pair = over_nodes.compare(
            teacher, student, logit_lengths=logit_lengths, label_lengths=label_lengths, shift=shift
        )
        kl = over_nodes.kl(pair.teacher, pair.student)
        options = {"mask": pair.mask, "logit_lengths": logit_lengths, "node_weights": node_weights}
        values.append(over_nodes.reduce_nodes(kl, reduction_over_nodes=reduction_over_nodes, **options))
        mean = over_nodes.reduce_nodes(kl, reduction_over_nodes="mean", **options)
        # Nothing compared would look like a perfect match.
        means.append(tf.where(tf.reduce_any(pair.mask, axis=[1, 2]), mean, mean.dtype.max))
    chosen = tf.argmin(tf.stop_gradient(tf.stack(means)), axis=0)
    return tf.gather(tf.stack(values, axis=1), chosen, batch_dims=1)
