"""Beam search against exhaustive enumeration of a toy lattice, and against greedy search."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.decoding import BeamSearch, beam_decode, greedy_decode

WIDTH, SYMBOLS = 6, 4


class ToyTransducer:
    """The interface that the search needs, over fixed numbers; the predictor sees the last two labels."""

    def __init__(self, seed=0, blank_bias=0.5, sharpness=1.5):
        random = np.random.default_rng(seed)
        self.embedding = random.normal(size=(2, SYMBOLS, WIDTH)).astype(np.float32)
        self.kernel = (sharpness * random.normal(size=(WIDTH, SYMBOLS))).astype(np.float32)
        self.bias = np.array([blank_bias, 0, 0, 0], np.float32)

    def predictor_start(self, batch_size):
        return tf.zeros([batch_size, 2], tf.int32)

    def predictor_project(self, context):
        return tf.gather(self.embedding[0], context[:, 0]) + tf.gather(self.embedding[1], context[:, 1])

    def predictor_advance(self, context, tokens):
        return tf.stack([context[:, 1], tokens], axis=1)

    def joint_logits(self, encoder_projection, predictor_projection):
        return tf.tensordot(tf.tanh(encoder_projection + predictor_projection), self.kernel, 1) + self.bias


def enumerated(model, frames, max_symbols):
    """{tokens: log of the sum over all alignments with at most `max_symbols` a frame}, node by node in float64."""
    found = {(): 0.0}
    for frame in frames.astype(np.float64):
        after = {}
        active = dict(found)
        for emitted in range(max_symbols + 1):
            following = {}
            for tokens, score in active.items():
                context = (0, 0, *tokens)[-2:]
                hidden = np.tanh(frame + model.embedding[0][context[0]] + model.embedding[1][context[1]])
                logits = hidden @ model.kernel + model.bias
                log_probs = logits - np.log(np.sum(np.exp(logits)))
                after[tokens] = np.logaddexp(after.get(tokens, -np.inf), score + log_probs[0])
                if emitted < max_symbols:
                    for symbol in range(1, SYMBOLS):
                        following[(*tokens, symbol)] = score + log_probs[symbol]
            active = following
        found = after
    return found


def hypotheses(result, b):
    count = int(result.num_hypotheses[b])
    return [tuple(result.tokens[b, n, : result.num_tokens[b, n]].numpy().tolist()) for n in range(count)]


@pytest.fixture(scope="module")
def encoded():
    return np.random.default_rng(3).normal(size=(3, 3, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("max_symbols", [1, 2])
def test_a_wide_beam_finds_every_sequence_with_its_exact_score(encoded, max_symbols):
    model, lengths = ToyTransducer(), np.array([3, 2, 1])
    for b, length in enumerate(lengths):
        exact = enumerated(model, encoded[b, :length], max_symbols)
        # As wide as there are hypotheses on the way, finished ones included: nothing is ever pruned.
        result = beam_decode(
            model, encoded[b : b + 1], [length], beam=4 * len(exact) + 8, max_symbols_per_frame=max_symbols
        )
        found = dict(zip(hypotheses(result, 0), result.score[0].numpy(), strict=False))
        assert found.keys() == exact.keys()
        for tokens, score in found.items():
            np.testing.assert_allclose(score, exact[tokens], rtol=1e-5, atol=1e-5)
        assert hypotheses(result, 0)[0] == max(exact, key=exact.get)


@pytest.mark.parametrize("seed", range(6))
def test_the_best_of_a_moderate_beam_is_the_best_of_all(seed):
    model = ToyTransducer(seed=seed)
    frames = np.random.default_rng(seed + 50).normal(size=(1, 4, WIDTH)).astype(np.float32)
    exact = enumerated(model, frames[0], 1)
    result = beam_decode(model, frames, [4], beam=24, max_symbols_per_frame=1)
    assert hypotheses(result, 0)[0] == max(exact, key=exact.get)
    scores = result.score[0, : result.num_hypotheses[0]].numpy()
    assert (np.diff(scores) <= 0).all()
    assert all(score <= exact[tokens] + 1e-5 for tokens, score in zip(hypotheses(result, 0), scores, strict=True))


@pytest.mark.parametrize(("max_symbols", "blank_penalty"), [(1, 0.0), (3, 0.0), (2, 1.5)])
def test_one_place_is_greedy_search(max_symbols, blank_penalty):
    model = ToyTransducer(seed=1)
    frames = np.random.default_rng(5).normal(size=(5, 9, WIDTH)).astype(np.float32)
    lengths = [9, 0, 4, 1, 7]
    settings = {"max_symbols_per_frame": max_symbols, "blank_penalty": blank_penalty}
    greedy = greedy_decode(model, frames, lengths, **settings)
    found = beam_decode(model, frames, lengths, beam=1, **settings)
    np.testing.assert_array_equal(found.tokens[:, 0], greedy.tokens)
    np.testing.assert_array_equal(found.num_tokens[:, 0], greedy.num_tokens)
    assert int(tf.reduce_sum(greedy.num_tokens)) > 5
    if not blank_penalty:
        np.testing.assert_allclose(found.score[:, 0], greedy.log_prob, rtol=1e-5, atol=1e-5)


def test_a_batch_equals_its_utterances_one_by_one_and_padding_changes_nothing(encoded):
    model, lengths = ToyTransducer(seed=2), [3, 1, 2]
    padded = np.concatenate([encoded, np.full([3, 2, WIDTH], np.nan, np.float32)], axis=1)
    padded[1, 1:] = np.nan
    together = beam_decode(model, padded, lengths, beam=3)
    for b, length in enumerate(lengths):
        alone = beam_decode(model, encoded[b : b + 1, :length], [length], beam=3)
        assert hypotheses(alone, 0) == hypotheses(together, b)
        np.testing.assert_allclose(alone.score[0], together.score[b], rtol=1e-5)


def test_no_hypothesis_comes_twice(encoded):
    result = beam_decode(ToyTransducer(seed=4, blank_bias=0.0), encoded, [3, 3, 3], beam=6)
    for b in range(3):
        assert len(set(hypotheses(result, b))) == int(result.num_hypotheses[b]) > 1


def test_a_length_bonus_gives_longer_hypotheses(encoded):
    model = ToyTransducer()
    short, long = (beam_decode(model, encoded, [3, 3, 3], beam=8, length_bonus=bonus) for bonus in (0.0, 3.0))
    assert tf.reduce_sum(long.num_tokens[:, 0]) > tf.reduce_sum(short.num_tokens[:, 0])


def test_graph_equals_eager_for_any_length(encoded):
    model = ToyTransducer()
    search = BeamSearch(beam=3, max_symbols_per_frame=2)
    traced = tf.function(
        lambda x, n: search(model, x, n),
        input_signature=[tf.TensorSpec([None, None, WIDTH]), tf.TensorSpec([None], tf.int32)],
    )
    for frames in (1, 3):
        eager = search(model, encoded[:, :frames], [frames] * 3)
        for a, b in zip(traced(encoded[:, :frames], [frames] * 3), eager, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    empty = search(model, encoded, [0, 0, 0])
    assert empty.tokens.shape == (3, 3, 0)
    assert empty.num_hypotheses.numpy().tolist() == [1, 1, 1]


def test_settings_are_checked(encoded):
    with pytest.raises(ValueError, match="beam"):
        beam_decode(ToyTransducer(), encoded, [3, 3, 3], beam=0)


def test_the_enumeration_is_a_distribution(encoded):
    """Where the limit of symbols per frame is hardly reached, all token sequences together have probability one."""
    total = sum(np.exp(score) for score in enumerated(ToyTransducer(blank_bias=12.0), encoded[0], 3).values())
    assert 0.9 < total <= 1.0 + 1e-9
