"""Words, times and confidence against the same worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.decoding import words_from_tokens

PIECES = ["<blank>", "▁GO", "▁ST", "OP", "▁", "A", "É"]


@pytest.fixture(scope="module")
def graph():
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.float32),
        ]
    )
    def run(tokens, num_tokens, frames, confidence):
        return words_from_tokens(
            tokens,
            num_tokens=num_tokens,
            token_frames=frames,
            token_confidence=confidence,
            pieces=PIECES,
            frame_seconds=0.08,
        )

    return run


def test_words_times_and_confidence(graph):
    # "GO STOP"; nothing; a first token without mark, a lone mark in between and at the end: "OPA ÉA".
    tokens = np.array([[1, 2, 3, 0, 0, 0, 0], [0] * 7, [3, 5, 4, 4, 6, 5, 4]], np.int32)
    frames = np.array([[2, 5, 7, 0, 0, 0, 0], [0] * 7, [0, 1, 2, 3, 4, 4, 9]], np.int32)
    confidence = np.array([[0.9, 0.5, 0.7, 0, 0, 0, 0], [0] * 7, [0.3, 0.2, 0.1, 0.6, 0.8, 0.9, 0.05]], np.float32)
    result = graph(tokens, [3, 0, 7], frames, confidence)
    assert [[w.decode() for w in row] for row in result.words.numpy()] == [["GO", "STOP"], ["", ""], ["OPA", "ÉA"]]
    assert result.num_words.numpy().tolist() == [2, 0, 2]
    np.testing.assert_allclose(result.word_end_seconds, [[0.24, 0.64], [0, 0], [0.16, 0.40]], rtol=1e-6)
    np.testing.assert_allclose(result.word_confidence, [[0.9, 0.5], [0, 0], [0.2, 0.6]], rtol=1e-6)


def test_tokens_beyond_the_count_are_ignored(graph):
    result = graph([[1, 2, 3]], [1], [[4, 5, 6]], [[0.5, 0.1, np.nan]])
    assert result.words.numpy().tolist() == [[b"GO"]]
    np.testing.assert_allclose(result.word_confidence, [[0.5]])


def test_an_utterance_is_a_beginning_of_a_word(graph):
    result = graph([[1, 3], [3, 3]], [2, 2], [[1, 2], [0, 1]], [[1.0, 1.0], [1.0, 1.0]])
    assert result.words.numpy().tolist() == [[b"GOOP"], [b"OPOP"]]


@pytest.mark.parametrize("shape", [(2, 0), (0, 0), (2, 3)])
def test_no_tokens_give_no_words(graph, shape):
    empty = np.zeros(shape, np.int32)
    result = graph(empty, empty.sum(axis=1, dtype=np.int32), empty, empty.astype(np.float32))
    assert result.words.shape == [shape[0], 0]
    assert result.num_words.numpy().tolist() == [0] * shape[0]
