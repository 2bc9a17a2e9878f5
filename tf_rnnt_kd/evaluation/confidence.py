"""How far the confidences of words can be believed: matched with the truth, and summed up in bins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tf_rnnt_kd.decoding import Calibration
from tf_rnnt_kd.decoding.confidence import SMALLEST
from tf_rnnt_kd.evaluation import wer
from tf_rnnt_kd.evaluation.systems import Hypothesis
from tf_rnnt_kd.records.schema import Utterance

HEADER = ("system", "split", "words", "right %", "mean %", "ECE %", "NCE", "calibrated: mean %", "ECE %", "NCE")
"""Of table_rows; the second three columns are after calibration."""


def correct_words(references: Sequence[str], *, hypotheses: Sequence[str]) -> list[list[bool]]:
    """For each word of N hypotheses whether it is right, by the alignment that also gives the word error rate.

    Texts are taken as they are: normalise both before. Deleted words have no confidence, and no part in this.
    """
    aligned = wer.align(references, hypotheses=hypotheses)
    found = []
    for words, chunks in zip(aligned.hypotheses, aligned.alignments, strict=True):
        right = [False] * len(words)
        for chunk in chunks:
            if chunk.type == "equal":
                right[chunk.hyp_start_idx : chunk.hyp_end_idx] = [True] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
        found.append(right)
    return found


def reliability(confidence: np.ndarray, *, correct: np.ndarray, num_bins: int = 10) -> dict[str, Any] | None:
    """What the report and result files hold of N words; None where there is none.

    Args:
      confidence: [N], 0..1.
      correct: [N], whether the word is right.
      num_bins: of equal width.

    Returns:
      A dictionary: words; accuracy, the share that is right; mean_confidence;
        ece: expected calibration error (Guo et al. 2017), the mean over words of |accuracy - mean confidence| of the
          word's bin; nce: normalised cross entropy (NIST): 1 is perfect, 0 no better than giving every word the
          accuracy, less is worse; None where all words are right or all wrong;
        bins: [{words, confidence, accuracy}] in the order of confidence, those without words left out.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if not confidence.size:
        return None
    number = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    bins = [
        {
            "words": int(inside.sum()),
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(correct[inside].mean()),
        }
        for inside in (number == k for k in range(num_bins))
        if inside.any()
    ]
    gaps = sum(entry["words"] * abs(entry["accuracy"] - entry["confidence"]) for entry in bins)
    return {
        "words": int(confidence.size),
        "accuracy": float(correct.mean()),
        "mean_confidence": float(confidence.mean()),
        "ece": float(gaps / confidence.size),
        "nce": _normalised_cross_entropy(confidence, correct),
        "bins": bins,
    }


def sure_words(pairs: Iterable[tuple[Utterance, Hypothesis]]) -> dict[str, dict[str, list]]:
    """{utterance id: {"word_confidence": [...], "word_correct": [...]}}, where each word has a confidence.

    Texts are taken as they are: normalise both before.
    """
    told = [pair for pair in pairs if len(pair[1].word_confidence) == len(pair[1].text.split())]
    if not any(hypothesis.word_confidence for _, hypothesis in told):
        return {}
    correct = correct_words(
        [utterance.text or "" for utterance, _ in told], hypotheses=[hypothesis.text for _, hypothesis in told]
    )
    return {
        utterance.utterance_id: {
            "word_confidence": [round(value, 6) for value in hypothesis.word_confidence],
            "word_correct": [int(right) for right in rights],
        }
        for (utterance, hypothesis), rights in zip(told, correct, strict=True)
    }


def words_of(rows: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(confidence [N], correct [N]) of all words of rows that have what `sure_words` gives."""
    rows = [row for row in rows if "word_confidence" in row]
    columns = ("word_confidence", "word_correct")
    confidence, correct = ([value for row in rows for value in row[name]] for name in columns)
    return np.array(confidence, np.float64), np.array(correct, bool)


def of_rows(
    rows: Iterable[Mapping[str, Any]], *, calibration: Calibration | None = None
) -> dict[str, Any] | None:
    """The `reliability` of the words of such rows, after a calibration if there is one."""
    confidence, correct = words_of(rows)
    if calibration is not None and confidence.size:
        confidence = calibration(confidence).numpy()
    return reliability(confidence, correct=correct)


def curves(systems: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What figures.reliability takes, of the systems of the report's summary that have confidences."""
    return {
        f"{system['name']}, {system['split']}": {
            "as given": system["confidence"],
            "calibrated": system["calibrated_confidence"],
        }
        for system in systems
        if system["confidence"]
    }


def table_rows(systems: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of the report's table, one for each system that has confidences; see HEADER."""

    def figures(found):
        if found is None:
            return ["", "", ""]
        entropy = "" if found["nce"] is None else f"{found['nce']:.3f}"
        return [f"{100 * found['mean_confidence']:.1f}", f"{100 * found['ece']:.2f}", entropy]

    return [
        [
            *(system["name"], system["split"], f"{given['words']:,}", f"{100 * given['accuracy']:.1f}"),
            *(*figures(given), *figures(system["calibrated_confidence"])),
        ]
        for system in systems
        if (given := system["confidence"])
    ]


def _normalised_cross_entropy(confidence: np.ndarray, correct: np.ndarray) -> float | None:
    accuracy = correct.mean()
    if accuracy in (0.0, 1.0):
        return None

    def cross_entropy(p):
        p = np.clip(p, SMALLEST, 1.0 - SMALLEST)
        return -np.sum(correct * np.log(p) + (1.0 - correct) * np.log1p(-p))

    return float(1.0 - cross_entropy(confidence) / cross_entropy(np.full_like(confidence, accuracy)))
