"""Greedy search over an RNN-T lattice: batched, in graph, offline or streaming."""

import dataclasses
from typing import NamedTuple

import tensorflow as tf


class GreedyResult(NamedTuple):
    """What greedy_decode returns; B utterances, U tokens of the longest hypothesis.

    tokens: int32 [B, U], zeros beyond num_tokens.
    num_tokens: int32 [B].
    log_prob: float32 [B], natural log-probability of the path taken over these frames, blanks included. It is one path
      of those that spell the tokens, so it never exceeds the full sum log P(tokens | audio).
    token_frames: int32 [B, U], encoder frame at which each token was emitted, counted from the stream's beginning.
    token_confidence: float32 [B, U], probability of each token at the node where it was emitted.
    state: give it to the next call to go on where this one stopped.
    """

    tokens: tf.Tensor
    num_tokens: tf.Tensor
    log_prob: tf.Tensor
    token_frames: tf.Tensor
    token_confidence: tf.Tensor
    state: dict


@dataclasses.dataclass(frozen=True)
class GreedySearch:
    """Settings of greedy_decode, which say what they mean, as one callable."""

    max_symbols_per_frame: int = 3
    blank_penalty: float = 0.0

    def __call__(self, model, encoder_projection, lengths, *, state=None):
        return greedy_decode(model, encoder_projection, lengths, state=state, **dataclasses.asdict(self))


def initial_state(model, *, batch_size):
    """The search state at the beginning of a stream: the predictor's context and the frames seen so far [B]."""
    return {"context": model.predictor_start(batch_size), "frame": tf.zeros([batch_size], tf.int32)}


