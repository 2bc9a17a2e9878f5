"""What a system is measured on: utterances with transcripts, from a folder of audio or from records.

Whatever cannot be used is refused with a reason and kept in a list, so that scored + refused = found, always.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from tf_rnnt_kd import text
from tf_rnnt_kd.records import dataset, schema
from tf_rnnt_kd.records.schema import Utterance
from tf_rnnt_kd.speech import audio

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")


@dataclasses.dataclass(frozen=True)
class Refused:
    """An utterance that could not be measured: a short `reason` to count by, and the `error` in words."""

    utterance_id: str
    reason: str
    error: str


class Corpus:
    """Utterances to measure on. Iterate once, to the end; then `refused` is complete.

    Attributes:
      name: of the split.
      source: the folder or dataset, as it was given.
      size: how many utterances there are, those that will be refused included.
      refused: list of Refused, filled while iterating.
    """

    def __init__(self, *, name: str, source: str, size: int):
        self.name, self.source, self.size = name, source, size
        self.refused: list[Refused] = []

    def __iter__(self) -> Iterator[Utterance]:
        raise NotImplementedError

    def refused_by_reason(self) -> dict[str, int]:
        """{reason: number of utterances}."""
        return dict(sorted(collections.Counter(item.reason for item in self.refused).items()))


class FolderCorpus(Corpus):
    """A folder in LibriSpeech layout: `*.trans.txt` with lines `ID WORD WORD ...`, and the audio `ID.flac` beside it.

    Args:
      directory: a split (`SPEAKER/CHAPTER/...` below it), or a folder of splits.
      split: which split; needed where `directory` holds more than one.

    Raises:
      ValueError: there is no transcript below `directory`, or the split must be chosen.
    """

    def __init__(self, directory: str | Path, *, split: str = ""):
        self._root = _split_folder(Path(directory), split=split)
        self._transcripts: list[tuple[str, Path, str]] = []  # (id, folder, text)
        listed: set[str] = set()
        twice: list[Refused] = []
        for path in sorted(self._root.rglob("*.trans.txt")):
            for line in path.read_text(encoding="utf-8").splitlines():
                utterance_id, _, words = line.strip().partition(" ")
                if utterance_id in listed:
                    twice.append(Refused(utterance_id, "duplicate_id", f"{path}: its id was seen before"))
                elif utterance_id:
                    listed.add(utterance_id)
                    self._transcripts.append((utterance_id, path.parent, words))
        found = {path for path in self._root.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES}
        self._audio = {(path.parent, path.stem): path for path in sorted(found)}
        untold = [
            Refused(path.stem, "missing_transcript", f"{path}: no line for it in a *.trans.txt")
            for path in sorted(found)
            if path.stem not in listed
        ]
        super().__init__(
            name=split or self._root.resolve().name,
            source=str(directory),
            size=len(self._transcripts) + len(twice) + len(untold),
        )
        self._refused_at_once = twice + untold

    def __iter__(self) -> Iterator[Utterance]:
        self.refused = list(self._refused_at_once)
        alignments = _read_alignments(self._root / "alignments.tsv")
        for utterance_id, folder, words in self._transcripts:
            path = self._audio.get((folder, utterance_id))
            if path is None:
                error = f"{folder / utterance_id}: no audio file ({', '.join(AUDIO_SUFFIXES)}) for this transcript"
                self.refused.append(Refused(utterance_id, "missing_audio", error))
                continue
            try:
                waveform = audio.decode_audio(str(path))
            except audio.AudioError as error:
                self.refused.append(Refused(utterance_id, error.reason, f"{path}: {error}"))
                continue
            yield Utterance(
                utterance_id=utterance_id,
                waveform=waveform,
                text=text.normalise(words),
                speaker=utterance_id.partition("-")[0],
                split=self.name,
                words=_normalise_words(alignments.get(utterance_id, ())),
            )


class RecordCorpus(Corpus):
    """A split of a dataset of utterance records (`beam_pipelines.prepare_corpus`).

    Raises:
      ValueError: the dataset is incomplete, or has no such labelled split.
    """

    def __init__(self, directory: str | Path, *, split: str):
        info = dataset.DatasetInfo.load(directory)
        if not info.split(split).labelled:
            raise ValueError(f"{directory}: the split {split} has no transcripts to measure against; choose another")
        self._paths = info.shard_paths(directory, split)
        super().__init__(name=split, source=str(directory), size=info.split(split).utterances)

    def __iter__(self) -> Iterator[Utterance]:
        self.refused = []
        for path in self._paths:
            for index, record in enumerate(dataset.read_shard(path)):
                try:
                    utterance = schema.decode_utterance(record)
                except ValueError as error:
                    self.refused.append(Refused(f"{Path(path).name}#{index}", "corrupt_record", f"{path}: {error}"))
                    continue
                if utterance.text is None:
                    self.refused.append(Refused(utterance.utterance_id, "missing_transcript", f"{path}: no text"))
                    continue
                words = _normalise_words(utterance.words)
                yield dataclasses.replace(utterance, text=text.normalise(utterance.text), words=words)


def _split_folder(directory: Path, *, split: str) -> Path:
    if not directory.is_dir():
        raise ValueError(f"{directory} is not a folder: give one in LibriSpeech layout (SPEAKER/CHAPTER/*.trans.txt)")
    if split and (directory / split).is_dir():
        directory = directory / split
    elif split and directory.resolve().name != split:
        there = sorted(path.name for path in directory.iterdir() if path.is_dir())
        raise ValueError(f"{directory} has no split {split!r}, it has: {', '.join(there[:10]) or 'no folders'}")
    depths = [path.relative_to(directory).parts for path in directory.rglob("*.trans.txt")]
    if not depths:
        raise ValueError(f"{directory} holds no transcripts (*.trans.txt): a word error rate needs them")
    splits = sorted({parts[0] for parts in depths if len(parts) == 4})  # SPLIT/SPEAKER/CHAPTER/FILE
    if len(splits) > 1:
        raise ValueError(f"{directory} holds several splits ({', '.join(splits)}): choose one with --split")
    return directory / splits[0] if splits else directory


def _read_alignments(path: Path) -> dict[str, list[tuple[str, float, float]]]:
    """Lines `utt word start_s end_s` (tabs, that header) -> {utterance: [(word, start, end)]}; {} without a file."""
    words = collections.defaultdict(list)
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                words[row["utt"]].append((row["word"], float(row["start_s"]), float(row["end_s"])))
    return dict(words)


def _normalise_words(words) -> tuple[tuple[str, float, float], ...]:
    return tuple((text.normalise(word), start, end) for word, start, end in words)
