"""Phrases to favour, against a count of their occurrences in plain Python."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from toy_transducer import WIDTH, ToyTransducer, enumerated, hypotheses

from tf_rnnt_kd.decoding import BeamSearch, PhraseBias

SYMBOLS = 5


def earned(phrases, tokens):
    """Tokens of all occurrences of all phrases."""
    tokens = tuple(tokens)
    return sum(
        len(phrase)
        for phrase in {tuple(phrase) for phrase in phrases}
        for i in range(len(tokens) - len(phrase) + 1)
        if tokens[i : i + len(phrase)] == phrase
    )


def pending(phrases, tokens):
    """Of the longest end of `tokens` that a phrase begins with: its tokens after the longest phrase it begins with."""
    phrases = {tuple(phrase) for phrase in phrases}
    beginnings = {phrase[:n] for phrase in phrases for n in range(len(phrase) + 1)}
    tokens = tuple(tokens)
    end = next(tokens[i:] for i in range(len(tokens) + 1) if tokens[i:] in beginnings)
    return len(end) - max([n for n in range(1, len(end) + 1) if end[:n] in phrases], default=0)


def random_phrases(seed):
    random = np.random.default_rng(seed)
    return [random.integers(1, SYMBOLS, size=random.integers(1, 5)).tolist() for _ in range(random.integers(1, 8))]


def as_table(phrases, *, width=0):
    table = np.zeros([len(phrases), max([width, *map(len, phrases)])], np.int32)
    for row, phrase in zip(table, phrases, strict=True):
        row[: len(phrase)] = phrase
    return table, np.array([len(phrase) for phrase in phrases], np.int32)


NESTED = [[1, 2], [1, 2, 3], [2, 3], [2], [1, 2, 1, 2, 4], [1, 2]]


@pytest.mark.parametrize("phrases", [NESTED, *(random_phrases(seed) for seed in range(8))])
def test_after_every_token_the_bonus_is_that_of_the_definition(phrases):
    bias = PhraseBias.from_token_lists(phrases, vocab_size=SYMBOLS, bonus=0.5)
    random = np.random.default_rng(len(phrases))
    # Pieces of phrases, so that long matches and failures deep inside occur.
    pieces = [phrase[: random.integers(1, len(phrase) + 1)] for phrase in phrases * 6]
    tokens = [int(token) for i in random.permutation(len(pieces)) for token in pieces[i]][:60]
    state, total = bias.start(1), 0.0
    for i, token in enumerate(tokens):
        scores = bias.label_scores(state)[0].numpy()
        for other in range(1, SYMBOLS):
            after = [*tokens[:i], other]
            expected = 0.5 * (earned(phrases, after) + pending(phrases, after))
            np.testing.assert_allclose(total + scores[other - 1], expected, atol=1e-4)
        total += scores[token - 1]
        state = bias.advance(state, tf.constant([token]))
        final = float(bias.final(state)[0])
        np.testing.assert_allclose(total + final, 0.5 * earned(phrases, tokens[: i + 1]), atol=1e-4)
    assert earned(phrases, tokens) > 0


def test_phrases_of_one_call_equal_constants_with_one_trace():
    traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
        ]
    )
    def total(phrases, num_tokens, tokens):
        traces.append(1)
        bias = PhraseBias(phrases, num_tokens, vocab_size=SYMBOLS, bonus=1.0)

        def step(i, state, score):
            token = tokens[:, i]
            score += tf.gather(bias.label_scores(state), token - 1, batch_dims=1)
            return i + 1, bias.advance(state, token), score

        batch = tf.shape(tokens)[0]
        loop = (0, bias.start(batch), tf.zeros([batch]))
        _, state, score = tf.while_loop(lambda i, *_: i < tf.shape(tokens)[1], step, loop)
        return score + bias.final(state)

    tokens = np.random.default_rng(0).integers(1, SYMBOLS, size=(3, 40)).astype(np.int32)
    for seed in range(4):
        phrases = random_phrases(seed)
        found = total(*as_table(phrases, width=seed + 4), tokens)
        np.testing.assert_allclose(found, [earned(phrases, row) for row in tokens], atol=1e-3)
    assert not np.any(total(np.zeros([0, 0], np.int32), np.zeros([0], np.int32), tokens))
    assert not np.any(total(np.zeros([2, 3], np.int32), np.zeros([2], np.int32), tokens))
    # What no token can be makes a phrase void, and no other.
    table, counts = as_table([[1, 2], [1, 9], [0, 1], [3, -1, 2]])
    np.testing.assert_allclose(total(table, counts, tokens), [earned([[1, 2]], row) for row in tokens])
    assert len(traces) == 1


def test_a_wide_beam_adds_the_bonus_exactly():
    phrases = [[1, 2], [2, 2], [3], [1, 2, 3]]
    model, frames = ToyTransducer(seed=5), np.random.default_rng(6).normal(size=(1, 3, WIDTH)).astype(np.float32)
    bias = PhraseBias.from_token_lists(phrases, vocab_size=4, bonus=0.8)
    exact = enumerated(model, frames[0], 1)
    result = BeamSearch(200, 1, expansion_margin=None, scorers=(bias,))(model, frames, [3])
    expected = {tokens: exact[tokens] + 0.8 * earned(phrases, tokens) for tokens in exact}
    assert hypotheses(result, 0)[0] == max(expected, key=expected.get)
    found = dict(zip(hypotheses(result, 0), result.score[0].numpy(), strict=False))
    assert found.keys() == exact.keys()
    for tokens, score in found.items():
        np.testing.assert_allclose(score, expected[tokens], rtol=1e-4, atol=1e-4)


def test_phrases_given_with_the_call_reach_a_search_in_graph():
    model, settings = ToyTransducer(seed=5), BeamSearch(4)
    frames = np.random.default_rng(9).normal(size=(2, 8, WIDTH)).astype(np.float32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, WIDTH]), tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
        ]
    )  # fmt: skip
    def search(frames, phrases, num_tokens):
        bias = PhraseBias(phrases, num_tokens, vocab_size=4, bonus=3.0)
        return dataclasses.replace(settings, scorers=(bias,))(model, frames, [8, 8])

    none = search(frames, *as_table([]))
    for plain, found in zip(settings(model, frames, [8, 8]), none, strict=True):
        np.testing.assert_allclose(plain, found, rtol=1e-5, atol=1e-5)
    phrase = [2, 1, 3]
    some = search(frames, *as_table([phrase]))
    before, after = ([earned([phrase], hypotheses(result, b)[0]) for b in range(2)] for result in (none, some))
    assert sum(after) > sum(before)


def test_phrases_are_checked_and_told():
    for phrase in ([], [0, 1], [5], [1, -2]):
        with pytest.raises(ValueError, match="a phrase needs tokens in 1..4"):
            PhraseBias.from_token_lists([[1], phrase], vocab_size=5, bonus=1.0)
    told = [PhraseBias.from_token_lists(p, vocab_size=5, bonus=2).describe() for p in ([[1]], [[2]], [[1]], [])]
    assert told[0] == told[2] != told[1] and told[0]["bonus"] == 2.0 and told[0]["kind"] == "phrases"
