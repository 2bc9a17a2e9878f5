"""Soft distillation from a teacher's K best symbols per node (papers.md section 7, row 4), and from its best alone
(row 21, Kurata and Saon 2020)."""

import tensorflow as tf

from tf_rnnt_kd.lattice import NEGATIVE_INFINITY, local
from tf_rnnt_kd.lattice.joint import Joint
from tf_rnnt_kd.lattice.pruning import Band
from tf_rnnt_kd.lattice.rows import compiled, symbol_indices
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.lattice.top_k import TopK
from tf_rnnt_kd.losses import between_joints


def top_k(
    teacher_top_k: TopK,
    student_joint: Joint,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    shift: int = 0,
    node_weights: TensorLike | None = None,
    reduction_over_nodes: str = "sum",
    band: Band | None = None,
) -> tf.Tensor:
    """sum over nodes of the KL between the two distributions over {K symbols one by one, all others together}.

    At most the full KL, equal to it for K = V. The gradient of a node's logits is weight x (P_S - Q), where Q is the
    teacher on its K symbols and shares out the rest of its mass in the student's proportions.

    Args:
      teacher_top_k: lattice.TopK over the student's frames and labels; receives no gradient.
      student_joint: lattice.Joint.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shift: see `soft`.
      node_weights: see `soft`.
      reduction_over_nodes: see `soft`.
      band: see `soft`.

    Returns:
      [B] float32 (float64 if the student is), nats. Differentiable once.
    """
    dtype = tf.float64 if student_joint.encoder.dtype == tf.float64 else tf.float32
    symbols, *log_probs = teacher_top_k
    return between_joints.compare(
        local.node_target(tf.cast(symbols, tf.int32), *(tf.cast(x, dtype) for x in log_probs)),
        student_joint,
        _grouped_kl,
        logit_lengths=logit_lengths,
        label_lengths=label_lengths,
        shift=shift,
        node_weights=node_weights,
        reduction_over_nodes=reduction_over_nodes,
        band=band,
    )


def peak_alignment(
    teacher_joint: Joint | TensorLike,
    student_joint: Joint,
    *,
    logit_lengths: TensorLike,
    label_lengths: TensorLike,
    shift: int = 0,
    node_weights: TensorLike | None = None,
    reduction_over_nodes: str = "sum",
    band: Band | None = None,
) -> tf.Tensor:
    """-sum over nodes of log P_S(the teacher's most probable symbol): aligns the posterior peaks of two models.

    Published to bring an offline model's peaks to where a streaming model has them, so that it can teach one: here the
    streaming model is `teacher_joint` and the offline model `student_joint`.

    Args:
      teacher_joint: lattice.Joint or dense logits [B, T, U+1, V]; receives no gradient.
      student_joint: lattice.Joint.
      logit_lengths: [B] int, frames.
      label_lengths: [B] int, labels.
      shift: see `soft`.
      node_weights: see `soft`.
      reduction_over_nodes: see `soft`.
      band: see `soft`.

    Returns:
      [B] float32 (float64 if the student is), nats. Differentiable once.
    """
    return between_joints.compare(
        teacher_joint,
        student_joint,
        _peak_rows,
        logit_lengths=logit_lengths,
        label_lengths=label_lengths,
        shift=shift,
        node_weights=node_weights,
        reduction_over_nodes=reduction_over_nodes,
        band=band,
    )


def _grouped_kl(logits, symbols, teacher, teacher_rest):
    picked = tf.gather(logits, symbols, batch_dims=1)
    at = symbol_indices(symbols)
    bottom = tf.fill(tf.shape(symbols), tf.constant(NEGATIVE_INFINITY, logits.dtype))
    others = tf.tensor_scatter_nd_update(logits, at, bottom)
    value, to_picked, to_others = _grouped_rows(picked, others, teacher, teacher_rest)
    return value, tf.tensor_scatter_nd_update(to_others, at, to_picked)


@compiled
def _grouped_rows(picked, others, teacher, teacher_rest):
    bottom = tf.constant(NEGATIVE_INFINITY, picked.dtype)
    peak = tf.maximum(tf.reduce_max(others, axis=1), bottom)
    shares = tf.exp(others - peak[:, None])
    total = tf.reduce_sum(shares, axis=1)
    nothing = peak <= bottom / 2
    rest = tf.where(nothing, bottom, peak + tf.math.log(tf.maximum(total, 1e-30)))
    student = tf.nn.log_softmax(tf.concat([picked, rest[:, None]], axis=1))
    teacher = tf.concat([teacher, teacher_rest[:, None]], axis=1)
    probs = tf.exp(teacher)
    value = tf.reduce_sum(tf.where(probs > 0, probs * (teacher - student), tf.zeros([], probs.dtype)), axis=1)
    difference = tf.exp(student) - probs
    share = tf.where(nothing, tf.zeros([], total.dtype), difference[:, -1] / total)
    return value, difference[:, :-1], shares * share[:, None]


def _peak_rows(logits, teacher):
    best = tf.argmax(teacher, axis=1, output_type=tf.int32)
    return _cross_entropy_rows(logits, best)


@compiled
def _cross_entropy_rows(logits, symbol):
    log_probs = tf.nn.log_softmax(logits)
    one_hot = tf.range(tf.shape(logits)[1]) == symbol[:, None]
    value = -tf.reduce_sum(tf.where(one_hot, log_probs, tf.zeros([], logits.dtype)), axis=1)
    return value, tf.exp(log_probs) - tf.cast(one_hot, logits.dtype)
