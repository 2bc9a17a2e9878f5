"""Greedy search over an RNN-T lattice: batched, in graph, offline or streaming."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.lattice.tensors import TensorLike


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

    def __call__(
        self, model: Any, encoder_projection: tf.Tensor, lengths: TensorLike, *, state: Mapping[str, Any] | None = None
    ) -> GreedyResult:
        return greedy_decode(model, encoder_projection, lengths, state=state, **dataclasses.asdict(self))


def initial_state(model: Any, *, batch_size: int | tf.Tensor) -> dict[str, Any]:
    """The search state at the beginning of a stream: the predictor's context and the frames seen so far [B]."""
    return {"context": model.predictor_start(batch_size), "frame": tf.zeros([batch_size], tf.int32)}


def greedy_decode(
    model: Any, encoder_projection: tf.Tensor, lengths: TensorLike, *, max_symbols_per_frame: int = 3,
    blank_penalty: float = 0.0, state: Mapping[str, Any] | None = None, frames_per_step: int = 4,
    trim: bool = True,
) -> GreedyResult:
    """Takes the likeliest symbol at every node; the blank (index 0) leads to the next frame.

    Each utterance has its own place in the lattice. One step of the loop looks at `frames_per_step` frames at once,
    takes all blanks up to the first token and that token, so that the loop runs about
    max over utterances of (tokens + frames / frames_per_step) times instead of (tokens + frames).

    Args:
      model: anything with predictor_start(batch_size) -> context (a tensor [B, ...] or a nest of such),
        predictor_project(context) -> [B, H], predictor_advance(context, tokens [B]) -> context and
        joint_logits([N, H], [N, H]) -> [N, V], whose softmax is the distribution at a node: a joint with a factorised
        blank gives log-probabilities (lattice.factorised_log_probs).
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
    static_batch, static_frames, width = encoder_projection.shape
    if static_frames is not None:
        frames_per_step = max(min(frames_per_step, static_frames), 1)
    batch = tf.shape(encoder_projection)[0] if static_batch is None else static_batch
    num_frames = tf.shape(encoder_projection)[1] if static_frames is None else static_frames
    state = initial_state(model, batch_size=batch) if state is None else state
    capacity = num_frames * max_symbols_per_frame
    # The frames of all utterances lie in one table, and their tokens in another: row b * rows + t. A window may reach
    # beyond the last frame, and a step writes a token that counts only if it was emitted.
    frame_rows, token_rows = num_frames + frames_per_step, capacity + 1
    table = tf.reshape(tf.pad(encoder_projection, [[0, 0], [0, frames_per_step], [0, 0]]), [-1, width])
    utterances = tf.range(batch)[:, None]
    begins, ends = utterances * frame_rows, utterances * frame_rows + lengths[:, None]
    first, first_node = utterances * token_rows, utterances * frames_per_step
    utterance_of_node = tf.repeat(tf.range(batch), frames_per_step)
    window = np.arange(frames_per_step, dtype=np.int32)[None, :]

    def unfinished(frame, *_):
        return tf.reduce_any(frame < ends)

    # Of few utterances a step costs little more than the calls of its operations: here each of them counts.
    def step(frame, count, limit, context, tokens, blanks):
        # All [B, 1]: frame, the next one to look at; count, where the next token goes; limit, where none may go before
        # that frame is left.
        places = frame + window
        nodes = tf.reshape(places, [-1, 1])
        predicted = tf.gather(model.predictor_project(context), utterance_of_node)
        log_probs = tf.nn.log_softmax(model.joint_logits(tf.gather_nd(table, nodes), predicted))
        blank = threshold = log_probs[:, 0]
        labels = log_probs  # where nothing is taken from the blank it may stand among them: it cannot be the best
        if blank_penalty:
            labels, threshold = log_probs[:, 1:], blank - blank_penalty
        best = tf.reduce_max(labels, axis=1)
        is_token = tf.reshape(best > threshold, [-1, frames_per_step])
        stops = (is_token & ((window > 0) | (count < limit))) | (places >= ends)
        passed = tf.reduce_min(tf.where(stops, window, frames_per_step), axis=1, keepdims=True)
        # Every frame keeps the blank of the last window that it was in: the one in which it was passed.
        blanks = tf.tensor_scatter_nd_update(blanks, nodes, blank)
        frame += passed
        emits = (passed < frames_per_step) & (frame < ends)
        node = first_node + tf.minimum(passed, frames_per_step - 1)
        token = tf.argmax(tf.gather(labels, node), axis=-1, output_type=tf.int32)
        if blank_penalty:
            token += 1
        entry = tf.concat([token, frame, tf.bitcast(tf.gather(best, node), tf.int32)], axis=1)
        tokens = tf.tensor_scatter_nd_update(tokens, count, entry)
        context = _where(emits, model.predictor_advance(context, tf.reshape(token, [-1])), context)
        limit = tf.where(passed > 0, count + max_symbols_per_frame, limit)
        return frame, count + tf.cast(emits, tf.int32), limit, context, tokens, blanks

    _, count, _, context, tokens, blanks = tf.while_loop(
        unfinished,
        step,
        (
            begins,
            first,
            first + max_symbols_per_frame,
            state["context"],
            tf.zeros([batch * token_rows, 3], tf.int32),
            tf.zeros([batch * frame_rows]),
        ),
    )
    count = (count - first)[:, 0]
    columns = tf.reduce_max(tf.concat([count, [0]], axis=0)) if trim else capacity
    # Also wipes the spare column, which belongs to the result where nothing else does.
    valid = tf.range(columns)[None, :] < count[:, None]
    tokens, token_frames, token_log_prob = tf.unstack(
        tf.reshape(tokens, [batch, token_rows, 3])[:, :columns], axis=2
    )
    token_log_prob = tf.bitcast(token_log_prob, tf.float32)
    is_frame = tf.range(frame_rows)[None, :] < lengths[:, None]
    blank_log_prob = tf.where(is_frame, tf.reshape(blanks, [batch, frame_rows]), 0.0)
    return GreedyResult(
        tokens=tf.where(valid, tokens, 0),
        num_tokens=count,
        log_prob=tf.reduce_sum(blank_log_prob, axis=1) + tf.reduce_sum(tf.where(valid, token_log_prob, 0.0), axis=1),
        token_frames=tf.where(valid, token_frames - begins + state["frame"][:, None], 0),
        token_confidence=tf.where(valid, tf.exp(token_log_prob), 0.0),
        state={"context": context, "frame": state["frame"] + lengths},
    )


def _where(condition, yes, no):
    """Contexts of `yes` for the utterances where `condition` [B, 1] is true."""

    def choose(a, b):
        rank = b.shape.rank
        return tf.where(condition if rank == 2 else tf.reshape(condition, [-1] + [1] * (rank - 1)), a, b)

    return tf.nest.map_structure(choose, yes, no)
