"""Causal subsampling of feature frames by two per stage."""

import keras
import tensorflow as tf

from tf_rnnt_kd.models.masking import mask_frames


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class HalvingStage(keras.layers.Layer):
    """A convolution over time of width 3 and stride 2: output j sees frames 2j-1, 2j and 2j+1.

    Written as one matrix product over three neighbouring frames, because a strided convolution's backward pass is
    several times slower than a product on CPU, and because the only state that streaming needs is then the last frame.

    Args:
      units: width of the output.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units, activation="silu", name="dense")

    def build(self, input_shape):
        self.input_width = int(input_shape[-1])
        self.dense.build((None, None, 3 * self.input_width))
        self.built = True

    def get_initial_state(self, batch_size):
        """The frame before the first one: zeros, [B, 1, C]."""
        return tf.zeros([batch_size, 1, self.input_width], self.compute_dtype)

    def step(self, frames, state):
        """Maps an even number of frames [B, 2k, C] and the frame before them to ([B, k, units], new state)."""
        frames = tf.cast(frames, self.compute_dtype)
        shape = tf.shape(frames)
        pairs = tf.reshape(frames, [shape[0], shape[1] // 2, 2 * self.input_width])
        if frames.shape[1] is not None:
            pairs = tf.ensure_shape(pairs, [None, frames.shape[1] // 2, 2 * self.input_width])
        odd = pairs[:, :, self.input_width :]
        before = tf.concat([state, odd[:, :-1]], axis=1)
        return self.dense(tf.concat([before, pairs], axis=-1)), odd[:, -1:]

    def call(self, frames, lengths):
        """Maps frames [B, N, C] with valid lengths [B] to ([B, ceil(N/2), units], ceil(lengths/2)).

        Frames beyond a length count as zeros, whatever they hold.
        """
        frames = mask_frames(frames, lengths)
        if frames.shape[1] is None:
            frames = tf.pad(frames, [[0, 0], [0, tf.shape(frames)[1] % 2], [0, 0]])
        elif frames.shape[1] % 2:
            frames = tf.pad(frames, [[0, 0], [0, 1], [0, 0]])
        outputs, _ = self.step(frames, self.get_initial_state(tf.shape(frames)[0]))
        return outputs, (lengths + 1) // 2

    def get_config(self):
        return {**super().get_config(), "units": self.units}
