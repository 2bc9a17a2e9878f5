"""Beam search over an RNN-T lattice: batched, in graph, equal prefixes merged.

Time-synchronous (Graves 2012, arXiv 1211.3711), with two changes that make it cheap and batched: at a frame, taking the
blank competes with all symbols for a place in the beam, so that one joint evaluation per hypothesis serves both; and
hypotheses that have left the frame keep their place while others go on emitting at it. With one place this is greedy
search. Hypotheses with the same tokens, reached along different alignments, are one: their probabilities add up.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice import NEGATIVE_INFINITY

_MISSING = NEGATIVE_INFINITY / 2
# Any odd number: hashes of equal prefixes are equal, of others almost never (2^-64).
_HASH_FACTOR = 0x5851F42D4C957F2D


class BeamResult(NamedTuple):
    """What beam_decode returns; N hypotheses per utterance, U tokens of the longest; the best comes first.

    tokens: int32 [B, N, U], zeros beyond num_tokens.
    num_tokens: int32 [B, N].
    score: float32 [B, N], what the search ranked by: natural-log probability, summed over the alignments that stayed in
      the beam, plus length_bonus for each token, less blank_penalty for each blank; NEGATIVE_INFINITY beyond
      num_hypotheses.
    num_hypotheses: int32 [B], at least 1.
    """

    tokens: tf.Tensor
    num_tokens: tf.Tensor
    score: tf.Tensor
    num_hypotheses: tf.Tensor


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """Settings of beam_decode as one callable."""

    beam: int = 4
    max_symbols_per_frame: int = 3
    blank_penalty: float = 0.0
    length_bonus: float = 0.0

    def __call__(self, model, encoder_projection, lengths):
        return beam_decode(model, encoder_projection, lengths, **dataclasses.asdict(self))


def beam_decode(
    model, encoder_projection, lengths, *, beam=4, max_symbols_per_frame=3, blank_penalty=0.0, length_bonus=0.0
):
    """The `beam` best hypotheses.

    Args:
      model: anything with predictor_start, predictor_project, predictor_advance and joint_logits, see greedy_decode.
      encoder_projection: [B, T, H]; frames beyond `lengths` may hold anything, NaN too.
      lengths: int32 [B], valid frames of each utterance, 0 allowed.
      beam: N, hypotheses kept.
      max_symbols_per_frame: after so many tokens at one frame only the blank is left.
      blank_penalty: natural-log units taken from every blank.
      length_bonus: natural-log units given to every token.

    Returns:
      A BeamResult.

    Raises:
      ValueError: beam or max_symbols_per_frame is less than one.
    """
    if beam < 1 or max_symbols_per_frame < 1:
        raise ValueError(f"beam ({beam}) and max_symbols_per_frame ({max_symbols_per_frame}) must be positive")
    encoder_projection = tf.convert_to_tensor(encoder_projection)
    lengths = tf.cast(lengths, tf.int32)
    batch, num_frames = tf.shape(encoder_projection)[0], tf.shape(encoder_projection)[1]
    search = _Search(model, batch, beam, max_symbols_per_frame, float(blank_penalty), float(length_bonus))

    def frame(t, *hypotheses):
        before = _Hypotheses(*hypotheses)
        after = search.one_frame(encoder_projection[:, t], before)
        return t + 1, *search.where(t < lengths, after, before)

    longest = tf.minimum(tf.reduce_max(tf.concat([lengths, [0]], 0)), num_frames)
    start = search.start(num_frames * max_symbols_per_frame)
    _, *hypotheses = tf.while_loop(lambda t, *_: t < longest, frame, (0, *start))
    found = search.best_first(_Hypotheses(*hypotheses))
    exists = found.score > _MISSING
    count = tf.where(exists, found.count, 0)
    width = tf.reduce_max(tf.concat([tf.reshape(count, [-1]), [0]], 0))
    return BeamResult(
        tokens=tf.where(tf.sequence_mask(count, width), found.tokens[:, :, :width], 0),
        num_tokens=count,
        score=tf.where(exists, found.score, NEGATIVE_INFINITY),
        num_hypotheses=tf.reduce_sum(tf.cast(exists, tf.int32), axis=1),
    )


class _Hypotheses(NamedTuple):
    """score [B, N], tokens [B, N, capacity], count [B, N], digest of the tokens [B, N] int64, context: a nest of
    [B, N, ...]."""

    score: tf.Tensor
    tokens: tf.Tensor
    count: tf.Tensor
    digest: tf.Tensor
    context: Any


class _Search:
    def __init__(self, model, batch, beam, max_symbols, blank_penalty, length_bonus):
        self.model, self.batch, self.beam, self.max_symbols = model, batch, beam, max_symbols
        self.blank_penalty, self.length_bonus = blank_penalty, length_bonus

    def start(self, capacity):
        """One hypothesis without tokens; the other places are empty."""
        shape = [self.batch, self.beam]
        first = tf.broadcast_to(tf.range(self.beam)[None, :] == 0, shape)
        context = self.model.predictor_start(self.batch)
        return _Hypotheses(
            score=tf.where(first, 0.0, NEGATIVE_INFINITY),
            tokens=tf.zeros([*shape, capacity], tf.int32),
            count=tf.zeros(shape, tf.int32),
            digest=tf.zeros(shape, tf.int64),
            context=tf.nest.map_structure(lambda x: tf.repeat(x[:, None], self.beam, axis=1), context),
        )

    def one_frame(self, encoded, hypotheses):
        """All hypotheses take the blank at this frame, after as many tokens as they like."""

        def goes_on(emitted, left, *_):
            return tf.reduce_any(~left)

        def step(emitted, left, *hypotheses):
            return emitted + 1, *self._step(encoded, emitted, left, _Hypotheses(*hypotheses))

        left = hypotheses.score <= _MISSING
        return _Hypotheses(*tf.while_loop(goes_on, step, (0, left, *hypotheses))[2:])

    def _step(self, encoded, emitted, left, before):
        """Those that have not left the frame take the blank or a token; the best stay."""
        projected = self.model.predictor_project(_as_batch(before.context))
        projected = tf.reshape(projected, [self.batch, self.beam, projected.shape[-1]])
        logits = tf.cast(self.model.joint_logits(encoded[:, None, :], projected), tf.float32)
        log_probs = tf.nn.log_softmax(logits)
        blank = before.score + tf.where(left, 0.0, log_probs[:, :, 0] - self.blank_penalty)
        blank = self._merged(blank, before)
        emits = before.score[:, :, None] + log_probs[:, :, 1:] + self.length_bonus
        may_emit = ~left & (emitted < self.max_symbols)
        emits = tf.where(may_emit[:, :, None], emits, NEGATIVE_INFINITY)
        num_others = tf.shape(emits)[2]
        candidates = tf.concat([blank, tf.reshape(emits, [self.batch, self.beam * num_others])], axis=1)
        score, choice = tf.math.top_k(candidates, self.beam)
        has_left = choice < self.beam
        emission = tf.maximum(choice - self.beam, 0)
        parent = tf.where(has_left, choice, emission // num_others)
        token = tf.where(has_left, 0, emission % num_others + 1)
        kept = _Hypotheses(score, *_gather(before[1:], parent))
        return has_left | (score <= _MISSING), *self._emit(kept, ~has_left, token)

    def _emit(self, kept, emits, token):
        """`token` [B, N] is appended where `emits`."""
        here = tf.range(tf.shape(kept.tokens)[2]) == kept.count[:, :, None]
        advanced = self.model.predictor_advance(_as_batch(kept.context), tf.reshape(token, [-1]))

        def choose(new, old):
            mask = tf.reshape(emits, tf.concat([tf.shape(emits), tf.ones([tf.rank(old) - 2], tf.int32)], 0))
            return tf.where(mask, tf.reshape(new, tf.shape(old)), old)

        return _Hypotheses(
            score=kept.score,
            tokens=tf.where(here & emits[:, :, None], token[:, :, None], kept.tokens),
            count=kept.count + tf.cast(emits, tf.int32),
            digest=tf.where(emits, kept.digest * _HASH_FACTOR + tf.cast(token, tf.int64), kept.digest),
            context=tf.nest.map_structure(choose, advanced, kept.context),
        )

    def _merged(self, score, hypotheses):
        """Of equal hypotheses the first gets the sum of their probabilities, the others are empty.

        Only those that leave the frame, now or before, can be equal: what is still at it has emitted equally many
        tokens there, from different beginnings.
        """
        digest, count = hypotheses.digest, hypotheses.count
        same = (digest[:, :, None] == digest[:, None, :]) & (count[:, :, None] == count[:, None, :])
        total = tf.reduce_logsumexp(tf.where(same, score[:, None, :], NEGATIVE_INFINITY), axis=2)
        earlier = tf.linalg.band_part(tf.ones([self.beam, self.beam], tf.bool), -1, 0)
        earlier = earlier & ~tf.eye(self.beam, dtype=tf.bool)
        is_first = ~tf.reduce_any(same & earlier & (score > _MISSING)[:, None, :], axis=2)
        return tf.where(is_first & (total > _MISSING), total, NEGATIVE_INFINITY)

    def where(self, condition, yes, no):
        """Hypotheses of `yes` for the utterances where `condition` [B] is true."""

        def choose(a, b):
            shape = tf.concat([[self.batch], tf.ones([tf.rank(a) - 1], tf.int32)], 0)
            return tf.where(tf.reshape(condition, shape), a, b)

        return tf.nest.map_structure(choose, yes, no)

    def best_first(self, hypotheses):
        order = tf.argsort(hypotheses.score, axis=1, direction="DESCENDING", stable=True)
        return _gather(hypotheses, order)


def _as_batch(context):
    """A nest of [B, N, ...] as one of [B * N, ...]."""
    return tf.nest.map_structure(lambda x: tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0)), context)


def _gather(nest, index):
    """Of each [B, N, ...] the hypotheses `index` [B, N]."""
    return tf.nest.map_structure(lambda x: tf.gather(x, index, batch_dims=1), nest)
