"""Prediction networks: what the labels so far say of the next one.

All have start(batch_size) -> state, advance(state, tokens [B]) -> state, project(state) -> [B, output_width], and
call(labels [B, U]) -> [B, U + 1, output_width] whose entry u has seen labels 1..u. A state is a tensor [B, ...], or
nested dictionaries of such.
"""

from typing import Any

import keras
import tensorflow as tf

from tf_rnnt_kd.models.recurrent import LSTM


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class StatelessPredictor(keras.layers.Layer):
    """Embedding of the last `context_size` labels, joined by a convolution over them (Ghodsi et al. 2020).

    Its whole state is those labels; the start of an utterance is a context of blanks.

    Args:
      vocab_size: V, the blank at 0 included.
      width: of embeddings and output.
      context_size: labels seen, at least 1.
    """

    def __init__(
        self, vocab_size: int, width: int, context_size: int = 2, dropout: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.settings = {
            "vocab_size": vocab_size, "width": width, "context_size": context_size, "dropout": dropout,
        }
        self.context_size = context_size
        self.output_width = width
        self.embedding = _embedding(vocab_size, width, self.dtype_policy)
        self.mix = keras.layers.Dense(width, "silu", name="mix", dtype=self.dtype_policy)
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape=None):
        self.embedding.build(None)
        self.mix.build((None, self.context_size * self.settings["width"]))
        self.built = True

    def start(self, batch_size):
        """The context before the first label, int32 [B, context_size]."""
        return tf.zeros([batch_size, self.context_size], tf.int32)

    def advance(self, context, tokens):
        """The context after `tokens` [B] were emitted."""
        return tf.concat([context[:, 1:], tf.expand_dims(tokens, 1)], axis=1)

    def project(self, contexts, training=False):
        """Contexts [..., context_size] -> [..., width]."""
        embedded = _embed(self.embedding, contexts)
        if contexts.shape.rank == 2:
            flat = tf.reshape(embedded, [-1, self.context_size * self.output_width])
        else:
            flat = tf.concat(tf.unstack(embedded, axis=-2), axis=-1)
        return self.dropout(self.mix(flat), training=training)

    def call(self, labels, training=False):
        """Labels [B, U] -> [B, U + 1, width]: entry u has seen labels 1..u."""
        count = labels.shape[1] if labels.shape[1] is not None else tf.shape(labels)[1]
        padded = tf.pad(labels, [[0, 0], [self.context_size, 0]])
        contexts = tf.stack([padded[:, k : k + count + 1] for k in range(self.context_size)], axis=-1)
        return self.project(contexts, training=training)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class LSTMPredictor(keras.layers.Layer):
    """Embedding and a stack of LSTMs over all labels so far (Graves 2012); it starts by reading a blank.

    Args:
      vocab_size: V, the blank at 0 included.
      width: cells of each LSTM. num_layers: of them.
      embedding_width: None: as many as cells.
      projection, layer_norm, coupled_gates: of the LSTMs, see LSTM.
      dropout: rate, on the embeddings and after each LSTM.
    """

    def __init__(
        self, vocab_size: int, width: int, num_layers: int = 1, embedding_width: int | None = None,
        projection: int | None = None, layer_norm: bool = False, coupled_gates: bool = False, dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        lstm = {"projection": projection, "layer_norm": layer_norm, "coupled_gates": coupled_gates}
        self.settings = {
            "vocab_size": vocab_size, "width": width, "num_layers": num_layers, "embedding_width": embedding_width,
            **lstm, "dropout": dropout,
        }
        policy = self.dtype_policy
        self.embedding_width = embedding_width or width
        self.embedding = _embedding(vocab_size, self.embedding_width, policy)
        self.layers = [LSTM(width, **lstm, name=f"lstm_{i}", dtype=policy) for i in range(num_layers)]
        self.output_width = self.layers[-1].output_width
        self.dropout = keras.layers.Dropout(dropout, dtype=policy)

    def build(self, input_shape=None):
        self.embedding.build(None)
        width = self.embedding_width
        for layer in self.layers:
            layer.build((None, None, width))
            width = layer.output_width
        self.built = True

    def start(self, batch_size):
        """The state before the first label: {name of a layer: its state, see LSTM.get_initial_state}."""
        return self.advance(self._zeros(batch_size), tf.zeros([batch_size], tf.int32))

    def advance(self, state, tokens):
        """The state after `tokens` [B] were emitted."""
        return self._run(tokens[:, None], state, training=False)[1]

    def project(self, state):
        """State -> [B, output_width]."""
        return state[self.layers[-1].name]["output"]

    def call(self, labels, training=False):
        """Labels [B, U] -> [B, U + 1, output_width]: entry u has seen labels 1..u."""
        return self._run(tf.pad(labels, [[0, 0], [1, 0]]), self._zeros(tf.shape(labels)[0]), training)[0]

    def _zeros(self, batch_size):
        return {layer.name: layer.get_initial_state(batch_size) for layer in self.layers}

    def _run(self, labels, state, training):
        """Labels [B, U] and a state -> (outputs [B, U, output_width], new state)."""
        frames, new_state = self.dropout(_embed(self.embedding, labels), training=training), {}
        for layer in self.layers:
            frames, _, new_state[layer.name] = layer.step(frames, tf.ones_like(labels, tf.bool), state[layer.name])
            frames = self.dropout(frames, training=training)
        return frames, new_state

    def get_config(self):
        return {**super().get_config(), **self.settings}


def _embedding(vocab_size, width, policy):
    # Keras's default of +-0.05 would leave the joint blind to the labels for the first hundreds of steps.
    initializer = keras.initializers.RandomNormal(stddev=1.0)
    return keras.layers.Embedding(vocab_size, width, initializer, name="embedding", dtype=policy)


def _embed(embedding, labels):
    """embedding(labels), without Keras's handling of negative numbers, four operations for each step of a search."""
    return tf.cast(tf.gather(tf.convert_to_tensor(embedding.embeddings), labels), embedding.compute_dtype)
