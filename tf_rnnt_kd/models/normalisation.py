"""Batch normalisation over the valid frames of all replicas."""

import keras
import tensorflow as tf

from tf_rnnt_kd.models.masking import count_frames, keep_valid, valid_frames


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class FrameBatchNormalization(keras.layers.Layer):
    """Normalises each channel of frames [B, T, C] by its mean and variance over the valid frames of the global batch.

    In training by the batch's own statistics, otherwise by their running averages. Keras's layer knows padding too, but
    its running averages take up a NaN for ever, and its replicas differ.

    Args:
      momentum: of the running averages.
      epsilon: added to the variance.
    """

    def __init__(self, momentum=0.99, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape):
        shape = (int(input_shape[-1]),)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        fixed = {"trainable": False, "autocast": False, "aggregation": "mean", "dtype": "float32"}
        self.moving_mean = self.add_weight(name="moving_mean", shape=shape, initializer="zeros", **fixed)
        self.moving_variance = self.add_weight(name="moving_variance", shape=shape, initializer="ones", **fixed)
        self.built = True

    def call(self, frames, lengths=None, training=False):
        """`lengths` [B] counts in training only; rows beyond them must be finite."""
        x = tf.cast(frames, tf.float32)
        if training:
            mean, variance = self._batch_statistics(x, lengths)
        else:
            mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
        scale = tf.math.rsqrt(variance + self.epsilon) * tf.cast(self.gamma, tf.float32)
        return tf.cast((x - mean) * scale + tf.cast(self.beta, tf.float32), frames.dtype)

    def _batch_statistics(self, x, lengths):
        valid = valid_frames(lengths, count_frames(x))
        count = tf.maximum(_over_replicas(tf.reduce_sum(tf.cast(valid, tf.float32))), 1.0)
        mean = _over_replicas(tf.reduce_sum(keep_valid(x, valid), axis=[0, 1])) / count
        variance = _over_replicas(tf.reduce_sum(keep_valid(tf.square(x - mean), valid), axis=[0, 1])) / count
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            change = tf.where(tf.math.is_finite(value), tf.stop_gradient(value) - average, 0.0)
            average.assign_add((1.0 - self.momentum) * change)
        return mean, variance

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


def _over_replicas(value):
    """The sum of every replica's value."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)
