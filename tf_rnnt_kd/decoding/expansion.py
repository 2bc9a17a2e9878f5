"""The steps of a beam search; beam.py says what it does."""

from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.decoding import hypotheses as beam_places
from tf_rnnt_kd.decoding.hypotheses import MISSING, Hypotheses, flat, like
from tf_rnnt_kd.lattice import NEGATIVE_INFINITY


class BeamResult(NamedTuple):
    """What beam_decode returns; N hypotheses per utterance, U tokens of the longest; the best comes first.

    tokens: int32 [B, N, U], zeros beyond num_tokens.
    num_tokens: int32 [B, N].
    score: float32 [B, N], what the search ranked by: natural-log probability, summed over the alignments that stayed in
      the beam, less blank_penalty for each blank, plus `external`; NEGATIVE_INFINITY beyond num_hypotheses.
    num_hypotheses: int32 [B], at least 1.
    external: float32 [B, N], what length bonus and scorers gave. To rank by exact probabilities, add it to those.
    token_frames: int32 [B, N, U], encoder frame at which each token was emitted, on the likelier side of each merge.
    token_confidence: float32 [B, N, U], the model's probability of each token at that node.
    """

    tokens: tf.Tensor
    num_tokens: tf.Tensor
    score: tf.Tensor
    num_hypotheses: tf.Tensor
    external: tf.Tensor
    token_frames: tf.Tensor
    token_confidence: tf.Tensor


