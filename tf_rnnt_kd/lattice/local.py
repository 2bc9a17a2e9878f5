"""Losses that are a sum over nodes of a function of the node's whole distribution, never holding [B, T, U+1, V].

Such a loss is local: the gradient of a node's logits depends on nothing but the node. So value and gradient come from
one pass over slices of the nodes, three products for the student, and one for a teacher that is a joint itself. Only
where the upstream gradient differs between utterances, which is known in the backward pass, it is made once more.
"""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice import joint_rows
from tf_rnnt_kd.lattice import rows as lattice_rows


class Target(NamedTuple):
    """What a row function compares the student's logits with.

    tensors: the tensors it is made of.
    rows: (Rows, [R] nodes of the teacher's lattice, *tensors) -> tuple of tensors with R rows.
    """

    tensors: tuple
    rows: object


def joint_target(joint, wanted):
    """The rows whose softmax is the distribution of a teacher's Joint, at its nodes `wanted` [B, T, U+1].

    The Joint is as `joint.prepare` returns it.
    """
    tables = lattice_rows.tables(joint, wanted)

    def rows(rows, node, *tensors):
        here = type(joint)(*tensors, *joint[4:])
        return (joint_rows.distribution_rows(here, joint_rows.hidden_rows(here, rows, node))[0],)

    return Target(tuple(tables[:4]), rows)


def node_target(*tensors):
    """The rows of tensors [B, T, U+1, ...] with something for each node."""
    flat = tuple(tf.reshape(x, tf.concat([[-1], tf.shape(x)[3:]], 0)) for x in tensors)
    return Target(flat, lambda rows, node, *flat: tuple(tf.gather(x, node) for x in flat))


def sum_over_nodes(student, target, row_function, *, weights, shift=0, rows_per_slice=None):
    """sum over nodes of weight x value.

    Args:
      student: Joint as `joint.prepare` returns it.
      target: Target; constant.
      row_function: (logits [R, V], *target's rows) -> (value [R], its gradient with respect to the logits [R, V]).
        Nothing but the softmax of the logits may count: a factorised blank gives log-probabilities in their place.
      weights: [B, T, U+1] of the student's nodes, constant; nodes of weight 0 are not computed.
      shift: int frames: the student's node (t, u) is compared with the target's (t - shift, u); weights must be 0 where
        there is none.
      rows_per_slice: nodes that are worked on at a time; None: 512, fewer for V or H above 1024.

    Returns:
      [B] in the student's precision, differentiable once with respect to the student's four tensors.
    """
    weights = tf.stop_gradient(tf.cast(weights, student.encoder.dtype))
    tensors = tuple(tf.stop_gradient(x) for x in target.tensors)
    used = tf.reduce_any(weights != 0, axis=[1, 2])

    def one_pass(joint, scale):
        """(values [B], gradients of sum over b of scale_b x value_b)."""
        size = rows_per_slice or lattice_rows.default_size(joint.kernel, passes="both")
        rows = lattice_rows.Rows(weights != 0, size=size)
        projections = lattice_rows.Projections(rows, joint.encoder, joint.predictor)
        tables = lattice_rows.tables(joint, weights != 0)
        scaled = tf.reshape(weights * scale[:, None, None], [-1])

        def body(i, carry):
            arrays, to_kernel, to_bias, values = carry
            node, real = rows.nodes(i)
            hidden = joint_rows.hidden_rows(tables, rows, node)
            logits, back = joint_rows.distribution_rows(tables, hidden)
            partner = tf.where(real, node - shift * rows.num_positions, 0)
            value, to_logits = row_function(logits, *target.rows(rows, partner, *tensors))
            weight = tf.where(real, tf.gather(scaled, node), 0)
            to_logits = lattice_rows.scale_rows(back(to_logits), weight)
            to_joint = joint_rows.back_through_joint(tables, rows, node, hidden, to_logits)
            more_to_kernel, more_to_bias, to_rows = to_joint
            arrays = projections.add(arrays, node, real, to_rows)
            return arrays, to_kernel + more_to_kernel, to_bias + more_to_bias, values.write(i, value[None])

        carry = (
            projections.start(),
            *(lattice_rows.zeros_shaped_like(x, rows) for x in joint[2:4]),
            rows.array(weights.dtype, numbers=1),
        )
        arrays, to_kernel, to_bias, values = rows.loop(body, carry)
        values = tf.reduce_sum(weights * rows.spread(values, numbers=1)[0], axis=[1, 2])
        return values, (*projections.finish(arrays), to_kernel, to_bias)

    @tf.custom_gradient
    def run(*inputs):
        joint = type(student)(*inputs, *student[4:])
        values, gradients = one_pass(joint, tf.ones_like(weights[:, 0, 0]))

        def gradient(upstream):
            largest = tf.reduce_max(tf.where(used, upstream, upstream.dtype.min))
            least = tf.reduce_min(tf.where(used, upstream, upstream.dtype.max))
            alike = least >= largest
            common = tf.where(alike & tf.reduce_any(used), largest, tf.zeros([], largest.dtype))
            return tf.cond(
                alike,
                lambda: tuple(common * x for x in gradients),
                lambda: one_pass(joint, upstream)[1],
            )

        return values, gradient

    return run(*student[:4])
