"""Word errors against a Levenshtein written here, jiwer's totals, and intervals against formulas."""

import functools
import math

import jiwer
import numpy as np
import pytest

from tf_rnnt_kd.evaluation import wer


def _distance(reference: tuple, hypothesis: tuple) -> int:
    """The textbook recursion, on words."""

    @functools.cache
    def cost(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        same = reference[i - 1] == hypothesis[j - 1]
        return min(cost(i - 1, j) + 1, cost(i, j - 1) + 1, cost(i - 1, j - 1) + (not same))

    return cost(len(reference), len(hypothesis))


def _random_texts(seed: int, *, count: int, longest: int = 8) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(list("ABCD"), generator.integers(0, longest + 1))) for _ in range(count)]


def _counts(errors, words) -> wer.ErrorCounts:
    errors, words = np.asarray(errors), np.asarray(words)
    return wer.ErrorCounts(substitutions=errors, insertions=0 * errors, deletions=0 * errors, words=words)


def test_counts_of_known_pairs():
    counts = wer.count_errors(["A B C", "A B", "", "A", ""], hypotheses=["A X C D", "B", "Q", "", ""])
    np.testing.assert_array_equal(counts.substitutions, [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(counts.insertions, [1, 0, 1, 0, 0])
    np.testing.assert_array_equal(counts.deletions, [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(counts.words, [3, 2, 0, 1, 0])
    assert wer.word_error_rate(counts) == pytest.approx(5 / 6)


def test_counts_equal_own_levenshtein_and_jiwer_totals():
    references, hypotheses = _random_texts(1, count=200), _random_texts(2, count=200)
    counts = wer.count_errors(references, hypotheses=hypotheses)
    expected = [_distance(tuple(r.split()), tuple(h.split())) for r, h in zip(references, hypotheses, strict=True)]
    np.testing.assert_array_equal(counts.errors, expected)
    np.testing.assert_array_equal(counts.words, [len(r.split()) for r in references])
    # Length is conserved: what is inserted less what is deleted is the difference of lengths.
    lengths = [len(h.split()) - len(r.split()) for r, h in zip(references, hypotheses, strict=True)]
    np.testing.assert_array_equal(counts.insertions - counts.deletions, lengths)
    assert wer.word_error_rate(counts) == pytest.approx(jiwer.wer(references, hypotheses))


def test_bad_arguments_say_what_to_do():
    with pytest.raises(ValueError, match="2 references but 1 hypotheses"):
        wer.count_errors(["A", "B"], hypotheses=["A"])
    with pytest.raises(ValueError, match="no words at all"):
        wer.word_error_rate(_counts([1], [0]))
    with pytest.raises(ValueError, match="same utterances"):
        wer.probability_of_improvement(_counts([1, 1], [3, 3]), baseline=_counts([1, 1], [3, 4]))
    with pytest.raises(ValueError, match="level"):
        wer.bootstrap_interval(_counts([1], [2]), level=95)


def test_interval_of_one_word_utterances_is_the_binomial_one():
    # With one word an utterance the number of errors in a draw is Binomial(N, p): its exact quantiles are known.
    size, wrong = 400, 80
    low, high = wer.bootstrap_interval(_counts([1] * wrong + [0] * (size - wrong), [1] * size), num_draws=20_000)
    p = wrong / size
    cumulative = np.cumsum([math.comb(size, k) * p**k * (1 - p) ** (size - k) for k in range(size + 1)])
    expected = [np.searchsorted(cumulative, q) / size for q in (0.025, 0.975)]
    np.testing.assert_allclose([low, high], expected, atol=1.01 / size)


def test_interval_against_delta_method_and_plain_loop():
    generator = np.random.default_rng(3)
    words = generator.integers(3, 9, 500)
    errors = generator.binomial(words, 0.15)
    counts = _counts(errors, words)
    low, high = wer.bootstrap_interval(counts, seed=1)
    # The ratio estimator's variance, to first order.
    rate = errors.sum() / words.sum()
    deviation = np.sqrt(np.sum((errors - rate * words) ** 2)) / words.sum()
    expected = rate + 1.96 * deviation * np.array([-1, 1])
    np.testing.assert_allclose([low, high], expected, atol=0.1 * deviation)
    # Bootstrap written out, another generator.
    loop = np.random.RandomState(7)  # noqa: NPY002 - independent of the one under test
    rates = []
    for _ in range(4000):
        rows = loop.randint(0, 500, 500)
        rates.append(errors[rows].sum() / words[rows].sum())
    np.testing.assert_allclose([low, high], np.percentile(rates, [2.5, 97.5]), atol=0.2 * deviation)


def test_same_seed_same_interval_and_wider_level_is_wider():
    generator = np.random.default_rng(8)
    words = generator.integers(50, 90, 200)  # rates on a fine grid, so that other draws give another quantile
    counts = _counts(generator.binomial(words, 0.2), words)
    assert wer.bootstrap_interval(counts, seed=5) == wer.bootstrap_interval(counts, seed=5)
    assert wer.bootstrap_interval(counts, seed=5) != wer.bootstrap_interval(counts, seed=6)
    narrow, wide = wer.bootstrap_interval(counts, level=0.8), wer.bootstrap_interval(counts, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_draws_in_pieces_are_as_many_as_asked(monkeypatch):
    counts, baseline = _counts([0, 1, 2], [4, 4, 4]), _counts([1, 1, 1], [4, 4, 4])
    whole = wer.probability_of_improvement(counts, baseline=baseline, num_draws=999)
    monkeypatch.setattr(wer, "_ELEMENTS_AT_ONCE", 30)
    assert wer.probability_of_improvement(counts, baseline=baseline, num_draws=999) == whole


def test_probability_of_improvement_conventions():
    generator = np.random.default_rng(0)
    words = np.full(300, 5)
    bad = _counts(generator.binomial(5, 0.3, 300), words)
    good = _counts(generator.binomial(5, 0.15, 300), words)
    assert wer.probability_of_improvement(bad, baseline=bad) == 0.5  # every draw is a tie
    assert wer.probability_of_improvement(good, baseline=bad) > 0.99
    assert wer.probability_of_improvement(bad, baseline=good) < 0.01
    forth = wer.probability_of_improvement(good, baseline=_counts(good.errors[::-1], words))
    back = wer.probability_of_improvement(_counts(good.errors[::-1], words), baseline=good)
    assert forth + back == pytest.approx(1.0)


def test_probability_of_improvement_against_the_exact_one():
    # One utterance in three is better by one, one is worse by two, one equal: enumerate all 3**3 draws.
    difference = np.array([-1, 2, 0])
    draws = np.stack(np.meshgrid(*[difference] * 3), -1).reshape(-1, 3).sum(-1)
    exact = np.mean(draws < 0) + 0.5 * np.mean(draws == 0)
    counts, baseline = _counts([2, 5, 3], [6, 6, 6]), _counts([3, 3, 3], [6, 6, 6])
    measured = wer.probability_of_improvement(counts, baseline=baseline, num_draws=50_000)
    assert measured == pytest.approx(exact, abs=0.01)


def test_pairing_cancels_what_is_hard_for_both():
    # One error less in each of 20 of 200 utterances, amid a large variance between utterances: only pairing sees it.
    generator = np.random.default_rng(4)
    words = np.full(200, 20)
    baseline = generator.integers(1, 20, 200)
    system = baseline - (np.arange(200) < 20)
    low, high = wer.bootstrap_interval(_counts(baseline, words))
    assert low < system.sum() / words.sum() < high
    assert wer.probability_of_improvement(_counts(system, words), baseline=_counts(baseline, words)) > 0.99
