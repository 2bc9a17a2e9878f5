"""Tokens of a search -> words with times and confidence, by plain TensorFlow operations.

A search says at which encoder frame it emitted a token; an RNN-T knows no more of where a token was spoken. So times
are those of emission: a token starts where the frame of its emission starts, and ends where that frame ends.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

WORD_START = "\u2581"


class Words(NamedTuple):
    """Words of B utterances, W of the longest.

    words: string [B, W], '' beyond num_words.
    num_words: int32 [B].
    word_start_seconds: float32 [B, W], when the search has begun the word: the start of the encoder frame at which its
      first token came.
    word_end_seconds: float32 [B, W], when the search has emitted the whole word: the end of the encoder frame at which
      its last token came.
    word_confidence: float32 [B, W], the lowest confidence of the word's tokens: one wrong token makes a wrong word.
    """

    words: tf.Tensor
    num_words: tf.Tensor
    word_start_seconds: tf.Tensor
    word_end_seconds: tf.Tensor
    word_confidence: tf.Tensor


class TokenTimes(NamedTuple):
    """Start and end of the encoder frame at which each token was emitted, float32 [B, U] each, 0 beyond num_tokens."""

    token_start_seconds: tf.Tensor
    token_end_seconds: tf.Tensor


def token_times(token_frames: tf.Tensor, *, num_tokens: tf.Tensor, frame_seconds: float) -> TokenTimes:
    """When tokens were emitted.

    Args:
      token_frames: int32 [B, U], from a search. num_tokens: int32 [B].
      frame_seconds: length of an encoder frame.

    Returns:
      TokenTimes.
    """
    valid = tf.sequence_mask(num_tokens, tf.shape(token_frames)[1])
    return TokenTimes(
        *(tf.where(valid, tf.cast(token_frames + edge, tf.float32) * frame_seconds, 0.0) for edge in (0, 1))
    )


def words_from_tokens(
    tokens: tf.Tensor, *, num_tokens: tf.Tensor, token_frames: tf.Tensor, token_confidence: tf.Tensor,
    pieces: Sequence[str], frame_seconds: float, calibration: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> Words:
    """Joins tokens to words at the mark U+2581.

    A piece that begins with the mark begins a word, and so does each utterance's first token. A mark that no letter
    follows gives no word.

    Args:
      tokens, token_frames: int32 [B, U]; token_confidence: float32 [B, U]; num_tokens: int32 [B], from a search.
      pieces: V strings, U+2581 for the beginning of a word.
      frame_seconds: length of an encoder frame.
      calibration: a Calibration, for the confidences of words; None leaves them as they are.

    Returns:
      Words.
    """
    starts = tf.constant([piece.startswith(WORD_START) for piece in pieces])
    letters = tf.constant([piece.replace(WORD_START, "") for piece in pieces])
    batch, width = tf.unstack(tf.shape(tokens))
    valid = tf.sequence_mask(num_tokens, width)
    begins = (tf.gather(starts, tokens) | (tf.range(width)[None, :] == 0)) & valid
    times = token_times(token_frames, num_tokens=num_tokens, frame_seconds=frame_seconds)
    rows = tf.broadcast_to(tf.range(batch)[:, None], tf.shape(tokens))
    # From here one list of all tokens, and of all words in it.
    rows, begins, tokens, token_starts, token_ends, confidence = _where_true(
        valid, rows, begins, tokens, *times, token_confidence
    )
    word_of_token = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    count = tf.reduce_sum(tf.cast(begins, tf.int32))
    # unsorted_segment_join fails on no input at all; the empty word added here is dropped with the others.
    words = tf.strings.unsorted_segment_join(
        tf.concat([tf.gather(letters, tokens), [""]], 0), tf.concat([word_of_token, [count]], 0), count + 1
    )[:-1]
    word_rows = tf.math.unsorted_segment_max(rows, word_of_token, count)
    start_seconds = tf.math.unsorted_segment_min(token_starts, word_of_token, count)
    end_seconds = tf.math.unsorted_segment_max(token_ends, word_of_token, count)
    word_confidence = tf.math.unsorted_segment_min(confidence, word_of_token, count)
    if calibration is not None:
        word_confidence = calibration(word_confidence)
    word_rows, words, start_seconds, end_seconds, word_confidence = _where_true(
        tf.strings.length(words) > 0, word_rows, words, start_seconds, end_seconds, word_confidence
    )
    ragged = tf.RaggedTensor.from_value_rowids(words, word_rows, nrows=batch, validate=False)
    return Words(
        words=ragged.to_tensor(""),
        num_words=ragged.row_lengths(),
        word_start_seconds=ragged.with_values(start_seconds).to_tensor(0.0),
        word_end_seconds=ragged.with_values(end_seconds).to_tensor(0.0),
        word_confidence=ragged.with_values(word_confidence).to_tensor(0.0),
    )


def _where_true(mask, *values):
    """The elements of each tensor where `mask`, of the same shape, is true, as vectors: tf.boolean_mask of all."""
    places = tf.where(tf.reshape(mask, [-1]))[:, 0]
    return [tf.gather(tf.reshape(value, [-1]), places) for value in values]
