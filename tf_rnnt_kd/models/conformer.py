"""The Conformer encoder (Gulati et al. 2020): full context, or causal and streaming.

Differences from the paper, for streaming and for small batches: LayerNorm instead of BatchNorm in the convolution
module, rotary instead of relative sinusoidal positions, one-dimensional causal subsampling.
"""

import keras
import tensorflow as tf

from tf_rnnt_kd.models.attention import SelfAttention
from tf_rnnt_kd.models.masking import mask_frames
from tf_rnnt_kd.models.subsampling import HalvingStage


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class FeedForward(keras.layers.Layer):
    """LayerNorm, Dense of `expansion` times the width, SiLU, Dense. [B, T, C] -> [B, T, C]."""

    def __init__(self, expansion=4, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.expansion = expansion
        self.dropout_rate = dropout
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm", dtype=self.dtype_policy)
        self.hidden_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape):
        width = int(input_shape[-1])
        self.norm.build(input_shape)
        self.expand = keras.layers.Dense(self.expansion * width, "silu", name="expand", dtype=self.dtype_policy)
        self.expand.build((None, None, width))
        self.contract = keras.layers.Dense(width, name="contract", dtype=self.dtype_policy)
        self.contract.build((None, None, self.expansion * width))
        self.built = True

    def call(self, frames, training=False):
        hidden = self.hidden_dropout(self.expand(self.norm(frames)), training=training)
        return self.contract(hidden)

    def get_config(self):
        return {**super().get_config(), "expansion": self.expansion, "dropout": self.dropout_rate}


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class ConvolutionModule(keras.layers.Layer):
    """LayerNorm, gated pointwise, depthwise over time, LayerNorm, SiLU, pointwise. [B, T, C] -> [B, T, C].

    The depthwise convolution is a sum of `kernel_size` shifted products: it fuses well, forward and backward.

    Args:
      kernel_size: frames seen; odd unless causal.
      causal: sees the frame and kernel_size - 1 frames before it, instead of as many on both sides.
    """

    def __init__(self, kernel_size, causal=False, **kwargs):
        super().__init__(**kwargs)
        if not causal and kernel_size % 2 == 0:
            raise ValueError(f"a centred convolution needs an odd kernel_size, not {kernel_size}")
        self.kernel_size = kernel_size
        self.causal = causal
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm", dtype=self.dtype_policy)
        self.depthwise_norm = keras.layers.LayerNormalization(
            epsilon=1e-5, name="depthwise_norm", dtype=self.dtype_policy
        )

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

    def _convolve(self, padded, num_frames):
        """Depthwise over `padded` [B, num_frames + kernel_size - 1, C], then the rest of the module."""
        kernel = tf.cast(self.kernel, padded.dtype)
        convolved = sum(padded[:, k : k + num_frames] * kernel[k] for k in range(self.kernel_size))
        return self.pointwise(tf.nn.silu(self.depthwise_norm(convolved)))

    def call(self, frames, lengths):
        num_frames = frames.shape[1] if frames.shape[1] is not None else tf.shape(frames)[1]
        gated = mask_frames(self._gated(frames), lengths)
        left = self.kernel_size - 1 if self.causal else self.kernel_size // 2
        padded = tf.pad(gated, [[0, 0], [left, self.kernel_size - 1 - left], [0, 0]])
        return self._convolve(padded, num_frames)

    def get_initial_state(self, batch_size):
        """The gated frames before the first one: zeros, [B, kernel_size - 1, C]."""
        if not self.causal:
            raise ValueError("a centred convolution cannot stream: make it causal")
        return tf.zeros([batch_size, self.kernel_size - 1, self.width], self.compute_dtype)

    def step(self, frames, state):
        num_frames = tf.shape(frames)[1]
        padded = tf.concat([state, self._gated(frames)], axis=1)
        return self._convolve(padded, num_frames), padded[:, num_frames:]

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size, "causal": self.causal}


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class ConformerBlock(keras.layers.Layer):
    """Half feed-forward, self-attention, convolution, half feed-forward, LayerNorm. [B, T, C] -> [B, T, C].

    Args:
      num_heads, kernel_size, dropout: as in the parts; dropout also on every residual branch.
      left_context: None for a full-context block; a number of frames for a causal one that streams.
    """

    def __init__(self, num_heads, kernel_size, left_context=None, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.settings = {
            "num_heads": num_heads, "kernel_size": kernel_size, "left_context": left_context, "dropout": dropout,
        }
        policy = self.dtype_policy
        self.feed_forward_in = FeedForward(dropout=dropout, name="feed_forward_in", dtype=policy)
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="attention_norm", dtype=policy)
        self.attention = SelfAttention(num_heads, left_context, dropout, name="attention", dtype=policy)
        self.convolution = ConvolutionModule(
            kernel_size, causal=left_context is not None, name="convolution", dtype=policy
        )
        self.feed_forward_out = FeedForward(dropout=dropout, name="feed_forward_out", dtype=policy)
        self.output_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="output_norm", dtype=policy)
        self.residual_dropout = keras.layers.Dropout(dropout, dtype=policy)

    def build(self, input_shape):
        parts = (self.feed_forward_in, self.attention_norm, self.attention, self.convolution, self.feed_forward_out,
                 self.output_norm)
        for part in parts:
            part.build(input_shape)
        self.built = True

    def call(self, frames, lengths, training=False):
        def drop(branch):
            return self.residual_dropout(branch, training=training)

        frames = frames + 0.5 * drop(self.feed_forward_in(frames, training=training))
        frames = frames + drop(self.attention(self.attention_norm(frames), lengths, training=training))
        frames = frames + drop(self.convolution(frames, lengths))
        frames = frames + 0.5 * drop(self.feed_forward_out(frames, training=training))
        return self.output_norm(frames)

    def get_initial_state(self, batch_size):
        return {
            "attention": self.attention.get_initial_state(batch_size),
            "convolution": self.convolution.get_initial_state(batch_size),
        }

    def step(self, frames, state):
        """Maps the next k frames [B, k, C] to ([B, k, C], new state)."""
        frames = frames + 0.5 * self.feed_forward_in(frames)
        attended, attention_state = self.attention.step(self.attention_norm(frames), state["attention"])
        frames = frames + attended
        convolved, convolution_state = self.convolution.step(frames, state["convolution"])
        frames = frames + convolved
        frames = frames + 0.5 * self.feed_forward_out(frames)
        return self.output_norm(frames), {"attention": attention_state, "convolution": convolution_state}

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class ConformerEncoder(keras.layers.Layer):
    """Features [B, N, F] -> frames [B, ceil(N / subsampling), width].

    Args:
      width: model dimension. num_layers, num_heads, kernel_size, dropout: of the blocks.
      subsampling: a power of two; time resolution of the output in feature frames.
      channels: of the convolutions that subsample.
      left_context: None for full context; otherwise each block is causal and sees that many frames back.
    """

    def __init__(
        self, width, num_layers, num_heads, kernel_size, subsampling=8, channels=32, left_context=None, dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        stages = subsampling.bit_length() - 1
        if 2**stages != subsampling:
            raise ValueError(f"subsampling must be a power of two, not {subsampling}")
        self.settings = {
            "width": width, "num_layers": num_layers, "num_heads": num_heads, "kernel_size": kernel_size,
            "subsampling": subsampling, "channels": channels, "left_context": left_context, "dropout": dropout,
        }
        self.subsampling = subsampling
        self.is_streaming = left_context is not None
        policy = self.dtype_policy
        self.stages = [HalvingStage(channels, name=f"halving_{i}", dtype=policy) for i in range(stages)]
        self.input_projection = keras.layers.Dense(width, name="input_projection", dtype=policy)
        # The convolutions shrink the signal to a tenth; without this the first block's own noise would drown it.
        self.input_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="input_norm", dtype=policy)
        self.input_dropout = keras.layers.Dropout(dropout, dtype=policy)
        self.blocks = [
            ConformerBlock(num_heads, kernel_size, left_context, dropout, name=f"block_{i}", dtype=policy)
            for i in range(num_layers)
        ]

    def build(self, input_shape):
        inner = (None, None, self.settings["width"])
        bins, channels = int(input_shape[-1]), 1
        for stage in self.stages:
            stage.build((None, None, bins, channels))
            bins, channels = stage.output_bins, stage.channels
        self.subsampled_width = bins * channels
        self.input_projection.build((None, None, self.subsampled_width))
        self.input_norm.build(inner)
        for block in self.blocks:
            block.build(inner)
        self.built = True

    def call(self, features, num_frames, training=False):
        """Returns (frames [B, T, width] with zeros beyond the lengths, lengths [B] int32)."""
        outputs, lengths = self.layer_outputs(features, num_frames, training=training)
        return outputs[self.blocks[-1].name], lengths

    def layer_outputs(self, features, num_frames, training=False):
        """({name of a block: its output [B, T, width], zeros beyond the lengths}, lengths [B] int32), in order."""
        frames, lengths = tf.cast(features, self.compute_dtype)[..., None], num_frames
        for stage in self.stages:
            frames, lengths = stage(frames, lengths)
        frames = mask_frames(self.input_dropout(self._project(frames), training=training), lengths)
        outputs = {}
        for block in self.blocks:
            frames = block(frames, lengths, training=training)
            outputs[block.name] = mask_frames(frames, lengths)
        return outputs, lengths

    def _project(self, frames):
        """Subsampled frames [B, T, F', C'] -> [B, T, width]."""
        shape = [tf.shape(frames)[0], -1 if frames.shape[1] is None else frames.shape[1], self.subsampled_width]
        return self.input_norm(self.input_projection(tf.reshape(frames, shape)))

    def get_initial_state(self, batch_size):
        """A dictionary of tensors; shapes do not change from step to step."""
        return {
            **{stage.name: stage.get_initial_state(batch_size) for stage in self.stages},
            **{block.name: block.get_initial_state(batch_size) for block in self.blocks},
        }

    def step(self, features, num_frames, state):
        """Maps k * subsampling feature frames to k frames.

        Args:
          features: [B, k * subsampling, F]. num_frames: [B], valid ones in this chunk; fewer than all only in the
            last chunk of a stream, because what follows would see the gap.
          state: from get_initial_state or the step before.

        Returns:
          (frames [B, k, width], new state). Frames beyond ceil(num_frames / subsampling) are meaningless.
        """
        new_state, frames, lengths = {}, features[..., None], num_frames
        for stage in self.stages:
            frames, new_state[stage.name] = stage.step(mask_frames(frames, lengths), state[stage.name])
            lengths = (lengths + 1) // 2
        frames = mask_frames(self._project(frames), lengths)
        for block in self.blocks:
            frames, new_state[block.name] = block.step(frames, state[block.name])
        return frames, new_state

    def get_config(self):
        return {**super().get_config(), **self.settings}
