"""What is known of a label without its lattice: one row of scores for each utterance, kept in scores/*.tsv.

Filters, histograms and the dry run all read these rows; nothing else in the pipeline computes a score.
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jiwer
import numpy as np

from beam_pipelines.transforms.park import ParkLine
from tf_rnnt_kd.text import normalise


@dataclasses.dataclass(frozen=True)
class Row:
    """An utterance that the teacher was asked about. A score is None where it does not apply.

    Attributes:
        position: of the record in its source shard, from 0.
        utterance_id, teacher: names; the teacher's model id, empty where it failed.
        seconds: of audio. tokens: U.
        confidence: geometric mean of the tokens' probabilities, 0 to 1.
        min_word_confidence: the confidence of the least sure word.
        log_prob, log_prob_per_token: natural log of P(tokens given audio), summed over alignments; and over U.
        park: see `park.ParkLine`; needs a line for this teacher.
        nbest_margin: log P(best) - log P(second), nats per token of the best; infinite where there is no second.
        agreement: the least over the other teachers of 1 - word edit distance / words of the longer text.
        tokens_per_second, chars_per_second: of the hypothesis; white space is not counted.
        same_text: utterances of the run whose label passes the other filters and has this text, this one included.
        reference_words, word_errors: of the hypothesis against the record's own transcript, where there is one.
        audio_md5: of the samples, to find exact duplicates.
        reason, error: why there is no label; empty where there is one.
        text, reference: hypothesis and transcript.
    """

    position: int
    utterance_id: str
    teacher: str
    seconds: float
    tokens: int
    confidence: float | None = None
    min_word_confidence: float | None = None
    log_prob: float | None = None
    log_prob_per_token: float | None = None
    park: float | None = None
    nbest_margin: float | None = None
    agreement: float | None = None
    tokens_per_second: float | None = None
    chars_per_second: float | None = None
    same_text: int | None = None
    reference_words: int | None = None
    word_errors: int | None = None
    audio_md5: str = ""
    reason: str = ""
    error: str = ""
    text: str = ""
    reference: str = ""


# Edges of the histograms in dataset.json: fixed, for each shard is counted by itself.
BINS: Mapping[str, np.ndarray] = {
    "confidence": np.linspace(0, 1, 21),
    "min_word_confidence": np.linspace(0, 1, 21),
    "log_prob": np.linspace(-200, 0, 21),
    "log_prob_per_token": np.linspace(-5, 0, 26),
    "park": np.linspace(-5, 5, 21),
    "nbest_margin": np.linspace(0, 2, 21),
    "agreement": np.linspace(0, 1, 21),
    "tokens_per_second": np.linspace(0, 20, 21),
    "chars_per_second": np.linspace(0, 40, 21),
    "same_text": np.array([0.5, *(2.0**power + 0.5 for power in range(14))]),  # 1, 2, 3 to 4, 5 to 8, ...
}
SCORES = tuple(BINS)


def scored(row: Row, labels: Any, *, park_lines: Mapping[str, ParkLine]) -> Row:
    """`row` with the scores of `labels`, which hold at least one token and finite numbers.

    Args:
        row: of the utterance: seconds, teacher and reference are set.
        labels: what the teacher said, an `infer.Labels`.
        park_lines: {model id of a teacher: its line}.
    """
    num_tokens, line = len(labels.tokens), park_lines.get(row.teacher)
    errors = words = None
    if row.reference:
        errors, words = word_errors(row.reference, hypothesis=labels.text)
    sure = labels.word_confidence if len(labels.word_confidence) else labels.token_confidence
    return dataclasses.replace(
        row,
        tokens=num_tokens,
        confidence=utterance_confidence(labels.token_confidence),
        min_word_confidence=float(np.min(sure)),
        log_prob=float(labels.log_prob),
        log_prob_per_token=float(labels.log_prob) / num_tokens,
        park=None if line is None else line.score(float(labels.log_prob), num_tokens=num_tokens),
        nbest_margin=_margin(labels),
        agreement=None if labels.agreement is None else float(labels.agreement),
        tokens_per_second=num_tokens / row.seconds,
        chars_per_second=len("".join(labels.text.split())) / row.seconds,
        reference_words=words,
        word_errors=errors,
        text=labels.text,
    )


def utterance_confidence(token_confidence: Sequence[float]) -> float:
    """Geometric mean of the tokens' probabilities, 0 to 1."""
    return float(np.exp(np.log(np.maximum(np.asarray(token_confidence, np.float64), 1e-30)).mean()))


def word_errors(reference: str, *, hypothesis: str) -> tuple[int, int]:
    """(word edit distance, words of the reference). Texts are taken as they are."""
    if not reference.split() or not hypothesis.split():  # jiwer takes no empty reference
        return max(len(reference.split()), len(hypothesis.split())), len(reference.split())
    found = jiwer.process_words(reference, hypothesis)
    return found.substitutions + found.deletions + found.insertions, len(reference.split())


def text_agreement(text: str, *, other: str) -> float:
    """1 - word edit distance / words of the longer text, 0 to 1; case and punctuation do not count."""
    # Teachers may write differently what they hear alike.
    text, other = (normalise(one, profile="words") for one in (text, other))
    longer = max(len(text.split()), len(other.split()))
    return 1.0 - word_errors(text, hypothesis=other)[0] / longer if longer else 1.0


def _margin(labels) -> float | None:
    if labels.nbest is None:
        return None
    if len(labels.nbest.log_prob) < 2:
        return float("inf")
    best, second = (float(log_prob) for log_prob in labels.nbest.log_prob[:2])
    return (best - second) / max(1, len(labels.nbest.tokens[0]))


def histogram(values: Iterable[float | None], *, edges: np.ndarray) -> list[int]:
    """Utterances in each bin; None is left out, what lies outside is counted in the first or the last bin."""
    known = [value for value in values if value is not None]
    return np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0].tolist()


# Not csv's own spelling of None, which cannot be told from an empty string; none of our strings is ever None.
_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    int | None: lambda cell: int(cell) if cell else None,
    float | None: lambda cell: float(cell) if cell else None,
}


def to_tsv(rows: Iterable[Row]) -> str:
    """Rows as tab-separated text with a header; read back they are equal to the last bit."""
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, [field.name for field in dataclasses.fields(Row)], delimiter="\t", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    return buffer.getvalue()


def from_tsv(text: str) -> list[Row]:
    """Rows of what `to_tsv` wrote."""
    parsers = {field.name: _PARSERS[field.type] for field in dataclasses.fields(Row)}
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t")
    return [Row(**{name: parsers[name](cell) for name, cell in line.items()}) for line in lines]
