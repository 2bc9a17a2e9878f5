"""The hypotheses of a beam, B utterances by N places, and how their tokens are found again at the end."""

from typing import Any, NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice import NEGATIVE_INFINITY

MISSING = NEGATIVE_INFINITY / 2
"""A place with less than this is empty."""

# Any odd number: hashes of equal prefixes are equal, of others almost never (2^-64).
_HASH_FACTOR = 0x5851F42D4C957F2D


class Hypotheses(NamedTuple):
    """N places for each of B utterances.

    score: float32 [B, N], what the search ranks by; NEGATIVE_INFINITY in an empty place.
    external: float32 [B, N], the part of it that does not come from the model.
    left: bool [B, N], has taken the blank at the frame at which its utterance is.
    count: int32 [B, N], tokens. digest: int64 [B, N], a hash of them.
    last: int32 [B, N], where the history holds the last token, 0 without any.
    projection: [B, N, H], of the predictor into the joint space. context: a nest of [B, N, ...].
    """

    score: tf.Tensor
    external: tf.Tensor
    left: tf.Tensor
    count: tf.Tensor
    digest: tf.Tensor
    last: tf.Tensor
    projection: tf.Tensor
    context: Any


class Emissions(NamedTuple):
    """What was emitted, [B, N, U] each, 0 beyond the count. tokens and frames: int32. confidence: float32."""

    tokens: tf.Tensor
    frames: tf.Tensor
    confidence: tf.Tensor


def start(context, projection, *, beam):
    """One hypothesis without tokens in the first of `beam` places; `context` nest of [B, ...], `projection` [B, H]."""
    batch = tf.shape(projection)[0]
    shape = [batch, beam]
    first = tf.broadcast_to(tf.range(beam)[None, :] == 0, shape)

    def places(x):
        return tf.repeat(x[:, None], beam, axis=1)

    return Hypotheses(
        score=tf.where(first, 0.0, NEGATIVE_INFINITY),
        external=tf.zeros(shape),
        left=tf.zeros(shape, tf.bool),
        count=tf.zeros(shape, tf.int32),
        digest=tf.zeros(shape, tf.int64),
        last=tf.zeros(shape, tf.int32),
        projection=places(projection),
        context=tf.nest.map_structure(places, context),
    )


def extended(digest, token):
    """The digest of the tokens with one more."""
    return digest * _HASH_FACTOR + tf.cast(token, tf.int64)


def merged(score, *, digest, count):
    """Of equal hypotheses the likeliest gets the sum of their probabilities, the others' places are empty: [B, N]."""
    same = (digest[:, :, None] == digest[:, None, :]) & (count[:, :, None] == count[:, None, :])
    alike = tf.where(same, score[:, None, :], NEGATIVE_INFINITY)
    likeliest = tf.argmax(alike, axis=2, output_type=tf.int32) == tf.range(tf.shape(score)[1])
    total = tf.reduce_logsumexp(alike, axis=2)
    return tf.where(likeliest & (score > MISSING), total, NEGATIVE_INFINITY)


def gather(nest, index):
    """Of each [B, N, ...] the places `index` [B, K]."""
    return tf.nest.map_structure(lambda x: tf.gather(x, index, batch_dims=1), nest)


def flat(nest):
    """A nest of [B, N, ...] as one of [B * N, ...]."""
    return tf.nest.map_structure(lambda x: tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0)), nest)


def update_rows(nest, rows, new):
    """[B, N, ...] with the places `rows` [M] of B * N replaced by `new` [M, ...]."""

    def update(old, values):
        changed = tf.tensor_scatter_nd_update(flat(old), rows[:, None], tf.cast(values, old.dtype))
        return like(tf.reshape(changed, tf.shape(old)), old)

    return tf.nest.map_structure(update, nest, new)


def like(x, reference):
    """x with the static shape of `reference`, which a loop needs."""
    x.set_shape(reference.shape)
    return x


class History:
    """All emissions in the order of the steps that made them; each knows the one before it.

    Step 0 is the beginning: its entries stand before the first token, and lead to themselves.

    Args:
      steps: at most so many, the beginning included.
      batch, beam: B and N.
    """

    def __init__(self, steps, *, batch, beam):
        shape = [batch if isinstance(batch, int) else None, beam]
        settings = {"size": steps, "clear_after_read": False}
        arrays = (
            tf.TensorArray(tf.int32, element_shape=[*shape, 3], **settings),
            tf.TensorArray(tf.float32, element_shape=shape, **settings),
        )
        zeros = tf.zeros([batch, beam], tf.int32)
        nothing = {"tokens": zeros, "previous": zeros, "frames": zeros, "log_probs": tf.zeros([batch, beam])}
        self.beginning = self.write(arrays, 0, **nothing)

    def write(self, arrays, step, *, tokens, previous, frames, log_probs):
        """The arrays with one more step; all [B, N]. Its emissions lie at step * N + place."""
        entries = tf.stack([tokens, previous, frames], axis=2)
        return arrays[0].write(step, entries), arrays[1].write(step, log_probs)

    def trace(self, arrays, steps, *, last, count, width):
        """Emissions of hypotheses whose last lies at `last` [B, K], `count` [B, K] of them, in `width` columns.

        `steps` were written, the beginning included; None: all, which needs static shapes.
        """
        read = [array.stack() if steps is None else array.gather(tf.range(steps)) for array in arrays]
        # [S, B, N, ...] -> [B, S * N, ...]
        written, batch, places = tf.unstack(tf.shape(read[1]))
        entries = tf.reshape(tf.transpose(read[0], [1, 0, 2, 3]), [batch, written * places, 3])
        confidence = tf.exp(tf.reshape(tf.transpose(read[1], [1, 0, 2]), [batch, written * places]))
        # An array without entries cannot be stacked where its shape is not known.
        columns = tf.maximum(width, 1) if tf.is_tensor(width) else max(width, 1)
        found = tf.TensorArray(tf.int32, size=columns, element_shape=[*last.shape, 2])
        sure = tf.TensorArray(tf.float32, size=columns, element_shape=last.shape)

        def back(k, at, found, sure):
            entry = tf.gather(entries, at, batch_dims=1)
            found = found.write(k, tf.stack([entry[:, :, 0], entry[:, :, 2]], axis=2))
            return k + 1, like(entry[:, :, 1], last), found, sure.write(k, tf.gather(confidence, at, batch_dims=1))

        _, _, found, sure = tf.while_loop(lambda k, *_: k < columns, back, (0, last, found, sure))
        # Written last token first.
        order = count[:, :, None] - 1 - tf.range(width)
        valid = order >= 0
        order = tf.maximum(order, 0)
        found = tf.gather(tf.transpose(found.stack(), [1, 2, 0, 3]), order, batch_dims=2)
        sure = tf.gather(tf.transpose(sure.stack(), [1, 2, 0]), order, batch_dims=2)
        return Emissions(
            tokens=tf.where(valid, found[..., 0], 0),
            frames=tf.where(valid, found[..., 1], 0),
            confidence=tf.where(valid, sure, 0.0),
        )
