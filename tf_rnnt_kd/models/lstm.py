"""LSTM encoders: unidirectional, which stream, and bidirectional, which need the whole utterance."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_rnnt_kd.models.encoder import Encoder
from tf_rnnt_kd.models.recurrent import LSTM


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class LSTMBlock(keras.layers.Layer):
    """One LSTM, or two in both directions with their outputs side by side, and dropout. [B, T, C] -> [B, T, W].

    Args:
      units, projection, layer_norm, coupled_gates: of each LSTM. bidirectional: two of them. dropout: of the outputs.
    """

    def __init__(
        self, units, projection=None, layer_norm=False, coupled_gates=False, bidirectional=False, dropout=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        lstm = {"units": units, "projection": projection, "layer_norm": layer_norm, "coupled_gates": coupled_gates}
        self.settings = {**lstm, "bidirectional": bidirectional, "dropout": dropout}
        policy = self.dtype_policy
        self.forward = LSTM(**lstm, name="forward", dtype=policy)
        self.backward = LSTM(**lstm, name="backward", dtype=policy) if bidirectional else None
        self.output_dropout = keras.layers.Dropout(dropout, dtype=policy)
        self.output_width = self.forward.output_width * (2 if bidirectional else 1)

    def build(self, input_shape):
        self.forward.build(input_shape)
        if self.backward is not None:
            self.backward.build(input_shape)
        self.built = True

    def call(self, frames, lengths, training=False):
        """Rows beyond `lengths` [B] may hold anything, and are zero in the outputs."""
        outputs = self.forward(frames, lengths)
        if self.backward is not None:
            reversed_frames = tf.reverse_sequence(frames, lengths, seq_axis=1)
            backward = tf.reverse_sequence(self.backward(reversed_frames, lengths), lengths, seq_axis=1)
            outputs = tf.concat([outputs, backward], axis=-1)
        return self.output_dropout(outputs, training=training)

    def get_initial_state(self, batch_size):
        if self.backward is not None:
            raise ValueError("a bidirectional LSTM cannot stream: take encoder type 'lstm'")
        return self.forward.get_initial_state(batch_size)

    def step(self, frames, valid, state):
        """Maps the next k frames [B, k, C], valid [B, k], to (frames [B, k, W], valid [B, k], new state)."""
        return self.forward.step(frames, valid, state)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class LSTMEncoder(Encoder):
    """Convolutional subsampling and a stack of LSTMs, causal and streaming.

    Args:
      width: cells of each LSTM. num_layers: of them.
      projection: width of each LSTM's output, None: as many as cells.
      layer_norm, coupled_gates: of the LSTMs, see LSTM; coupled gates make it a CIFG-LSTM.
      subsampling: feature frames per frame of the first LSTM, a power of two. channels: of these convolutions.
      dropout: rate, after each LSTM.
      time_reduction_after: numbers of LSTMs, from 0, after which two frames are joined into one.

    Raises:
      ValueError: the settings do not fit together.
    """

    bidirectional = False

    def __init__(
        self, width: int, num_layers: int, projection: int | None = None, layer_norm: bool = False,
        coupled_gates: bool = False, subsampling: int = 8, channels: int = 32, dropout: float = 0.0,
        time_reduction_after: Sequence[int] = (), **kwargs: Any,
    ):
        super().__init__(**kwargs)
        settings = {
            "width": width, "num_layers": num_layers, "projection": projection, "layer_norm": layer_norm,
            "coupled_gates": coupled_gates, "subsampling": subsampling, "channels": channels, "dropout": dropout,
            "time_reduction_after": time_reduction_after,
        }
        blocks = [
            LSTMBlock(
                width, projection, layer_norm, coupled_gates, self.bidirectional, dropout, name=f"block_{i}",
                dtype=self.dtype_policy,
            )
            for i in range(num_layers)
        ]
        output_width = blocks[-1].output_width
        self._assemble(
            settings, input_width=output_width, output_width=output_width, blocks=blocks,
            is_streaming=not self.bidirectional,
        )


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class BiLSTMEncoder(LSTMEncoder):
    """LSTMEncoder whose LSTMs come in pairs, one for each direction of time, each of `width` cells: full context."""

    bidirectional = True
