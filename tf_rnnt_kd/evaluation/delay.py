"""Emission delay: how long after a word was spoken the system had written it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tf_rnnt_kd.evaluation import wer


@dataclasses.dataclass(frozen=True)
class DelaySummary:
    """Delays in seconds over `words` correctly recognised words; NaN where there are none."""

    mean: float
    p50: float
    p90: float
    p95: float
    words: int


def emission_delays(
    references: Sequence[str],
    *,
    reference_end_seconds: Sequence[Sequence[float]],
    hypotheses: Sequence[str],
    hypothesis_end_seconds: Sequence[Sequence[float] | np.ndarray],
) -> np.ndarray:
    """Delay of each correctly recognised word: when the system emitted its last token, less when the speaker ended it.

    Words are matched by the Levenshtein alignment that also gives the word error rate; substituted, inserted and
    deleted words have no delay. A negative delay is possible: a word may be recognised before its end.

    Args:
      references: N normalised texts.
      reference_end_seconds: for each, the end of each of its words in the audio (from an alignment).
      hypotheses: N normalised texts.
      hypothesis_end_seconds: for each, the emission time of each of its words.

    Returns:
      float64 [number of matched words], seconds, in the order of the utterances.

    Raises:
      ValueError: an utterance has another number of times than of words.
    """
    delays: list[float] = []
    aligned = wer.align(references, hypotheses=hypotheses)
    texts = zip(aligned.references, aligned.hypotheses, strict=True)
    ends = zip(reference_end_seconds, hypothesis_end_seconds, strict=True)
    for (reference, hypothesis), (reference_ends, hypothesis_ends), chunks in zip(
        texts, ends, aligned.alignments, strict=True
    ):
        _check(reference, ends=reference_ends, side="reference")
        _check(hypothesis, ends=hypothesis_ends, side="hypothesis")
        for chunk in chunks:
            if chunk.type == "equal":
                spoken = np.asarray(reference_ends[chunk.ref_start_idx : chunk.ref_end_idx], np.float64)
                written = np.asarray(hypothesis_ends[chunk.hyp_start_idx : chunk.hyp_end_idx], np.float64)
                delays.extend(written - spoken)
    return np.asarray(delays, np.float64)


def _check(words: Sequence[str], *, ends: Sequence[float] | np.ndarray, side: str) -> None:
    if len(words) != len(ends):
        raise ValueError(
            f"{len(ends)} end times for the {len(words)} words of the {side} {' '.join(words)!r}: "
            "there must be one for each word (is the alignment of another transcript?)"
        )


def summarise(delays: np.ndarray) -> DelaySummary:
    """Mean, median, 90th and 95th percentile of delays [words], in seconds."""
    if not len(delays):
        return DelaySummary(mean=np.nan, p50=np.nan, p90=np.nan, p95=np.nan, words=0)
    p50, p90, p95 = map(float, np.quantile(delays, [0.5, 0.9, 0.95]))
    return DelaySummary(mean=float(np.mean(delays)), p50=p50, p90=p90, p95=p95, words=len(delays))
