"""The prediction network."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class StatelessPredictor(keras.layers.Layer):
    """Embedding of the last `context_size` labels, joined by a convolution over them (Ghodsi et al. 2020).

    Its whole state is those labels; the start of an utterance is a context of blanks.

    Args:
      vocab_size: V, the blank at 0 included.
      width: of embeddings and output.
      context_size: labels seen, at least 1.
    """

    def __init__(self, vocab_size, width, context_size=2, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.settings = {
            "vocab_size": vocab_size, "width": width, "context_size": context_size, "dropout": dropout,
        }
        self.context_size = context_size
        # Keras's default of +-0.05 would leave the joint blind to the labels for the first hundreds of steps.
        self.embedding = keras.layers.Embedding(
            vocab_size, width, keras.initializers.RandomNormal(stddev=1.0), name="embedding", dtype=self.dtype_policy
        )
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
        return tf.concat([context[:, 1:], tokens[:, None]], axis=1)

    def project(self, contexts, training=False):
        """Contexts [..., context_size] -> [..., width]."""
        embedded = self.embedding(contexts)
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