class Search:
    """One search; the arguments are those of BeamSearch.__call__, `settings` is a BeamSearch."""

    def __init__(self, settings, model, encoder_projection, lengths, trim):
        self.settings, self.model, self.trim = settings, model, trim
        self.encoded = tf.convert_to_tensor(encoder_projection)
        self.lengths = tf.cast(lengths, tf.int32)
        static, dynamic = self.encoded.shape, tf.shape(self.encoded)
        self.batch, self.num_frames = (dynamic[i] if static[i] is None else static[i] for i in (0, 1))
        steps = 1 + self.num_frames * (settings.max_symbols_per_frame + 1)
        self.history = beam_places.History(steps, batch=self.batch, beam=settings.beam)

    def run(self):
        context = {
            "model": self.model.predictor_start(self.batch),
            "scorers": [scorer.start(self.batch) for scorer in self.settings.scorers],
        }
        start = beam_places.start(
            context, self.model.predictor_project(context["model"]), beam=self.settings.beam
        )
        zeros = tf.zeros([self.batch], tf.int32)
        # Frames that an utterance does not have are never looked at.
        lengths = tf.minimum(self.lengths, self.num_frames)

        def unfinished(step, frame, *_):
            return tf.reduce_any(frame < lengths)

        def body(step, frame, emitted, places, history):
            return step + 1, *self._step(step, frame, emitted, places, history, frame < lengths)

        steps, _, _, places, history = tf.while_loop(
            unfinished, body, (1, zeros, zeros, start, self.history.beginning)
        )
        return self._result(places, history, steps)

    def _step(self, step, frame, emitted, before, history, running):
        """Those that have not left the frame take the blank or a token; the best stay.

        frame [B]: where each utterance is; emitted [B]: tokens that those who are still there have emitted there.
        """
        settings = self.settings
        num_places = settings.beam
        active = running[:, None] & ~before.left & (before.score > MISSING)
        blank, labels = self._choices(before, frame, active)
        may_emit = active & (emitted < settings.max_symbols_per_frame)[:, None]
        stays = before.score + tf.where(active, blank, 0.0)
        # Only those that leave the frame, now or before, can be equal: what is still at it has emitted equally many
        # tokens there, from different beginnings.
        stays = beam_places.merged(stays, digest=before.digest, count=before.count)
        emits = tf.where(
            may_emit[:, :, None] & (labels.total > MISSING), before.score[:, :, None] + labels.total, NEGATIVE_INFINITY
        )
        width = emits.shape[2]
        score, choice = tf.math.top_k(
            tf.concat([stays, tf.reshape(emits, [self.batch, num_places * width])], axis=1), num_places
        )
        emission = tf.maximum(choice - num_places, 0)
        has_left = choice < num_places
        has_emitted = ~has_left & (score > MISSING)
        parent = tf.where(has_left, choice, emission // width)
        token, total, log_prob = (
            tf.gather(tf.reshape(x, [self.batch, num_places * width]), emission, batch_dims=1) for x in labels
        )
        kept = Hypotheses(*beam_places.gather(before, parent))
        history = self.history.write(
            history, step, tokens=token, previous=kept.last, frames=tf.repeat(frame[:, None], num_places, 1),
            log_probs=log_prob,
        )  # fmt: skip
        all_left = ~tf.reduce_any(has_emitted, axis=1)
        context, projection = self._advanced(kept, has_emitted, token)
        after = Hypotheses(
            score=score,
            external=kept.external + tf.where(has_emitted, total - log_prob, 0.0),
            left=~has_emitted & ~all_left[:, None],
            count=kept.count + tf.cast(has_emitted, tf.int32),
            digest=tf.where(has_emitted, beam_places.extended(kept.digest, token), kept.digest),
            last=tf.where(has_emitted, step * num_places + tf.range(num_places), kept.last),
            projection=projection,
            context=context,
        )
        frame += tf.cast(running & all_left, tf.int32)
        emitted = tf.where(all_left, 0, emitted + 1)
        return frame, emitted, tf.nest.map_structure(like, after, before), history

    def _choices(self, places, frame, active):
        """What places may do: (log-prob of the blank less its penalty [B, N], _Labels [B, N, K]).

        Those that are not `active` may hold anything.
        """
        encoded = tf.gather(self.encoded, tf.minimum(frame, self.num_frames - 1), batch_dims=1)
        rows = self._rows(active)
        inputs = {"projection": places.projection, "scorers": places.context["scorers"]}
        inputs = tf.nest.map_structure(lambda x: tf.gather(x, rows), flat(inputs))
        encoded = tf.gather(encoded, rows // self.settings.beam)
        log_probs = tf.nn.log_softmax(tf.cast(self.model.joint_logits(encoded, inputs["projection"]), tf.float32))
        blank = log_probs[:, 0] - self.settings.blank_penalty
        log_probs = log_probs[:, 1:]
        total = log_probs + self.settings.length_bonus
        for scorer, state in zip(self.settings.scorers, inputs["scorers"], strict=True):
            total += scorer.label_scores(state)
        total, label = tf.math.top_k(total, min(self.settings.beam, total.shape[1]))
        log_probs = tf.gather(log_probs, label, batch_dims=1)
        if self.settings.expansion_margin is not None:
            best = tf.maximum(blank, total[:, 0])[:, None]
            total = tf.where(total >= best - self.settings.expansion_margin, total, NEGATIVE_INFINITY)
        labels = _Labels(label + 1, total, log_probs)


        def all_places(values):
            shape = [self.batch, self.settings.beam, *values.shape[1:]]
            return beam_places.update_rows(tf.zeros(shape, values.dtype), rows, values)

        return tf.nest.map_structure(all_places, (blank, labels))

    def _advanced(self, kept, emits, token):
        """(context, projection) after `token` [B, N] where `emits`."""

        def advance():
            rows = self._rows(emits)
            tokens = tf.gather(tf.reshape(token, [-1]), rows)
            context = tf.nest.map_structure(lambda x: tf.gather(x, rows), flat(kept.context))
            context = {
                "model": self.model.predictor_advance(context["model"], tokens),
                "scorers": [
                    scorer.advance(state, tokens)
                    for scorer, state in zip(self.settings.scorers, context["scorers"], strict=True)
                ],
            }
            new = (context, self.model.predictor_project(context["model"]))
            if self.trim:
                return beam_places.update_rows((kept.context, kept.projection), rows, new)
            return tf.nest.map_structure(lambda x, old: _chosen(emits, x, old), new, (kept.context, kept.projection))

        # At most frames nobody emits.
        return tf.cond(tf.reduce_any(emits), advance, lambda: (kept.context, kept.projection))

    def _rows(self, mask):
        """Numbers of the places of B * N at which the model is evaluated: those in `mask` [B, N], or all."""
        if self.trim:
            return tf.cast(tf.where(tf.reshape(mask, [-1]))[:, 0], tf.int32)
        return tf.range(self.batch * self.settings.beam)

    def _result(self, places, history, steps):
        score, external = places.score, places.external
        for scorer, state in zip(self.settings.scorers, places.context["scorers"], strict=True):
            final = tf.reshape(scorer.final(flat(state)), tf.shape(score))
            final = tf.where(score > MISSING, final, 0.0)
            score, external = score + final, external + final
        score, order = tf.math.top_k(score, self.settings.beam)
        external, count, last = beam_places.gather((external, places.count, places.last), order)
        exists = score > MISSING
        count = tf.where(exists, count, 0)
        longest = tf.reduce_max(tf.concat([tf.reshape(count, [-1]), [0]], 0))
        found = self.history.trace(
            history,
            steps if self.trim else None,
            last=last,
            count=count,
            width=longest if self.trim else self.num_frames * self.settings.max_symbols_per_frame,
        )
        return BeamResult(
            tokens=found.tokens,
            num_tokens=count,
            score=tf.where(exists, score, NEGATIVE_INFINITY),
            num_hypotheses=tf.reduce_sum(tf.cast(exists, tf.int32), axis=1),
            external=tf.where(exists, external, 0.0),
            token_frames=found.frames,
            token_confidence=found.confidence,
        )


class _Labels(NamedTuple):
    """The K likeliest labels of each hypothesis: their number, what the search adds to the score, and the log-prob."""

    token: tf.Tensor
    total: tf.Tensor
    log_prob: tf.Tensor


def _chosen(mask, new, old):
    """[B, N, ...]: `new` [B * N, ...] where `mask` [B, N], `old` elsewhere."""
    shape = tf.concat([tf.shape(mask), tf.ones([tf.rank(old) - 2], tf.int32)], 0)
    return tf.where(tf.reshape(mask, shape), tf.reshape(tf.cast(new, old.dtype), tf.shape(old)), old)
