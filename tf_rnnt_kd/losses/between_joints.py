"""What the losses over whole distributions share: which nodes are compared, with which weight, and the reduction."""

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.lattice import joint as lattice_joint
from tf_rnnt_kd.lattice import local
from tf_rnnt_kd.lattice.nodes import poison
from tf_rnnt_kd.losses import over_nodes


def compare(
    target,
    student,
    row_function,
    *,
    logit_lengths,
    label_lengths,
    shift,
    node_weights,
    reduction_over_nodes,
    band,
):
    """[B], the reduced sum over nodes of `row_function`.

    Args:
      target: lattice.local.Target, or a teacher's lattice.Joint, or its dense logits [B, T, U+1, V].
      student: lattice.Joint.
      row_function: see lattice.local.sum_over_nodes.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shift: int frames: the teacher's node (t, u) is compared with the student's (t + shift, u).
      node_weights: None, or [B, T, U+1] weights of the teacher's nodes; only nodes of nonzero weight are computed.
      reduction_over_nodes: 'sum', 'mean' (divides by the sum of weights), 'per_frame' (divides by T_b).
      band: lattice.Band of the student's nodes, or None.
    """
    over_nodes.check_reduction(reduction_over_nodes)
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    student = lattice_joint.prepare(student)
    num_frames, num_positions = tf.shape(student.encoder)[1], tf.shape(student.predictor)[1]
    exists = lattice.node_mask(**lengths, num_frames=num_frames, num_positions=num_positions)
    weights = tf.cast(exists, student.encoder.dtype)
    if node_weights is not None:
        weights = tf.where(exists, tf.cast(node_weights, weights.dtype), 0)
    # From the teacher's frames to the student's.
    weights = tf.where(exists, over_nodes.advance(weights, -int(shift), 0), 0)
    if band is not None:
        weights = tf.where(lattice.band_mask(band, num_positions=num_positions), weights, 0)
    total = local.sum_over_nodes(
        student, _as_target(target, student, exists), row_function, weights=weights, shift=int(shift)
    )
    total = poison(total, lattice_joint.is_broken(student, **lengths))
    weights = tf.stop_gradient(weights)
    return over_nodes.reduce_total(
        total, weights=weights, logit_lengths=logit_lengths, reduction_over_nodes=reduction_over_nodes
    )


def _as_target(teacher, student, exists):
    if isinstance(teacher, local.Target):
        return teacher
    dtype = student.encoder.dtype
    if not isinstance(teacher, lattice.Joint):
        teacher = tf.cast(teacher, dtype)
        if teacher.shape.rank != 4 or not teacher.shape[3:].is_compatible_with(student.bias.shape):
            raise ValueError(
                f"a teacher is a Joint or dense logits [B, T, U+1, V={student.bias.shape[0]}], got {teacher.shape}"
            )
        return local.node_target(teacher)
    teacher = lattice_joint.prepare(teacher)
    sizes = [(x.encoder.shape[1], x.predictor.shape[1], x.bias.shape[0]) for x in (teacher, student)]
    if any(None not in pair and pair[0] != pair[1] for pair in zip(*sizes, strict=True)):
        raise ValueError(
            f"teacher and student have {sizes[0]} and {sizes[1]} (frames, label positions, symbols): losses over nodes "
            "need the same labels, vocabulary and frame rate; full-sum losses need the labels only"
        )
    teacher = type(teacher)(*(tf.cast(x, dtype) for x in teacher[:4]), *teacher[4:])
    return local.joint_target(teacher, exists)
