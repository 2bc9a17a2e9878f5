"""Greedy search against a decoder in plain Python that walks the lattice node by node."""

import numpy as np
import pytest
import tensorflow as tf
from toy_transducer import ToyTransducer

from tf_rnnt_kd.decoding import GreedySearch, greedy_decode

WIDTH, SYMBOLS, BATCH, FRAMES = 6, 5, 4, 11


class FakeTransducer(ToyTransducer):
    """With one symbol more, and numbers of its own."""

    def __init__(self, seed=0, blank_bias=1.0):
        random = np.random.default_rng(seed)
        self.embedding = random.normal(size=(2, SYMBOLS, WIDTH)).astype(np.float32)
        self.kernel = (1.5 * random.normal(size=(WIDTH, SYMBOLS))).astype(np.float32)
        self.bias = np.array([blank_bias, 0, 0, 0, 0], np.float32)


def reference_decode(model, frames, max_symbols, blank_penalty=0.0):
    """One utterance [T, H] -> (tokens, frames, confidences, log-prob of the path), node by node in float64."""
    context, tokens, places, confidences, total = (0, 0), [], [], [], 0.0
    for t, frame in enumerate(frames.astype(np.float64)):
        for emitted in range(max_symbols + 1):
            predictor = model.embedding[0][context[0]] + model.embedding[1][context[1]]
            logits = np.tanh(frame + predictor) @ model.kernel + model.bias
            log_probs = logits - np.log(np.sum(np.exp(logits)))
            compared = log_probs.copy()
            compared[0] -= blank_penalty
            best = 0 if emitted == max_symbols else int(np.argmax(compared))
            total += log_probs[best]
            if best == 0:
                break
            tokens.append(best)
            places.append(t)
            confidences.append(np.exp(log_probs[best]))
            context = (context[1], best)
    return tokens, places, confidences, total


@pytest.fixture(scope="module")
def encoded():
    return np.random.default_rng(7).normal(size=(BATCH, FRAMES, WIDTH)).astype(np.float32)


LENGTHS = np.array([FRAMES, 0, 5, 1], np.int32)


def assert_equals_reference(result, model, encoded, lengths, max_symbols, blank_penalty=0.0):
    total = 0
    for b, length in enumerate(lengths):
        tokens, places, confidences, log_prob = reference_decode(model, encoded[b, :length], max_symbols, blank_penalty)
        count = int(result.num_tokens[b])
        assert result.tokens[b, :count].numpy().tolist() == tokens
        assert result.token_frames[b, :count].numpy().tolist() == places
        np.testing.assert_allclose(result.token_confidence[b, :count], confidences, rtol=1e-5)
        np.testing.assert_allclose(result.log_prob[b], log_prob, rtol=1e-5, atol=1e-6)
        for padded in (result.tokens, result.token_frames, result.token_confidence):
            assert not np.any(padded[b, count:])
        total += count
    return total


@pytest.mark.parametrize("max_symbols", [1, 3])
@pytest.mark.parametrize("frames_per_step", [1, 4, 32])
def test_equals_a_node_by_node_decoder(encoded, max_symbols, frames_per_step):
    model = FakeTransducer()
    result = greedy_decode(
        model, encoded, LENGTHS, max_symbols_per_frame=max_symbols, frames_per_step=frames_per_step
    )
    found = assert_equals_reference(result, model, encoded, LENGTHS, max_symbols)
    assert found >= 5, "too few tokens to prove anything: change the seed"
    assert result.tokens.shape[1] == int(tf.reduce_max(result.num_tokens))


def test_a_blank_penalty_changes_the_choice_and_no_log_prob(encoded):
    model = FakeTransducer(blank_bias=2.0)
    plain = assert_equals_reference(GreedySearch()(model, encoded, LENGTHS), model, encoded, LENGTHS, 3)
    search = GreedySearch(blank_penalty=1.5)
    bolder = assert_equals_reference(search(model, encoded, LENGTHS), model, encoded, LENGTHS, 3, 1.5)
    assert bolder > plain


def test_the_limit_of_symbols_per_frame_forces_blanks(encoded):
    model = FakeTransducer(blank_bias=-20.0)
    result = greedy_decode(model, encoded, LENGTHS, max_symbols_per_frame=2)
    np.testing.assert_array_equal(result.num_tokens, 2 * LENGTHS)
    assert_equals_reference(result, model, encoded, LENGTHS, 2)


