"""Multi-head self-attention over time with rotary positions: full context, or causal with a bounded left context."""

import keras
import tensorflow as tf

from tf_rnnt_kd.models.masking import valid_frames

_MASKED = -1e9


def rotate(vectors, positions):
    """Rotary position embedding (Su et al. 2021): vectors [B, T, N, D] turned by angles of positions [T].

    The product of a rotated query and a rotated key depends on the difference of their positions only, so a stream
    may number its frames from any origin.
    """
    half = vectors.shape[-1] // 2
    frequencies = tf.pow(10000.0, -tf.range(half, dtype=tf.float32) / half)
    angles = tf.cast(positions, tf.float32)[:, None] * frequencies[None, :]
    cos = tf.cast(tf.cos(angles), vectors.dtype)[None, :, None, :]
    sin = tf.cast(tf.sin(angles), vectors.dtype)[None, :, None, :]
    first, second = vectors[..., :half], vectors[..., half:]
    return tf.concat([first * cos - second * sin, first * sin + second * cos], axis=-1)


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class SelfAttention(keras.layers.Layer):
    """Self-attention of frames [B, T, C] within each utterance's valid frames.

    Args:
      num_heads: heads; C must be a multiple of twice this number.
      left_context: None for full context; otherwise frame t sees frames t - left_context .. t and the layer streams.
      dropout: rate on the attention weights.
    """

    def __init__(self, num_heads, left_context=None, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.left_context = left_context
        self.dropout_rate = dropout
        self.attention_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape):
        self.width = int(input_shape[-1])
        if self.width % (2 * self.num_heads):
            raise ValueError(f"width {self.width} is not a multiple of twice the number of heads, {self.num_heads}")
        self.query_key_value = keras.layers.Dense(3 * self.width, name="query_key_value", dtype=self.dtype_policy)
        self.query_key_value.build((None, None, self.width))
        self.output_projection = keras.layers.Dense(self.width, name="output_projection", dtype=self.dtype_policy)
        self.output_projection.build((None, None, self.width))
        self.built = True

    def _project(self, frames):
        """Query, key and value, each [B, T, heads, head width]."""
        shape = [tf.shape(frames)[0], -1 if frames.shape[1] is None else frames.shape[1]]
        projected = tf.reshape(
            self.query_key_value(frames), shape + [3, self.num_heads, self.width // self.num_heads]
        )
        return projected[:, :, 0], projected[:, :, 1], projected[:, :, 2]

    def _attend(self, query, key, value, query_positions, key_positions, visible, training):
        """`visible` is boolean and broadcasts to [B, T_query, T_key]."""
        scale = (self.width // self.num_heads) ** -0.5
        query = rotate(query, query_positions) * tf.cast(scale, query.dtype)
        scores = tf.einsum("bqnd,bknd->bnqk", query, rotate(key, key_positions))
        scores = tf.where(visible[:, None], tf.cast(scores, tf.float32), _MASKED)
        weights = tf.cast(tf.nn.softmax(scores), value.dtype)
        weights = self.attention_dropout(weights, training=training)
        mixed = tf.einsum("bnqk,bknd->bqnd", weights, value)
        shape = [tf.shape(mixed)[0], -1 if mixed.shape[1] is None else mixed.shape[1], self.width]
        return self.output_projection(tf.reshape(mixed, shape))

    def call(self, frames, lengths, training=False):
        """Maps frames [B, T, C] with lengths [B] to [B, T, C]; rows beyond a length are meaningless but finite."""
        query, key, value = self._project(frames)
        num_frames = frames.shape[1] if frames.shape[1] is not None else tf.shape(frames)[1]
        positions = tf.range(num_frames)
        visible = valid_frames(lengths, num_frames)[:, None, :]
        if self.left_context is not None:
            distance = positions[:, None] - positions[None, :]
            visible = visible & ((distance >= 0) & (distance <= self.left_context))[None]
        return self._attend(query, key, value, positions, positions, visible, training)

    def get_initial_state(self, batch_size):
        """Keys and values of the last `left_context` frames and how many of them are real (int32 [B])."""
        if self.left_context is None:
            raise ValueError("full-context attention cannot stream: give it a left_context")
        shape = [batch_size, self.left_context, self.num_heads, self.width // self.num_heads]
        zeros = tf.zeros(shape, self.compute_dtype)
        return {"key": zeros, "value": zeros, "seen": tf.zeros([batch_size], tf.int32)}

    def step(self, frames, state):
        """Maps the next k frames [B, k, C] to ([B, k, C], new state)."""
        query, key, value = self._project(frames)
        key = tf.concat([state["key"], key], axis=1)
        value = tf.concat([state["value"], value], axis=1)
        context, count = self.left_context, tf.shape(frames)[1]
        key_positions = tf.range(context + count)
        query_positions = context + tf.range(count)
        distance = query_positions[:, None] - key_positions[None, :]
        visible = ((distance >= 0) & (distance <= context))[None]
        visible = visible & (key_positions[None, :] >= context - state["seen"][:, None])[:, None, :]
        outputs = self._attend(query, key, value, query_positions, key_positions, visible, False)
        seen = tf.minimum(state["seen"] + count, context)
        return outputs, {"key": key[:, count:], "value": value[:, count:], "seen": seen}

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "left_context": self.left_context,
            "dropout": self.dropout_rate,
        }
