"""Full K-way soft distillation (papers.md 1.2 and section 7, rows 3 and 20), slice by slice over two joints."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tf_rnnt_kd.lattice.joint import Joint
from tf_rnnt_kd.lattice.pruning import Band
from tf_rnnt_kd.lattice.rows import compiled
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.losses import between_joints
from tf_rnnt_kd.losses.smoothing import resolve


def soft(
    teacher_joint: Joint | TensorLike,
    student_joint: Joint,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    temperature: float = 1.0,
    smoothing: Mapping[str, Any] | Callable[[tf.Tensor], tf.Tensor] | None = None,
    shift: int = 0,
    node_weights: TensorLike | None = None,
    reduction_over_nodes: str = "sum",
    band: Band | None = None,
) -> tf.Tensor:
    """sum over nodes of KL(P_T || P_S) over all V symbols.

    With temperature tau both distributions are softmax(z / tau); the value is not multiplied by tau^2. The gradient of
    a node's logits is weight x (P_S - P_T) / tau.

    Args:
      teacher_joint: lattice.Joint with the student's frames, labels and symbols but any width, or dense logits
        [B, T, U+1, V]; receives no gradient.
      student_joint: lattice.Joint.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      temperature: float > 0, of teacher and student.
      smoothing: rule for the teacher's distribution (after the temperature), see losses/smoothing.py, or None.
      shift: int frames: the teacher's node (t, u) is compared with the student's (t + shift, u); > 0 lets a streaming
        student be later. Frames without a partner are left out.
      node_weights: None, or [B, T, U+1] bool mask or float weights of the teacher's nodes; only nodes of nonzero weight
        are computed. With the teacher's node posteriors this is the occupancy-weighted loss.
      reduction_over_nodes: 'sum' (as published), 'mean' (divides by the sum of weights), 'per_frame' (divides by T_b).
      band: lattice.Band of the student's nodes to compare (papers.md 5.6), or None for all.

    Returns:
      [B] float32 (float64 if the student is), nats. Differentiable once.

    Raises:
      ValueError: if teacher and student do not fit, or for an unknown option.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be above 0")
    return between_joints.compare(
        teacher_joint,
        student_joint,
        _kl_rows(float(temperature), resolve(smoothing)),
        logit_lengths=logit_lengths,
        label_lengths=label_lengths,
        shift=shift,
        node_weights=node_weights,
        reduction_over_nodes=reduction_over_nodes,
        band=band,
    )


@functools.cache
def _kl_rows(temperature, smooth):
    @compiled
    def rows(student, teacher):
        student = tf.nn.log_softmax(student / temperature)
        teacher = tf.nn.log_softmax(teacher / temperature)
        if smooth is not None:
            teacher = smooth(teacher)
        probs = tf.exp(teacher)
        # A symbol that the teacher excludes costs nothing, whatever the student thinks of it.
        value = tf.where(probs > 0, probs * (teacher - student), tf.zeros([], student.dtype))
        return tf.reduce_sum(value, axis=1), (tf.exp(student) - probs) / temperature

    return rows