def test_padding_and_nan_in_it_change_nothing(encoded):
    model = FakeTransducer()
    expected = greedy_decode(model, encoded, LENGTHS)
    padded = np.pad(encoded, [[0, 0], [0, 6], [0, 0]])
    padded[np.arange(FRAMES + 6)[None, :] >= LENGTHS[:, None]] = np.nan
    actual = greedy_decode(model, padded, LENGTHS)
    for left, right in zip(actual[:5], expected[:5], strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_batch_equals_one_by_one(encoded):
    model = FakeTransducer()
    together = greedy_decode(model, encoded, LENGTHS)
    for b in range(BATCH):
        alone = greedy_decode(model, encoded[b : b + 1, : LENGTHS[b]], LENGTHS[b : b + 1])
        count = int(together.num_tokens[b])
        assert alone.tokens[0].numpy().tolist() == together.tokens[b, :count].numpy().tolist()
        np.testing.assert_allclose(alone.log_prob[0], together.log_prob[b], rtol=1e-6)


@pytest.mark.parametrize("cuts", [(0, 4, 11), (0, 1, 2, 3, 11), (0, 5, 5, 11)])
def test_in_pieces_equals_at_once(encoded, cuts):
    model = FakeTransducer()
    whole = greedy_decode(model, encoded, [FRAMES] * BATCH)
    pieces, state = [], None
    for start, end in zip(cuts[:-1], cuts[1:], strict=True):
        pieces.append(greedy_decode(model, encoded[:, start:end], [end - start] * BATCH, state=state))
        state = pieces[-1].state
    for b in range(BATCH):
        count = int(whole.num_tokens[b])
        for field in ("tokens", "token_frames"):
            joined = [x for p in pieces for x in getattr(p, field)[b, : int(p.num_tokens[b])].numpy().tolist()]
            assert joined == getattr(whole, field)[b, :count].numpy().tolist()
    np.testing.assert_allclose(sum(p.log_prob for p in pieces), whole.log_prob, rtol=1e-5)


def test_graph_of_unknown_shape_is_traced_once_and_xla_agrees(encoded):
    model, traces = FakeTransducer(), []

    @tf.function(input_signature=[tf.TensorSpec([None, None, WIDTH]), tf.TensorSpec([None], tf.int32)])
    def graph(frames, lengths):
        traces.append(1)
        return greedy_decode(model, frames, lengths)[:5]

    @tf.function(jit_compile=True)
    def compiled(frames, lengths):
        return greedy_decode(model, frames, lengths, trim=False)[:5]

    expected = greedy_decode(model, encoded, LENGTHS)
    for left, right in zip(graph(encoded, LENGTHS), expected[:5], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)
    assert graph(encoded[:1, :3], [3])[1].shape == [1]
    assert len(traces) == 1
    width = expected.tokens.shape[1]
    tokens, num_tokens, log_prob, frames, confidence = compiled(encoded, LENGTHS)
    assert tokens.shape == [BATCH, 3 * FRAMES]
    np.testing.assert_array_equal(num_tokens, expected.num_tokens)
    np.testing.assert_allclose(log_prob, expected.log_prob, rtol=1e-5)
    for left, right in ((tokens, expected.tokens), (frames, expected.token_frames)):
        np.testing.assert_array_equal(left[:, :width], right)
    np.testing.assert_allclose(confidence[:, :width], expected.token_confidence, rtol=1e-5)
    assert not np.any(tokens[:, width:])


def test_no_frames_and_no_utterances():
    model = FakeTransducer()
    nothing = greedy_decode(model, tf.zeros([2, 0, WIDTH]), [0, 0])
    assert nothing.tokens.shape == [2, 0]
    np.testing.assert_array_equal(nothing.log_prob, [0, 0])
    assert greedy_decode(model, tf.zeros([0, 3, WIDTH]), tf.zeros([0], tf.int32)).tokens.shape[0] == 0


def test_refuses_zero_symbols_per_frame(encoded):
    with pytest.raises(ValueError, match="max_symbols_per_frame"):
        greedy_decode(FakeTransducer(), encoded, LENGTHS, max_symbols_per_frame=0)
