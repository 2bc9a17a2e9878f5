"""The Conformer's convolution module."""

import keras
import tensorflow as tf

from tf_rnnt_kd.models.depthwise import depthwise_over_time
from tf_rnnt_kd.models.masking import count_frames, keep_valid, mask_frames
from tf_rnnt_kd.models.normalisation import FrameBatchNormalization

CONVOLUTION_NORMS = ("layer", "batch")


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class ConvolutionModule(keras.layers.Layer):
    """LayerNorm, gated pointwise, depthwise over time, norm, SiLU, pointwise. [B, T, C] -> [B, T, C].

    Args:
      kernel_size: frames seen; odd unless causal.
      causal: sees the frame and kernel_size - 1 frames before it, instead of as many on both sides.
      norm: after the depthwise convolution: 'layer', or 'batch' as in the Conformer paper.
    """

    def __init__(self, kernel_size, causal=False, norm="layer", **kwargs):
        super().__init__(**kwargs)
        if not causal and kernel_size % 2 == 0:
            raise ValueError(f"a centred convolution needs an odd kernel_size, not {kernel_size}")
        if norm not in CONVOLUTION_NORMS:
            raise ValueError(f"convolution_norm is {norm!r}: choose of {', '.join(CONVOLUTION_NORMS)}")
        self.kernel_size = kernel_size
        self.causal = causal
        self.norm_kind = norm
        policy = self.dtype_policy
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm", dtype=policy)
        if norm == "batch":
            self.depthwise_norm = FrameBatchNormalization(name="depthwise_norm", dtype=policy)
        else:
            self.depthwise_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="depthwise_norm", dtype=policy)

    def build(self, input_shape):
        self.width = int(input_shape[-1])
        self.norm.build(input_shape)
        self.depthwise_norm.build(input_shape)
        self.gate = keras.layers.Dense(2 * self.width, name="gate", dtype=self.dtype_policy)
        self.gate.build((None, None, self.width))
        self.kernel = self.add_weight(
            name="depthwise_kernel",
            shape=(self.kernel_size, self.width),
            initializer=keras.initializers.VarianceScaling(mode="fan_in", distribution="uniform"),
        )
        self.pointwise = keras.layers.Dense(self.width, name="pointwise", dtype=self.dtype_policy)
        self.pointwise.build((None, None, self.width))
        self.built = True

    def _gated(self, frames):
        values, gates = tf.split(self.gate(self.norm(frames)), 2, axis=-1)
        return values * tf.sigmoid(gates)

    def _convolve(self, padded):
        """[B, T + kernel_size - 1, C] -> [B, T, C]."""
        return depthwise_over_time(padded, tf.cast(self.kernel, padded.dtype))

    def _after(self, normed):
        return self.pointwise(tf.nn.silu(normed))

    def call(self, frames, lengths, training=False):
        """Rows beyond `lengths` [B] may hold anything finite."""
        gated = mask_frames(self._gated(frames), lengths)
        left = self.kernel_size - 1 if self.causal else self.kernel_size // 2
        padded = tf.pad(gated, [[0, 0], [left, self.kernel_size - 1 - left], [0, 0]])
        convolved = self._convolve(padded)
        if self.norm_kind == "batch":
            return self._after(self.depthwise_norm(convolved, lengths, training=training))
        return self._after(self.depthwise_norm(convolved))

    def get_initial_state(self, batch_size):
        """The gated frames before the first one: zeros, [B, kernel_size - 1, C]."""
        if not self.causal:
            raise ValueError("a centred convolution cannot stream: make it causal")
        return tf.zeros([batch_size, self.kernel_size - 1, self.width], self.compute_dtype)

    def step(self, frames, valid, state):
        """The next frames [B, k, C], of which those exist that `valid` [B, k] says -> (outputs, valid, new state)."""
        num_frames = count_frames(frames)
        padded = tf.concat([state, keep_valid(self._gated(frames), valid)], axis=1)
        outputs = self._after(self.depthwise_norm(self._convolve(padded)))
        return outputs, valid, padded[:, num_frames:]

    def get_config(self):
        return {
            **super().get_config(), "kernel_size": self.kernel_size, "causal": self.causal, "norm": self.norm_kind,
        }