def greedy_decode(
    model, encoder_projection, lengths, *, max_symbols_per_frame=3, blank_penalty=0.0, state=None, frames_per_step=4,
    trim=True,
):
    """Takes the likeliest symbol at every node; the blank (index 0) leads to the next frame.

    Each utterance has its own place in the lattice. One step of the loop looks at `frames_per_step` frames at once,
    takes all blanks up to the first token and that token, so that the loop runs about
    max over utterances of (tokens + frames / frames_per_step) times instead of (tokens + frames).

    Args:
      model: anything with predictor_start(batch_size) -> context (a tensor [B, ...] or a nest of such),
        predictor_project(context) -> [B, H], predictor_advance(context, tokens [B]) -> context and
        joint_logits([..., H], [..., H]) -> [..., V], whose softmax is the distribution at a node: a joint with a
        factorised blank gives log-probabilities (lattice.factorised_log_probs).
      encoder_projection: [B, T, H]; frames beyond `lengths` may hold anything, NaN too.
      lengths: int32 [B], valid frames of each utterance, 0 allowed.
      max_symbols_per_frame: after so many tokens at one frame a blank is taken there, and counted in log_prob.
      blank_penalty: natural-log units taken from the blank where symbols are compared. A word of which the model is
        unsure spreads its mass over symbols and frames, so that the blank wins everywhere and the word is lost; one to
        two units bring it back. Log-probs and confidences stay the model's own.
      state: None at the beginning, or the state of the call that decoded the frames before these.
      frames_per_step: speed only; it changes no result.
      trim: True cuts tokens to U, the longest hypothesis. False keeps T * max_symbols_per_frame columns, as XLA, which
        wants shapes that do not depend on values, needs it.

    Returns:
      A GreedyResult.

    Raises:
      ValueError: max_symbols_per_frame or frames_per_step is less than one.
    """
    if max_symbols_per_frame < 1 or frames_per_step < 1:
        raise ValueError(
            f"max_symbols_per_frame ({max_symbols_per_frame}) and frames_per_step ({frames_per_step}) must be positive"
        )
    encoder_projection = tf.convert_to_tensor(encoder_projection)
    lengths = tf.cast(lengths, tf.int32)
    static_batch, static_frames = encoder_projection.shape[:2]
    batch = tf.shape(encoder_projection)[0] if static_batch is None else static_batch
    num_frames = tf.shape(encoder_projection)[1] if static_frames is None else static_frames
    state = initial_state(model, batch_size=batch) if state is None else state
    capacity = num_frames * max_symbols_per_frame
    rows = tf.range(batch)
    window = tf.range(frames_per_step)
    # A window may reach beyond the last frame; what it sees there is masked.
    padded = tf.pad(encoder_projection, [[0, 0], [0, frames_per_step], [0, 0]])

    def unfinished(frame, *_):
        return tf.reduce_any(frame < lengths)

    def step(frame, symbols, context, count, log_prob, tokens, token_frames, confidence):
        # frame [B]: next frame to look at; symbols [B]: tokens already emitted there.
        places = frame[:, None] + window[None, :]
        inside = places < lengths[:, None]
        seen = tf.gather(padded, tf.minimum(places, num_frames), batch_dims=1)
        log_probs = tf.nn.log_softmax(model.joint_logits(seen, model.predictor_project(context)[:, None, :]))
        handicap = tf.one_hot(0, tf.shape(log_probs)[-1], on_value=float(blank_penalty))
        best = tf.argmax(log_probs - handicap, axis=-1, output_type=tf.int32)
        full = (symbols >= max_symbols_per_frame)[:, None] & (window == 0)[None, :]
        stops = inside & (best != 0) & ~full
        emits = tf.reduce_any(stops, axis=1)
        valid = tf.reduce_sum(tf.cast(inside, tf.int32), axis=1)
        blanks = tf.where(emits, tf.argmax(stops, axis=1, output_type=tf.int32), valid)
        passed = window[None, :] < blanks[:, None]
        log_prob += tf.reduce_sum(tf.where(passed, log_probs[:, :, 0], 0.0), axis=1)
        stop = tf.minimum(blanks, frames_per_step - 1)
        token = tf.where(emits, tf.gather(best, stop, batch_dims=1), 0)
        token_log_prob = tf.gather(tf.gather(log_probs, stop, batch_dims=1), token, batch_dims=1)
        log_prob += tf.where(emits, token_log_prob, 0.0)
        # The spare last column takes what the others have not emitted.
        place = tf.stack([rows, tf.where(emits, count, capacity)], axis=1)
        frame = frame + blanks
        tokens = tf.tensor_scatter_nd_update(tokens, place, token)
        token_frames = tf.tensor_scatter_nd_update(token_frames, place, state["frame"] + frame)
        confidence = tf.tensor_scatter_nd_update(confidence, place, tf.exp(token_log_prob))
        context = _where(emits, model.predictor_advance(context, token), context)
        symbols = tf.where(blanks > 0, 0, symbols) + tf.cast(emits, tf.int32)
        count = count + tf.cast(emits, tf.int32)
        return frame, symbols, context, count, log_prob, tokens, token_frames, confidence

    zeros = tf.zeros([batch], tf.int32)
    buffer = tf.zeros([batch, capacity + 1], tf.int32)
    _, _, context, count, log_prob, tokens, token_frames, confidence = tf.while_loop(
        unfinished,
        step,
        (zeros, zeros, state["context"], zeros, tf.zeros([batch]), buffer, buffer, tf.cast(buffer, tf.float32)),
    )
    width = tf.reduce_max(tf.concat([count, [0]], axis=0)) if trim else capacity
    # Also wipes the spare column, which belongs to the result where nothing else does.
    valid = tf.range(width)[None, :] < count[:, None]
    return GreedyResult(
        tokens=tf.where(valid, tokens[:, :width], 0),
        num_tokens=count,
        log_prob=log_prob,
        token_frames=tf.where(valid, token_frames[:, :width], 0),
        token_confidence=tf.where(valid, confidence[:, :width], 0.0),
        state={"context": context, "frame": state["frame"] + lengths},
    )


def _where(condition, yes, no):
    """Contexts of `yes` for the utterances where `condition` [B] is true."""

    def choose(a, b):
        return tf.where(tf.reshape(condition, [-1] + [1] * (b.shape.rank - 1)), a, b)

    return tf.nest.map_structure(choose, yes, no)
