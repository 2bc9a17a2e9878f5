"""A teacher and a student over the same ragged batch of lattices."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from lattice_batches import Batch, ragged_batch

from tf_rnnt_kd import lattice


class Pair(NamedTuple):
    batch: Batch
    teacher_logits: np.ndarray
    teacher: lattice.NodeLogProbs
    student: lattice.NodeLogProbs

    @property
    def lengths(self):
        return self.batch.lengths

    def crop(self, i, x):
        """Utterance i of [B, T, U+1, ...] without padding, float64."""
        t, u = self.batch.logit_lengths[i], self.batch.label_lengths[i]
        return np.asarray(x[i, :t, : u + 1], np.float64)


def make_pair(seed=0, *, dtype=np.float64, **kwargs):
    batch = ragged_batch(seed, dtype=dtype, **kwargs)
    teacher_logits = ragged_batch(seed + 1000, dtype=dtype, **kwargs).logits
    nodes = [
        lattice.node_log_probs_from_logits(logits, labels=batch.labels, **batch.lengths)
        for logits in (teacher_logits, batch.logits)
    ]
    return Pair(batch, teacher_logits, *nodes)


def value_and_gradient(loss, teacher, student):
    """loss(teacher, student) [B], and the gradients of its weighted sum to the teacher's and the student's tensors."""
    with tf.GradientTape() as tape:
        tape.watch([teacher, student])
        value = loss(teacher, student)
        finite = tf.where(tf.math.is_finite(value), value, tf.zeros_like(value))
        total = tf.reduce_sum(finite * tf.cast(tf.range(1, tf.size(value) + 1), value.dtype))
    return value, *tape.gradient(total, [teacher, student])
