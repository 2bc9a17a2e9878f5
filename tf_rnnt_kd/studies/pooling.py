"""The errors of several seeds of one system together."""

from collections.abc import Sequence

import numpy as np

from tf_rnnt_kd.evaluation import wer
from tf_rnnt_kd.evaluation.results import Result


def pooled(results: Sequence[Result]) -> wer.ErrorCounts:
    """The errors of several seeds on the same utterances, added utterance by utterance.

    Raises:
      ValueError: the utterances are not the same.
    """
    references = [[(row["id"], row["reference"]) for row in result.per_utterance] for result in results]
    if any(other != references[0] for other in references[1:]):
        raise ValueError(f"{results[0].name} and its other seeds were not measured on the same utterances")
    counts = [result.counts() for result in results]
    columns = ("substitutions", "insertions", "deletions", "words")
    return wer.ErrorCounts(*(np.sum([getattr(count, name) for count in counts], axis=0) for name in columns))


def pooled_pair(better: Sequence[Result], worse: Sequence[Result]) -> tuple[wer.ErrorCounts, wer.ErrorCounts]:
    """`pooled` of two systems, each of as many seeds as both have."""
    count = min(len(better), len(worse))
    return pooled(better[:count]), pooled(worse[:count])


def pooled_improvement(better: Sequence[Result], worse: Sequence[Result], *, seed: int = 0) -> float:
    """Paired probability that one system makes fewer errors than another, see `pooled_pair`.

    A bootstrap over utterances, each drawn with all its seeds.
    """
    ours, theirs = pooled_pair(better, worse)
    return wer.probability_of_improvement(ours, baseline=theirs, seed=seed)
