"""The result of measuring one system on one split: a JSON file, a comparison with others, and a table of them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tf_rnnt_kd.decoding import Calibration
from tf_rnnt_kd.evaluation import confidence, delay, latency, wer
from tf_rnnt_kd.evaluation.corpus import Corpus
from tf_rnnt_kd.evaluation.systems import Hypothesis, Speed
from tf_rnnt_kd.evaluation.wer import ErrorCounts
from tf_rnnt_kd.records.schema import SAMPLE_RATE, Utterance
from tf_rnnt_kd.text import normalise

RESULT_VERSION = 1


@dataclasses.dataclass
class Result:
    """One system on one split. Rates are fractions, times seconds; None where a figure does not exist.

    `interval` holds 95 % (percentile bootstrap over utterances). `improvement` is {name of another system: paired
    probability that this one makes fewer errors}. `found` = `utterances` + all of `refused`. `per_utterance` holds
    {"id", "words", "substitutions", "insertions", "deletions", "reference", "hypothesis"} sorted by id. `delay` holds
    the fields of a DelaySummary, `latency` what latency.measure returns; both with the number of "utterances".
    `confidence` is the reliability (see confidence.reliability) of the words' confidences as the system gives them,
    `calibrated_confidence` that after a `calibration`; rows of `per_utterance` then have lists "word_confidence" (as
    given) and "word_correct", one entry for each word of the hypothesis.
    """

    name: str
    system: str
    corpus: str
    split: str
    found: int
    utterances: int
    refused: dict[str, int]
    refused_utterances: list[dict[str, str]]
    words: int
    wer: float
    interval: tuple[float, float]
    substitutions: int
    insertions: int
    deletions: int
    parameters: int
    real_time_factor: float | None
    real_time_factor_method: str
    audio_seconds: float
    delay: dict[str, float] | None
    per_utterance: list[dict]
    improvement: dict[str, float] = dataclasses.field(default_factory=dict)
    latency: dict | None = None
    confidence: dict | None = None
    calibrated_confidence: dict | None = None
    calibration: dict[str, float] | None = None
    result_version: int = RESULT_VERSION

    def counts(self) -> ErrorCounts:
        """The errors of each utterance, in the order of `per_utterance`."""
        columns = ("substitutions", "insertions", "deletions", "words")
        return wer.ErrorCounts(*(np.array([row[name] for row in self.per_utterance], np.int64) for name in columns))

    def save(self, path: str | Path) -> None:
        """Writes JSON (NaN never: such figures are null), in one step."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Reads what `save` wrote.

        Raises:
          ValueError: the file is missing or is no such result.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.get("result_version") != RESULT_VERSION:
                raise ValueError(f"result_version is {content.get('result_version')}, not {RESULT_VERSION}")
            return cls(**{**content, "interval": tuple(content["interval"])})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} is not a result of an evaluation ({error}): make it with tf_rnnt_kd.evaluate --json=..."
            ) from error


def score(
    pairs: Sequence[tuple[Utterance, Hypothesis]],
    *,
    name: str,
    system: str,
    parameters: int,
    corpus: Corpus,
    speed: Speed,
    timing: latency.StreamTiming | None = None,
    calibration: Calibration | None = None,
    seed: int = 0,
) -> Result:
    """Word error rate, interval, delay, latency and speed of one system.

    Args:
      pairs: utterances (with normalised text) and what the system wrote.
      name: of the system, in tables and comparisons.
      system: where it lies.
      parameters: how many it has.
      corpus: what the pairs came from, read to its end.
      speed: as `systems.transcribe` measured it.
      timing: of the system's stream, None for a system that has none.
      calibration: of the words' confidences, fitted elsewhere, to be measured as well.
      seed: of the bootstrap.

    Raises:
      ValueError: nothing could be scored.
    """
    if not pairs:
        raise ValueError(
            f"none of the {corpus.size} utterances of {corpus.source} could be scored; refused: "
            + (", ".join(f"{count} {reason}" for reason, count in corpus.refused_by_reason().items()) or "none")
        )
    if len(pairs) + len(corpus.refused) != corpus.size:
        raise ValueError(
            f"{len(pairs)} scored and {len(corpus.refused)} refused utterances are not the {corpus.size} of "
            f"{corpus.source}: its dataset.json and its shards disagree; make the dataset again"
        )
    # Both sides in one spelling; the references come normalised from the corpus.
    pairs = [(utterance, dataclasses.replace(said, text=normalise(said.text))) for utterance, said in pairs]
    references = [utterance.text or "" for utterance, _ in pairs]
    hypotheses = [hypothesis.text for _, hypothesis in pairs]
    counts = wer.count_errors(references, hypotheses=hypotheses)
    aligned = _aligned(pairs)
    sure = confidence.sure_words(pairs)
    rows = zip(pairs, counts.words, counts.substitutions, counts.insertions, counts.deletions, strict=True)
    return Result(
        name=name,
        system=system,
        corpus=corpus.source,
        split=corpus.name,
        found=corpus.size,
        utterances=len(pairs),
        refused=corpus.refused_by_reason(),
        refused_utterances=[dataclasses.asdict(item) for item in corpus.refused],
        words=int(counts.words.sum()),
        wer=wer.word_error_rate(counts),
        interval=wer.bootstrap_interval(counts, seed=seed),
        substitutions=int(counts.substitutions.sum()),
        insertions=int(counts.insertions.sum()),
        deletions=int(counts.deletions.sum()),
        parameters=parameters,
        real_time_factor=None if math.isnan(speed.real_time_factor) else speed.real_time_factor,
        real_time_factor_method=speed.method,
        audio_seconds=speed.audio_seconds,
        delay=_delay(aligned),
        latency=_latency(aligned, timing),
        confidence=confidence.of_rows(sure.values()),
        calibrated_confidence=confidence.of_rows(sure.values(), calibration=calibration) if calibration else None,
        calibration=dataclasses.asdict(calibration) if calibration else None,
        per_utterance=[
            {
                "id": utterance.utterance_id,
                "words": int(words),
                "substitutions": int(substitutions),
                "insertions": int(insertions),
                "deletions": int(deletions),
                "reference": utterance.text,
                "hypothesis": hypothesis.text,
                **sure.get(utterance.utterance_id, {}),
            }
            for (utterance, hypothesis), words, substitutions, insertions, deletions in rows
        ],
    )


