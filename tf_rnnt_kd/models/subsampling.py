"""Fewer frames: causal convolutions over the features, and pairs of frames joined between blocks."""

import keras
import tensorflow as tf

from tf_rnnt_kd.models.masking import count_frames, keep_valid, mask_frames


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class HalvingStage(keras.layers.Layer):
    """A 3 x 3 convolution over time and frequency with stride 2 in both, and SiLU.

    Output frame j sees input frames 2j-1, 2j and 2j+1, so a stream needs one frame of state.

    Args:
      channels: of the output.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, input_shape):
        """`input_shape` [B, N, F, C]."""
        self.input_bins, self.input_channels = int(input_shape[-2]), int(input_shape[-1])
        self.convolution = keras.layers.Conv2D(
            self.channels, 3, strides=2, activation="silu", name="convolution", dtype=self.dtype_policy
        )
        self.convolution.build((None, None, 2 * self.output_bins + 1, self.input_channels))
        self.built = True

    @property
    def output_bins(self):
        """Frequency bins of the output: half the input's, rounded up."""
        return (self.input_bins + 1) // 2

    def get_initial_state(self, batch_size):
        """The frame before the first one: zeros, [B, 1, F, C]."""
        return tf.zeros([batch_size, 1, self.input_bins, self.input_channels], self.compute_dtype)

    def step(self, frames, valid, state):
        """Maps an even number of frames [B, 2k, F, C] and the one before them to (half as many, valid, new state).

        Frames that `valid` [B, 2k] denies count as zeros, whatever they hold.
        """
        outputs, state = self._convolve(keep_valid(frames, valid), state)
        return outputs, valid[:, ::2], state

    def _convolve(self, frames, before):
        frames = tf.cast(frames, self.compute_dtype)
        above = 2 * self.output_bins - self.input_bins
        padded = tf.pad(tf.concat([before, frames], axis=1), [[0, 0], [0, 0], [1, above], [0, 0]])
        return self.convolution(padded), frames[:, -1:]

    def call(self, frames, lengths):
        """Maps frames [B, N, F, C] with valid lengths [B] to ([B, ceil(N/2), ceil(F/2), channels], ceil(lengths/2)).

        Frames beyond a length count as zeros, whatever they hold.
        """
        frames = tf.pad(mask_frames(frames, lengths), [[0, 0], [0, count_frames(frames) % 2], [0, 0], [0, 0]])
        outputs, _ = self._convolve(frames, self.get_initial_state(tf.shape(frames)[0]))
        return outputs, self.output_lengths(lengths)

    @staticmethod
    def output_lengths(lengths):
        """Valid frames of the outputs, of so many of the inputs."""
        return (lengths + 1) // 2

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class TimeReduction(keras.layers.Layer):
    """Joins frames 2j and 2j + 1 into one and projects them back to their width. [B, T, C] -> [B, ceil(T/2), C].

    After He et al. 2019 (streaming RNN-T for mobile devices), with a projection so that blocks keep their width.
    """

    def build(self, input_shape):
        self.width = int(input_shape[-1])
        self.projection = keras.layers.Dense(self.width, name="projection", dtype=self.dtype_policy)
        self.projection.build((None, None, 2 * self.width))
        self.built = True

    def get_initial_state(self, batch_size):
        """Nothing: a step takes whole pairs."""
        return {}

    def step(self, frames, valid, state):
        """Maps frames [B, 2k, C], valid [B, 2k] to ([B, k, C], valid [B, k], state); pairs begin at even frames."""
        return self._join(keep_valid(frames, valid)), valid[:, ::2], state

    def _join(self, frames):
        shape = [tf.shape(frames)[0], -1 if frames.shape[1] is None else frames.shape[1] // 2, 2 * self.width]
        return self.projection(tf.reshape(frames, shape))

    def call(self, frames, lengths):
        """Returns (frames, ceil(lengths / 2)); frames beyond a length count as zeros, whatever they hold."""
        frames = tf.pad(mask_frames(frames, lengths), [[0, 0], [0, count_frames(frames) % 2], [0, 0]])
        return self._join(frames), (lengths + 1) // 2
