"""Alignment-length-synchronous beam search (Saon, Tueske and Audhkhasi 2020), batched, to measure ours against.

All hypotheses of a beam have taken equally many steps, blanks and tokens together, so they stand at different frames;
those that reach the end go to a list of their own, and an utterance is done when nothing unfinished can enter it, or
all that is unfinished lies far below the best in it.
"""

import tensorflow as tf

from tf_rnnt_kd.decoding import hypotheses as beam_places
from tf_rnnt_kd.decoding.hypotheses import MISSING, Hypotheses, flat, like
from tf_rnnt_kd.lattice import NEGATIVE_INFINITY

_HOPELESS = 10.0  # natural-log units


class AlignmentLengthSearch:
    """Called as a BeamSearch; gives (tokens [B, N, U], num_tokens [B, N], score [B, N]), U at most T.

    Without the limit of symbols per frame, a label that is likely after itself keeps whole beams at one frame.
    """

    def __init__(self, beam, *, max_symbols_per_frame=3):
        self.beam, self.max_symbols = beam, max_symbols_per_frame

    def __call__(self, model, encoded, lengths):
        batch, num_frames = tf.unstack(tf.shape(encoded)[:2])
        lengths = tf.cast(lengths, tf.int32)
        history = beam_places.History(2 + 2 * num_frames, batch=batch, beam=self.beam)
        context = model.predictor_start(batch)
        start = beam_places.start(context, model.predictor_project(context), beam=self.beam)
        missing = tf.fill([batch, self.beam], NEGATIVE_INFINITY)
        finals = (missing, tf.zeros_like(start.count), tf.zeros_like(start.last))

        def unfinished(step, places, frames, here, finals, arrays):
            ended = finals[0]
            bar = tf.maximum(tf.reduce_min(ended, axis=1), tf.reduce_max(ended, axis=1) - _HOPELESS)
            possible = tf.reduce_max(places.score, axis=1) > tf.maximum(bar, MISSING)
            return tf.reduce_any(possible) & (step < 1 + 2 * num_frames)

        def body(step, *state):
            return step + 1, *self._step(model, encoded, lengths, history, step, *state)

        zeros = tf.zeros([batch, self.beam], tf.int32)
        loop = (1, start, zeros, zeros, finals, history.beginning)
        steps, _, _, _, (score, count, last), arrays = tf.while_loop(unfinished, body, loop)
        found = history.trace(arrays, steps, last=last, count=count, width=tf.reduce_max(count))
        return found.tokens, count, score

    def _step(self, model, encoded, lengths, history, step, before, frames, here, finals, arrays):
        """frames [B, N]: where each hypothesis is; here [B, N]: tokens that it has emitted there."""
        beam = self.beam
        batch = tf.shape(frames)[0]
        rows = tf.cast(tf.where(tf.reshape(before.score > MISSING, [-1]))[:, 0], tf.int32)
        places = tf.stack([rows // beam, tf.gather(tf.reshape(frames, [-1]), rows)], axis=1)
        logits = model.joint_logits(tf.gather_nd(encoded, places), tf.gather(flat(before.projection), rows))
        log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        width = min(beam, log_probs.shape[1] - 1)
        best, label = tf.math.top_k(log_probs[:, 1:], width)

        def all_places(values):
            return beam_places.update_rows(tf.zeros([batch, beam, *values.shape[1:]], values.dtype), rows, values)

        blank, best, label = tf.nest.map_structure(all_places, (log_probs[:, 0], best, label + 1))
        exists = before.score > MISSING
        blank = tf.where(exists, before.score + blank, NEGATIVE_INFINITY)
        may_emit = exists & (here < self.max_symbols)
        emits = tf.where(may_emit[:, :, None], before.score[:, :, None] + best, NEGATIVE_INFINITY)
        ends = frames + 1 >= lengths[:, None]
        finals = self._best(
            tf.concat([finals[0], tf.where(ends, blank, NEGATIVE_INFINITY)], 1),
            tf.concat([finals[1], before.count], 1), tf.concat([finals[2], before.last], 1), count=beam,
        )  # fmt: skip
        # Twice as many as there are places, since some will turn out to be equal.
        candidates = tf.concat(
            [tf.where(ends, NEGATIVE_INFINITY, blank), tf.reshape(emits, [batch, beam * width])], axis=1
        )
        score, choice = tf.math.top_k(candidates, 2 * beam)
        emission = tf.maximum(choice - beam, 0)
        emitted = choice >= beam
        parent = tf.where(emitted, emission // width, choice)
        token = tf.gather(tf.reshape(label, [batch, -1]), emission, batch_dims=1)
        digest, count = beam_places.gather((before.digest, before.count), parent)
        digest = tf.where(emitted, beam_places.extended(digest, token), digest)
        count += tf.cast(emitted, tf.int32)
        score, emitted, parent, token, digest, count = self._best(
            beam_places.merged(score, digest=digest, count=count), emitted, parent, token, digest, count, count=beam
        )
        emitted &= score > MISSING
        kept = Hypotheses(*beam_places.gather(before, parent))
        frames, here = beam_places.gather((frames, here), parent)
        arrays = history.write(
            arrays, step, tokens=token, previous=kept.last, frames=frames, log_probs=tf.zeros_like(score)
        )
        context, projection = _advanced(model, kept, emitted, token)
        last = tf.where(emitted, step * beam + tf.range(beam), kept.last)
        after = Hypotheses(score, kept.external, kept.left, count, digest, last, projection, context)
        frames = tf.where(emitted, frames, tf.minimum(frames + 1, tf.maximum(lengths[:, None] - 1, 0)))
        here = tf.where(emitted, here + 1, 0)
        return tf.nest.map_structure(like, after, before), frames, here, finals, arrays

    def _best(self, score, *others, count):
        score, index = tf.math.top_k(score, count)
        return score, *beam_places.gather(others, index)


def _advanced(model, kept, emits, token):
    def advance():
        rows = tf.cast(tf.where(tf.reshape(emits, [-1]))[:, 0], tf.int32)
        context = tf.nest.map_structure(lambda x: tf.gather(x, rows), flat(kept.context))
        context = model.predictor_advance(context, tf.gather(tf.reshape(token, [-1]), rows))
        new = (context, model.predictor_project(context))
        return beam_places.update_rows((kept.context, kept.projection), rows, new)

    return tf.cond(tf.reduce_any(emits), advance, lambda: (kept.context, kept.projection))
