"""Words, times and confidence against the same worked out by hand, and calibration against its formula."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.decoding import Calibration, token_times, words_from_tokens

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
    np.testing.assert_allclose(result.word_start_seconds, [[0.16, 0.40], [0, 0], [0.0, 0.24]], rtol=1e-6)
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


def test_times_of_tokens_are_those_of_their_frames():
    times = token_times(np.array([[0, 3, 3], [7, 9, 9]], np.int32), num_tokens=[3, 1], frame_seconds=0.04)
    np.testing.assert_allclose(times.token_start_seconds, [[0, 0.12, 0.12], [0.28, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(times.token_end_seconds, [[0.04, 0.16, 0.16], [0.32, 0, 0]], rtol=1e-6)


def test_confidences_of_words_are_calibrated_and_padding_stays_zero():
    arguments = {
        "num_tokens": [3, 1], "token_frames": np.array([[1, 2, 3], [1, 0, 0]]), "pieces": PIECES, "frame_seconds": 0.08,
        "token_confidence": [[0.9, 0.5, 0.7], [1.0, 0.0, 0.0]],
    }  # fmt: skip
    result = words_from_tokens([[1, 2, 3], [1, 0, 0]], **arguments, calibration=Calibration(0.5, -1.0))

    def expected(p):
        return 1 / (1 + np.exp(-(0.5 * np.log(p / (1 - p)) - 1.0)))

    np.testing.assert_allclose(
        result.word_confidence, [[expected(0.9), expected(0.5)], [expected(1 - 1e-6), 0]], rtol=2e-3
    )
    assert np.isfinite(Calibration(2.0, 0.0)(tf.constant([0.0, 1.0]))).all()


def test_a_calibration_is_a_file(tmp_path):
    Calibration(0.7, -0.2).save(tmp_path / "c.json", fitted_on="dev")
    assert Calibration.load(tmp_path / "c.json") == Calibration(0.7, -0.2)
    (tmp_path / "other.json").write_text('{"scale": 1}')
    for name in ("other.json", "none.json"):
        with pytest.raises(ValueError, match="tf_rnnt_kd.calibrate"):
            Calibration.load(tmp_path / name)
    for scale, offset in ((0.0, 0.0), (-1.0, 0.0), (1.0, np.inf), (np.nan, 0.0)):
        with pytest.raises(ValueError, match="positive scale"):
            Calibration(scale, offset)
