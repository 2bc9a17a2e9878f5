"""Exports for devices as systems under test: what each format costs in words, bytes and time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_rnnt_kd.evaluation import results, systems
from tf_rnnt_kd.evaluation.corpus import RecordCorpus
from tf_rnnt_kd.model_versions import version_folder
from tf_rnnt_kd.serving.lite import LiteRecognizer, read_lite_metadata

SAVED_MODEL = "SavedModel"


@dataclasses.dataclass(frozen=True)
class Row:
    """One format (or SAVED_MODEL): bytes on disk, and its result."""

    file_format: str
    num_bytes: int
    result: results.Result


class DeviceSystem:
    """A system, see systems.py, that hears one utterance after the other, chunk by chunk, on one thread."""

    def __init__(self, folder: str | Path, *, file_format: str):
        self._recognizer = LiteRecognizer(folder, file_format=file_format)
        self.num_parameters = int(self._recognizer.metadata["num_parameters"])

    def __call__(self, waveforms: np.ndarray, num_samples: np.ndarray) -> list[systems.Hypothesis]:
        found = [self._recognizer.transcribe(row[:n]) for row, n in zip(waveforms, num_samples, strict=True)]
        return [systems.Hypothesis(text=one.text, word_end_seconds=tuple(one.word_end_seconds)) for one in found]


def measure(saved_model: str, *, folder: str | Path, records: str, split: str) -> list[Row]:
    """The SavedModel and each file of a folder of export_lite, over the same utterances, one at a time.

    Raises:
      ValueError: one of them is not there, or no utterance can be scored.
    """
    path = Path(version_folder(saved_model))
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    candidates: list[tuple[str, int, systems.System | DeviceSystem]]
    candidates = [(SAVED_MODEL, size, systems.load_saved_model(path))]
    for file_format, file in read_lite_metadata(folder)["files"].items():
        candidates.append((file_format, file["bytes"], DeviceSystem(folder, file_format=file_format)))
    rows = []
    for name, num_bytes, system in candidates:
        corpus = RecordCorpus(records, split=split)
        pairs, speed = systems.transcribe(system, utterances=corpus, batch_size=1)
        result = results.score(
            pairs, name=name, system=f"{folder}", parameters=system.num_parameters, corpus=corpus, speed=speed
        )
        rows.append(Row(name, num_bytes, result))
    return rows


def format_rows(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """A table, one line for each row."""
    header = ["format", "MB", "WER %", "95 % interval", "sub / ins / del", "real-time factor"]
    lines = []
    for row in rows:
        result = row.result
        low, high = result.interval
        lines.append([
            row.file_format,
            f"{row.num_bytes / 1e6:.2f}",
            f"{100 * result.wer:.2f}",
            f"{100 * low:.2f} .. {100 * high:.2f}",
            f"{result.substitutions} / {result.insertions} / {result.deletions}",
            "" if result.real_time_factor is None else f"{result.real_time_factor:.4f}",
        ])  # fmt: skip
    if markdown:
        return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *lines])
    return "\n".join("\t".join(cells) for cells in [header, *lines])
