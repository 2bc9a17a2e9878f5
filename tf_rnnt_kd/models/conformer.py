"""The Conformer encoder (Gulati et al. 2020): full context, or streaming frame by frame or chunk by chunk.

The defaults differ from the paper, for streaming and for small batches: LayerNorm instead of BatchNorm in the
convolution module, rotary instead of relative sinusoidal positions. `convolution_norm='batch'`,
`position_encoding='relative'` and `subsampling=4` are the paper's. Its two-dimensional subsampling is here causal.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_rnnt_kd.models.attention import SelfAttention
from tf_rnnt_kd.models.convolution import ConvolutionModule
from tf_rnnt_kd.models.encoder import Encoder, check_reductions
from tf_rnnt_kd.models.masking import count_frames, keep_valid, mask_frames


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
class ConformerBlock(keras.layers.Layer):
    """Half feed-forward, self-attention, convolution, half feed-forward, LayerNorm. [B, T, C] -> [B, T, C].

    Args:
      num_heads, kernel_size, dropout: as in the parts; dropout also on every residual branch.
      left_context: None for a full-context block; a number of frames for one that streams, with a causal convolution.
      chunk_size, right_context, position_encoding: of the attention.
      convolution_norm: 'layer' or 'batch'.
      depth_dropout: share of the utterances for which the block does nothing in training (stochastic depth, Huang et
        al. 2016); for the others its branches count 1 / (1 - depth_dropout) times.
    """

    def __init__(
        self, num_heads, kernel_size, left_context=None, dropout=0.0, chunk_size=1, right_context=0,
        position_encoding="rotary", convolution_norm="layer", depth_dropout=0.0, **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "num_heads": num_heads, "kernel_size": kernel_size, "left_context": left_context, "dropout": dropout,
            "chunk_size": chunk_size, "right_context": right_context, "position_encoding": position_encoding,
            "convolution_norm": convolution_norm, "depth_dropout": depth_dropout,
        }
        self.right_context = right_context
        policy = self.dtype_policy
        self.feed_forward_in = FeedForward(dropout=dropout, name="feed_forward_in", dtype=policy)
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="attention_norm", dtype=policy)
        self.attention = SelfAttention(
            num_heads, left_context, dropout, chunk_size, right_context, position_encoding, name="attention",
            dtype=policy,
        )
        self.convolution = ConvolutionModule(
            kernel_size, causal=left_context is not None, norm=convolution_norm, name="convolution", dtype=policy
        )
        self.feed_forward_out = FeedForward(dropout=dropout, name="feed_forward_out", dtype=policy)
        self.output_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="output_norm", dtype=policy)
        self.residual_dropout = keras.layers.Dropout(dropout, dtype=policy)
        self.depth_dropout = None
        if depth_dropout:
            self.depth_dropout = keras.layers.Dropout(depth_dropout, dtype=policy)

    def build(self, input_shape):
        self.output_width = int(input_shape[-1])
        parts = (self.feed_forward_in, self.attention_norm, self.attention, self.convolution, self.feed_forward_out,
                 self.output_norm)
        for part in parts:
            part.build(input_shape)
        self.built = True

    def call(self, frames, lengths, training=False):
        frames = mask_frames(frames, lengths)
        kept = None
        if training and self.depth_dropout is not None:
            kept = self.depth_dropout(tf.ones([tf.shape(frames)[0], 1, 1], frames.dtype), training=True)

        def drop(branch):
            branch = self.residual_dropout(branch, training=training)
            return branch if kept is None else kept * branch

        frames = frames + 0.5 * drop(self.feed_forward_in(frames, training=training))
        frames = frames + drop(self.attention(self.attention_norm(frames), lengths, training=training))
        frames = frames + drop(self.convolution(frames, lengths, training=training))
        frames = frames + 0.5 * drop(self.feed_forward_out(frames, training=training))
        return self.output_norm(frames)

    def get_initial_state(self, batch_size):
        """Of the attention and the convolution, and the frames that wait for the attention's right context."""
        state = {
            "attention": self.attention.get_initial_state(batch_size),
            "convolution": self.convolution.get_initial_state(batch_size),
        }
        if self.right_context:
            state["waiting"] = tf.zeros([batch_size, self.right_context, self.output_width], self.compute_dtype)
        return state

    def step(self, frames, valid, state):
        """Maps the next k frames [B, k, C], valid [B, k], to (frames [B, k, C], valid [B, k], new state).

        k is a multiple of chunk_size; outputs are of the frames right_context before these.
        """
        new_state, count = {}, count_frames(frames)
        frames = keep_valid(frames, valid)
        frames = frames + 0.5 * self.feed_forward_in(frames)
        attended, valid, new_state["attention"] = self.attention.step(
            self.attention_norm(frames), valid, state["attention"]
        )
        if self.right_context:
            waiting = tf.concat([state["waiting"], frames], axis=1)
            frames, new_state["waiting"] = waiting[:, :count], waiting[:, count:]
        frames = frames + attended
        convolved, valid, new_state["convolution"] = self.convolution.step(frames, valid, state["convolution"])
        frames = frames + convolved
        frames = frames + 0.5 * self.feed_forward_out(frames)
        return self.output_norm(frames), valid, new_state

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class ConformerEncoder(Encoder):
    """Convolutional subsampling and a stack of Conformer blocks.

    Contexts and chunks count frames after the subsampling convolutions; after a time reduction the blocks see the same
    time in half as many frames.

    Args:
      width: channels of all frames. num_layers, num_heads, kernel_size: of the blocks.
      subsampling: feature frames per frame of the first block, a power of two. channels: of these convolutions.
      left_context: None for full context (centred convolutions, does not stream); a number of frames to stream: each
        chunk sees as many before it.
      dropout: rate.
      chunk_size: frames that see each other; 1 is causal. right_context: frames that each block sees beyond its chunk,
        a multiple of chunk_size. The latency is the chunk plus num_layers times right_context.
      position_encoding: 'rotary', 'relative' or 'none', see SelfAttention. convolution_norm: 'layer' or 'batch'.
      stochastic_depth: the last block's share of utterances that skip it in training; the others' grow linearly to it.
      time_reduction_after: numbers of blocks, from 0, after which two frames are joined into one.

    Raises:
      ValueError: the settings do not fit together.
    """

    def __init__(
        self, width: int, num_layers: int, num_heads: int, kernel_size: int, subsampling: int = 8, channels: int = 32,
        left_context: int | None = None, dropout: float = 0.0, chunk_size: int = 1, right_context: int = 0,
        position_encoding: str = "rotary", convolution_norm: str = "layer", stochastic_depth: float = 0.0,
        time_reduction_after: Sequence[int] = (), **kwargs: Any,
    ):
        super().__init__(**kwargs)
        settings = {
            "width": width, "num_layers": num_layers, "num_heads": num_heads, "kernel_size": kernel_size,
            "subsampling": subsampling, "channels": channels, "left_context": left_context, "dropout": dropout,
            "chunk_size": chunk_size, "right_context": right_context, "position_encoding": position_encoding,
            "convolution_norm": convolution_norm, "stochastic_depth": stochastic_depth,
            "time_reduction_after": time_reduction_after,
        }
        if not 0.0 <= stochastic_depth < 1.0:
            raise ValueError(f"stochastic_depth is a share from 0 to less than 1, not {stochastic_depth}")
        after = check_reductions(time_reduction_after, num_layers=num_layers)
        reduction = 2 ** len(after)
        if (chunk_size > 1 and chunk_size % reduction) or right_context % reduction or (left_context or 0) % reduction:
            raise ValueError(
                f"left_context {left_context}, chunk_size {chunk_size} and right_context {right_context} must be "
                f"multiples of {reduction}, the number of frames that time_reduction_after {after} joins into one"
            )
        blocks = []
        for i in range(num_layers):
            rate = 2 ** sum(1 for j in after if j < i)
            blocks.append(
                ConformerBlock(
                    num_heads, kernel_size, None if left_context is None else left_context // rate, dropout,
                    max(chunk_size // rate, 1), right_context // rate, position_encoding, convolution_norm,
                    stochastic_depth * (i + 1) / num_layers, name=f"block_{i}", dtype=self.dtype_policy,
                )
            )
        self._assemble(
            settings, input_width=width, output_width=width, blocks=blocks, is_streaming=left_context is not None,
            chunk_size=chunk_size, right_context=right_context,
        )
