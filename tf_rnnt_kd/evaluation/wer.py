"""Word error rate: counts per utterance, bootstrap intervals, and the paired probability of improvement.

Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004: utterances
are drawn with replacement, and the corpus' word error rate (total errors over total words) is taken of each draw. For
two systems the *same* draw is used for both, so what is hard for both cancels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import jiwer
import numpy as np

_ELEMENTS_AT_ONCE = 4_000_000  # drawn indices held in memory at a time (32 MB)


@dataclasses.dataclass(frozen=True)
class ErrorCounts:
    """Errors of N utterances: four int64 arrays [N]; `words` counts the reference's words."""

    substitutions: np.ndarray
    insertions: np.ndarray
    deletions: np.ndarray
    words: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """All errors of each utterance, int64 [N]."""
        return self.substitutions + self.insertions + self.deletions

    def __len__(self) -> int:
        return len(self.words)


def align(references: Sequence[str], *, hypotheses: Sequence[str]) -> jiwer.WordOutput:
    """Levenshtein alignment of N pairs of normalised texts (words split at spaces); both may be empty.

    Raises:
      ValueError: the numbers of references and hypotheses differ.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses: give one hypothesis for each")
    if not references:
        raise ValueError("no utterances to align: give at least one reference")
    return jiwer.process_words(list(references), list(hypotheses))


def count_errors(references: Sequence[str], *, hypotheses: Sequence[str]) -> ErrorCounts:
    """Counts the word errors of each of N utterances. Texts are taken as they are: normalise both before."""
    aligned = align(references, hypotheses=hypotheses)
    counts = np.zeros([len(references), 4], np.int64)
    for row, (reference, chunks) in enumerate(zip(aligned.references, aligned.alignments, strict=True)):
        for chunk in chunks:
            replaced = chunk.ref_end_idx - chunk.ref_start_idx
            counts[row, 0] += replaced if chunk.type == "substitute" else 0
            counts[row, 1] += chunk.hyp_end_idx - chunk.hyp_start_idx if chunk.type == "insert" else 0
            counts[row, 2] += replaced if chunk.type == "delete" else 0
        counts[row, 3] = len(reference)
    return ErrorCounts(*counts.T)


def word_error_rate(counts: ErrorCounts) -> float:
    """Total errors over total reference words, of the whole corpus (0.1 is 10 %).

    Raises:
      ValueError: there is no reference word at all.
    """
    total = int(counts.words.sum())
    if total == 0:
        raise ValueError(f"the {len(counts)} references hold no words at all: a word error rate needs at least one")
    return float(counts.errors.sum() / total)


def bootstrap_interval(
    counts: ErrorCounts, *, level: float = 0.95, num_draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the word error rate over utterances.

    Args:
      counts: errors of N utterances.
      level: probability mass of the interval, e.g. 0.95.
      num_draws: bootstrap replications.
      seed: of numpy's PCG64; the same seed gives the same interval.

    Returns:
      (low, high), as fractions.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    word_error_rate(counts)  # raises where no interval exists
    values = []
    for errors, words in _draws(np.stack([counts.errors, counts.words]), num_draws=num_draws, seed=seed):
        values.append(errors[words > 0] / words[words > 0])  # a draw of empty references alone has no rate
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(np.concatenate(values), [tail, 1.0 - tail])
    return float(low), float(high)


def probability_of_improvement(
    counts: ErrorCounts, *, baseline: ErrorCounts, num_draws: int = 10_000, seed: int = 0
) -> float:
    """Share of paired bootstrap draws in which the system makes fewer errors than the baseline.

    A draw with equal errors counts one half, so identical systems get 0.5 and the two directions add up to 1.

    Args:
      counts: errors of the system on N utterances.
      baseline: errors of the other system on the same N utterances in the same order.
      num_draws: bootstrap replications.
      seed: of numpy's PCG64.

    Raises:
      ValueError: the two were not measured on the same references.
    """
    if len(counts) != len(baseline) or not np.array_equal(counts.words, baseline.words):
        raise ValueError(
            f"the systems were not measured on the same utterances: {len(counts)} with {int(counts.words.sum())} "
            f"words against {len(baseline)} with {int(baseline.words.sum())}; evaluate both on the same corpus, "
            "in the same order"
        )
    # Both rates of a draw have the same denominator, so the sign of the difference of errors decides.
    better = 0.0
    for (difference,) in _draws((counts.errors - baseline.errors)[np.newaxis], num_draws=num_draws, seed=seed):
        better += np.count_nonzero(difference < 0) + 0.5 * np.count_nonzero(difference == 0)
    return float(better / num_draws)


def _draws(values: np.ndarray, *, num_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Sums of `values` [K, N] over N utterances drawn with replacement: yields [K, draws], num_draws in all."""
    if num_draws < 1:
        raise ValueError(f"num_draws must be at least 1, got {num_draws}")
    num_utterances = values.shape[1]
    generator = np.random.default_rng(seed)
    at_once = max(1, _ELEMENTS_AT_ONCE // num_utterances)
    for start in range(0, num_draws, at_once):
        size = min(at_once, num_draws - start)
        indices = generator.integers(0, num_utterances, size=[size, num_utterances])
        yield np.stack([row[indices].sum(axis=1) for row in values])
