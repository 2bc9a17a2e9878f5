"""Beam search against exhaustive enumeration of a toy lattice, and against greedy search."""

import json

import numpy as np
import pytest
import tensorflow as tf
from toy_transducer import WIDTH, ToyTransducer, enumerated, hypotheses

from tf_rnnt_kd.decoding import BeamSearch, beam_decode, greedy_decode


@pytest.fixture(scope="module")
def encoded():
    return np.random.default_rng(3).normal(size=(3, 3, WIDTH)).astype(np.float32)


def graph_of(search, model):
    return tf.function(
        lambda x, n: search(model, x, n),
        input_signature=[tf.TensorSpec([None, None, WIDTH]), tf.TensorSpec([None], tf.int32)],
    )


@pytest.mark.parametrize("max_symbols", [1, 2])
def test_a_wide_beam_finds_every_sequence_with_its_exact_score(encoded, max_symbols):
    model, lengths = ToyTransducer(), np.array([3, 2, 1])
    for b, length in enumerate(lengths):
        exact = enumerated(model, encoded[b, :length], max_symbols)
        # As wide as there are hypotheses on the way, finished ones included: nothing is ever pruned.
        result = beam_decode(
            model, encoded[b : b + 1], [length], beam=4 * len(exact) + 8, max_symbols_per_frame=max_symbols,
            expansion_margin=None,
        )  # fmt: skip
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
    np.testing.assert_array_equal(found.num_tokens[:, 0], greedy.num_tokens)
    np.testing.assert_array_equal(found.tokens[:, 0], greedy.tokens)
    np.testing.assert_array_equal(found.token_frames[:, 0], greedy.token_frames)
    np.testing.assert_allclose(found.token_confidence[:, 0], greedy.token_confidence, rtol=1e-5)
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
        width = alone.tokens.shape[2]
        np.testing.assert_array_equal(alone.token_frames[0], together.token_frames[b, :, :width])
        np.testing.assert_allclose(alone.token_confidence[0], together.token_confidence[b, :, :width], rtol=1e-5)
        assert not np.any(together.token_frames[b, :, width:])


def test_frames_rise_and_confidences_are_those_of_their_nodes():
    model = ToyTransducer(seed=4, blank_bias=0.0)
    frames = np.random.default_rng(8).normal(size=(2, 6, WIDTH)).astype(np.float32)
    result = beam_decode(model, frames, [6, 4], beam=5)
    checked = 0
    for b, length in enumerate([6, 4]):
        for n, tokens in enumerate(hypotheses(result, b)):
            places = result.token_frames[b, n, : len(tokens)].numpy()
            assert (np.diff(places) >= 0).all() and places.max(initial=0) < length
            for u, (token, place) in enumerate(zip(tokens, places, strict=True)):
                expected = np.exp(model.log_probs(frames[b, place], tokens[:u])[token])
                np.testing.assert_allclose(result.token_confidence[b, n, u], expected, rtol=1e-5)
                checked += 1
    assert checked > 20


def test_no_hypothesis_comes_twice(encoded):
    result = beam_decode(ToyTransducer(seed=4, blank_bias=0.0), encoded, [3, 3, 3], beam=6)
    for b in range(3):
        assert len(set(hypotheses(result, b))) == int(result.num_hypotheses[b]) > 1


def test_a_length_bonus_gives_longer_hypotheses_and_is_told(encoded):
    model = ToyTransducer()
    short, long = (beam_decode(model, encoded, [3, 3, 3], beam=8, length_bonus=bonus) for bonus in (0.0, 3.0))
    assert tf.reduce_sum(long.num_tokens[:, 0]) > tf.reduce_sum(short.num_tokens[:, 0])
    np.testing.assert_allclose(long.external, 3.0 * tf.cast(long.num_tokens, tf.float32), rtol=1e-5)
    assert not np.any(short.external)


def test_a_margin_prunes_what_is_far_below_and_nothing_else(encoded):
    model = ToyTransducer(seed=6, sharpness=4.0)
    every, wide, narrow = (
        beam_decode(model, encoded, [3, 3, 3], beam=200, max_symbols_per_frame=1, expansion_margin=margin)
        for margin in (None, 60.0, 1.0)
    )
    np.testing.assert_array_equal(every.tokens, wide.tokens)
    np.testing.assert_allclose(every.score, wide.score, rtol=1e-6)
    for b in range(3):
        kept = set(hypotheses(narrow, b))
        assert kept < set(hypotheses(every, b))
        best = int(tf.reduce_max(narrow.num_tokens[b]))
        for tokens in kept:  # each of its tokens was within the margin at some node
            for u, token in enumerate(tokens):
                gaps = [log_probs.max() - log_probs[token] for log_probs in
                        (model.log_probs(frame, tokens[:u]) for frame in encoded[b])]  # fmt: skip
                assert min(gaps) <= 1.0 + 1e-5
        assert best > 0


@pytest.mark.parametrize("margin", [5.0, None])
def test_graph_of_unknown_shape_and_xla_equal_eager(encoded, margin):
    model = ToyTransducer()
    search = BeamSearch(beam=3, max_symbols_per_frame=2, expansion_margin=margin)
    traced = graph_of(search, model)
    for frames in (1, 3):
        eager = search(model, encoded[:, :frames], [frames] * 3)
        for a, b in zip(traced(encoded[:, :frames], [frames] * 3), eager, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    compiled = tf.function(lambda x, n: search(model, x, n, trim=False), jit_compile=True)
    lengths = tf.constant([3, 0, 2])
    eager, static = search(model, encoded, lengths), compiled(encoded, lengths)
    width = eager.tokens.shape[2]
    assert static.tokens.shape == (3, 3, 6)
    for name, value in eager._asdict().items():
        found = getattr(static, name)
        if len(found.shape) == 3:
            assert not np.any(found[:, :, width:])
            found = found[:, :, :width]
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_nothing_to_search():
    search = BeamSearch(beam=3)
    traced = graph_of(search, ToyTransducer())
    for run in (traced, lambda x, n: search(ToyTransducer(), x, n)):
        for shape in ((3, 3, WIDTH), (2, 0, WIDTH), (0, 2, WIDTH)):
            empty = run(np.ones(shape, np.float32), np.zeros(shape[:1], np.int32))
            assert empty.tokens.shape == (shape[0], 3, 0)
            assert empty.num_hypotheses.numpy().tolist() == [1] * shape[0]
            np.testing.assert_array_equal(empty.score[:, 0], np.zeros(shape[0]))


def test_settings_are_checked_and_told():
    with pytest.raises(ValueError, match="beam"):
        BeamSearch(beam=0)
    with pytest.raises(ValueError, match="max_symbols_per_frame"):
        BeamSearch(max_symbols_per_frame=0)
    with pytest.raises(ValueError, match="expansion_margin"):
        BeamSearch(expansion_margin=-1.0)
    told = json.loads(json.dumps(BeamSearch(beam=5, length_bonus=0.5).describe()))
    assert told["beam"] == 5 and told["length_bonus"] == 0.5 and told["scorers"] == []


def test_the_enumeration_is_a_distribution(encoded):
    """Where the limit of symbols per frame is hardly reached, all token sequences together have probability one."""
    total = sum(np.exp(score) for score in enumerated(ToyTransducer(blank_bias=12.0), encoded[0], 3).values())
    assert 0.9 < total <= 1.0 + 1e-9