def compare(result: Result, *, others: Sequence[Result], seed: int = 0) -> None:
    """Fills `result.improvement` with the probability that it makes fewer errors than each of `others`.

    Raises:
      ValueError: another system was measured on other utterances or other references.
    """
    mine = [(row["id"], row["reference"]) for row in result.per_utterance]
    for other in others:
        theirs = [(row["id"], row["reference"]) for row in other.per_utterance]
        if mine != theirs:
            raise ValueError(
                f"{result.name} ({len(mine)} utterances of {result.split}) and {other.name} ({len(theirs)} of "
                f"{other.split}) were not measured on the same utterances and references "
                f"({len(set(mine) & set(theirs))} are the same): evaluate both on the same corpus"
            )
        probability = wer.probability_of_improvement(result.counts(), baseline=other.counts(), seed=seed)
        result.improvement[other.name] = probability


def format_table(results: Sequence[Result]) -> str:
    """A table for the terminal, a line for each system."""
    header = ("system", "split", "words", "WER %", "95 % interval", "sub", "ins", "del", "RTF", "parameters", "delay s")
    rows = [header]
    for result in results:
        low, high = result.interval
        speed = "-" if result.real_time_factor is None else f"{result.real_time_factor:.3f}"
        waited = "-" if result.delay is None else f"{result.delay['mean']:.2f}"
        rows.append(
            (result.name, result.split, f"{result.words}", f"{100 * result.wer:.2f}")
            + (f"{100 * low:.2f} .. {100 * high:.2f}", f"{result.substitutions}", f"{result.insertions}")
            + (f"{result.deletions}", speed, f"{result.parameters:,}", waited)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in ([*zip(row, widths, strict=True)] for row in rows)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _aligned(pairs: Sequence[tuple[Utterance, Hypothesis]]) -> list[tuple[Utterance, Hypothesis]]:
    """Those whose words have known times. Utterances whose alignment is of another text are left out."""
    return [
        (utterance, hypothesis)
        for utterance, hypothesis in pairs
        if utterance.words
        and " ".join(word for word, _, _ in utterance.words) == utterance.text
        and len(hypothesis.word_end_seconds) == len(hypothesis.text.split())
    ]


def _delay(aligned: Sequence[tuple[Utterance, Hypothesis]]) -> dict[str, float] | None:
    """None where no correct word has a known end."""
    if not aligned:
        return None
    delays = delay.emission_delays(
        [utterance.text or "" for utterance, _ in aligned],
        reference_end_seconds=[[end for _, _, end in utterance.words] for utterance, _ in aligned],
        hypotheses=[hypothesis.text for _, hypothesis in aligned],
        hypothesis_end_seconds=[hypothesis.word_end_seconds for _, hypothesis in aligned],
    )
    summary = delay.summarise(delays)
    return {**dataclasses.asdict(summary), "utterances": len(aligned)} if summary.words else None


def _latency(
    aligned: Sequence[tuple[Utterance, Hypothesis]], timing: latency.StreamTiming | None
) -> dict[str, Any] | None:
    """None where there is no stream, or no correct word has a known end."""
    if timing is None or not aligned:
        return None
    measured = latency.measure(
        timing,
        spoken=[utterance.words for utterance, _ in aligned],
        hypotheses=[hypothesis.text for _, hypothesis in aligned],
        word_end_seconds=[hypothesis.word_end_seconds for _, hypothesis in aligned],
        first_token_seconds=[hypothesis.first_token_seconds for _, hypothesis in aligned],
        duration_seconds=[len(utterance.waveform) / SAMPLE_RATE for utterance, _ in aligned],
    )
    return measured and {**measured, "utterances": len(aligned)}
