"""Multi-head self-attention over time: full context, or chunk by chunk with bounded context on both sides."""

import keras
import tensorflow as tf

from tf_rnnt_kd.models.masking import count_frames, valid_frames
from tf_rnnt_kd.models.positions import align_distances, distances_between, rotate, sinusoids

_MASKED = -1e9
POSITION_ENCODINGS = ("rotary", "relative", "none")


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class SelfAttention(keras.layers.Layer):
    """Self-attention of frames [B, T, C] within each utterance's valid frames.

    Frame t of the chunk that begins at s = t // chunk_size * chunk_size sees the frames
    s - left_context .. s + chunk_size - 1 + right_context.

    Args:
      num_heads: heads; C must be a multiple of it, and of twice this number with positions.
      left_context: None for full context; otherwise frames before the chunk, and the layer streams.
      dropout: rate on the attention weights.
      chunk_size: frames that see each other; 1 is causal but for right_context.
      right_context: frames seen after the chunk, a multiple of chunk_size. Outputs of `step` come so much later.
      position_encoding: 'rotary' (Su et al. 2021); 'relative', sinusoids of distances with a projection and biases of
        their own (Dai et al. 2019), as in the Conformer paper; 'none'.
    """

    def __init__(
        self, num_heads, left_context=None, dropout=0.0, chunk_size=1, right_context=0, position_encoding="rotary",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if position_encoding not in POSITION_ENCODINGS:
            raise ValueError(f"position_encoding is {position_encoding!r}: choose of {', '.join(POSITION_ENCODINGS)}")
        if chunk_size < 1 or right_context < 0 or right_context % chunk_size:
            raise ValueError(
                f"right_context ({right_context}) must be a multiple of chunk_size ({chunk_size}), which is at least 1"
            )
        if left_context is None and (chunk_size > 1 or right_context):
            raise ValueError(
                f"chunk_size ({chunk_size}) and right_context ({right_context}) bound the context: "
                "give left_context a number of frames too, or leave them at 1 and 0"
            )
        self.num_heads = num_heads
        self.left_context = left_context
        self.chunk_size = chunk_size
        self.right_context = right_context
        self.position_encoding = position_encoding
        self.dropout_rate = dropout
        self.attention_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape):
        self.width = int(input_shape[-1])
        if self.width % self.num_heads or (self.position_encoding != "none" and self.width % (2 * self.num_heads)):
            raise ValueError(f"width {self.width} is not a multiple of twice the number of heads, {self.num_heads}")
        self.head_width = self.width // self.num_heads
        self.query_key_value = keras.layers.Dense(3 * self.width, name="query_key_value", dtype=self.dtype_policy)
        self.query_key_value.build((None, None, self.width))
        self.output_projection = keras.layers.Dense(self.width, name="output_projection", dtype=self.dtype_policy)
        self.output_projection.build((None, None, self.width))
        if self.position_encoding == "relative":
            self.position_projection = keras.layers.Dense(
                self.width, use_bias=False, name="position_projection", dtype=self.dtype_policy
            )
            self.position_projection.build((None, self.width))
            shape = (self.num_heads, self.head_width)
            self.content_bias = self.add_weight(name="content_bias", shape=shape, initializer="zeros")
            self.position_bias = self.add_weight(name="position_bias", shape=shape, initializer="zeros")
        self.built = True

    def _project(self, frames):
        """Query, key and value, each [B, T, heads, head width]."""
        shape = [tf.shape(frames)[0], -1 if frames.shape[1] is None else frames.shape[1]]
        # Split, for the gradient of a slice is slow: zeros of the whole with a part written over.
        parts = tf.split(self.query_key_value(frames), 3, axis=-1)
        return [tf.reshape(part, [*shape, self.num_heads, self.head_width]) for part in parts]

    def _scores(self, query, key, query_positions, key_positions):
        """[B, heads, Q, K] in the compute dtype."""
        scale = tf.cast(self.head_width**-0.5, query.dtype)
        if self.position_encoding == "rotary":
            query, key = rotate(query, query_positions) * scale, rotate(key, key_positions)
            return tf.einsum("bqnd,bknd->bnqk", query, key)
        if self.position_encoding == "none":
            return tf.einsum("bqnd,bknd->bnqk", query * scale, key)
        encoded = self.position_projection(sinusoids(distances_between(query_positions, key_positions), self.width))
        encoded = tf.reshape(encoded, [-1, self.num_heads, self.head_width])
        content = (query + tf.cast(self.content_bias, query.dtype)) * scale
        position = (query + tf.cast(self.position_bias, query.dtype)) * scale
        by_distance = tf.einsum("bqnd,mnd->bnqm", position, encoded)
        return tf.einsum("bqnd,bknd->bnqk", content, key) + align_distances(by_distance, tf.shape(key)[1])

    def _attend(self, query, key, value, query_positions, key_positions, visible, training):
        """`visible` is boolean and broadcasts to [B, Q, K]."""
        scores = self._scores(query, key, query_positions, key_positions)
        scores = tf.where(visible[:, None], tf.cast(scores, tf.float32), _MASKED)
        weights = tf.cast(tf.nn.softmax(scores), value.dtype)
        weights = self.attention_dropout(weights, training=training)
        mixed = tf.einsum("bnqk,bknd->bqnd", weights, value)
        shape = [tf.shape(mixed)[0], -1 if mixed.shape[1] is None else mixed.shape[1], self.width]
        return self.output_projection(tf.reshape(mixed, shape))

    def _in_reach(self, query_positions, key_positions):
        """Booleans [1, Q, K]: the context as declared; positions count from the beginning of a chunk."""
        begin = query_positions[:, None] // self.chunk_size * self.chunk_size
        after = begin + self.chunk_size - 1 + self.right_context
        return ((key_positions >= begin - self.left_context) & (key_positions <= after))[None]

    def call(self, frames, lengths, training=False):
        """Maps frames [B, T, C] with lengths [B] to [B, T, C]; rows beyond a length are meaningless but finite."""
        query, key, value = self._project(frames)
        num_frames = count_frames(frames)
        positions = tf.range(num_frames)
        visible = valid_frames(lengths, num_frames)[:, None, :]
        if self.left_context is not None:
            visible = visible & self._in_reach(positions, positions)
        return self._attend(query, key, value, positions, positions, visible, training)

    def get_initial_state(self, batch_size):
        """Keys and values of the last left_context + right_context frames, which of them exist, the queries that wait.

        Raises:
          ValueError: full context.
        """
        if self.left_context is None:
            raise ValueError("full-context attention cannot stream: give it a left_context")

        def zeros(count):
            return tf.zeros([batch_size, count, self.num_heads, self.head_width], self.compute_dtype)

        context = self.left_context + self.right_context
        state = {
            "key": zeros(context), "value": zeros(context), "valid": tf.zeros([batch_size, context], tf.bool),
        }
        return state | ({"query": zeros(self.right_context)} if self.right_context else {})

    def step(self, frames, valid, state):
        """The next k frames of a stream, k a multiple of chunk_size.

        Args:
          frames: [B, k, C]. valid: [B, k] booleans, false where there is no frame.
          state: from get_initial_state or the step before.

        Returns:
          ([B, k, C], valid [B, k], new state), of the frames right_context before these.
        """
        query, key, value = self._project(frames)
        count = count_frames(frames)
        key = tf.concat([state["key"], key], axis=1)
        value = tf.concat([state["value"], value], axis=1)
        valid = tf.concat([state["valid"], valid], axis=1)
        new_state = {"key": key[:, count:], "value": value[:, count:], "valid": valid[:, count:]}
        if self.right_context:
            query = tf.concat([state["query"], query], axis=1)
            new_state["query"] = query[:, count:]
            query = query[:, :count]
        left = self.left_context
        query_positions = tf.range(count)
        key_positions = tf.range(-left, count + self.right_context)
        visible = self._in_reach(query_positions, key_positions) & valid[:, None, :]
        outputs = self._attend(query, key, value, query_positions, key_positions, visible, False)
        return outputs, valid[:, left : left + count], new_state

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "left_context": self.left_context,
            "dropout": self.dropout_rate,
            "chunk_size": self.chunk_size,
            "right_context": self.right_context,
            "position_encoding": self.position_encoding,
        }
