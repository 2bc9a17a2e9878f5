"""Self-adaptive distillation weight (Leal et al. 2021; papers.md 5.2): trust the teacher where it models the text."""

import tensorflow as tf

from tf_rnnt_kd.lattice.tensors import TensorLike


def self_adaptive_weight(
    teacher_log_prob: TensorLike, label_lengths: TensorLike, *, sharpness: float = 1.0
) -> tf.Tensor:
    """exp(-sharpness x teacher loss per label): 1 for a certain teacher, towards 0 for one that finds y unlikely.

    Args:
      teacher_log_prob: [B] log P_T(y|x), natural log; -inf gives 0.
      label_lengths: [B] int, labels; an empty transcript counts as one label.
      sharpness: float >= 0; 0 gives weight 1 to every utterance with a finite score.

    Returns:
      [B] float32 in 0..1, without gradient.
    """
    if sharpness < 0:
        raise ValueError(f"sharpness={sharpness} would trust bad teachers more; give a number >= 0")
    log_prob = tf.stop_gradient(tf.cast(teacher_log_prob, tf.float32))
    finite = tf.math.is_finite(log_prob)
    labels = tf.maximum(tf.cast(label_lengths, tf.float32), 1.0)
    weight = tf.exp(sharpness * tf.minimum(tf.where(finite, log_prob, tf.zeros([], log_prob.dtype)), 0.0) / labels)
    return tf.where(finite, weight, tf.zeros([], weight.dtype))
