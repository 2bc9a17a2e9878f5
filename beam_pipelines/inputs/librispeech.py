"""LibriSpeech layout: SPLIT/SPEAKER/CHAPTER/*.flac with *.trans.txt beside them.

A split without transcripts is unlabelled. `SPLIT/alignments.tsv` may give word times; SPLIT-truth folders are skipped.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from beam_pipelines.inputs import files
from beam_pipelines.inputs.source import Format, Refused, Source, SplitInput

NAME = "librispeech"
ALIGNMENTS_FILE = "alignments.tsv"
TRUTH_SUFFIX = "-truth"
TRANSCRIPT_SUFFIX = ".trans.txt"


def find_splits(path: str) -> list[SplitInput]:
    """Folders in `path` that hold speakers, else `path` itself if it does."""
    here = files.listing(path)
    names = [name for name in here.folders if not name.endswith(TRUTH_SUFFIX) and _is_split(f"{path}/{name}")]
    if names:
        return [SplitInput(name, f"{path}/{name}", NAME) for name in names]
    return [SplitInput(path.rpartition("/")[2], path, NAME)] if _is_split(path) else []


def speaker_folders(split: SplitInput) -> Iterator[str]:
    """The speakers' folders, and "" for what lies beside them."""
    yield from files.listing(split.path).folders
    yield ""


def list_sources(split: SplitInput, speaker: str) -> Iterator[Source]:
    """Each audio file with its transcript, and transcripts without audio."""
    if not speaker:
        yield from _in_folder(split, "", files.listing(split.path))
        return
    for folder in files.walk(f"{split.path}/{speaker}"):
        yield from _in_folder(split, speaker, folder)


def read_word_times(split: SplitInput) -> Iterator[tuple[str, tuple[tuple[str, float, float], ...]]]:
    """(utterance id, ((word, start seconds, end seconds), ...)) from `alignments.tsv` of a split, if it has one.

    A line that is not `utterance word start end` drops the times of its utterance, not the utterance.
    """
    if split.format != NAME or ALIGNMENTS_FILE not in files.listing(split.path).files:
        return
    words: dict[str, list[tuple[str, float, float]]] = {}
    broken = set()
    try:
        for number, line in files.read_lines(f"{split.path}/{ALIGNMENTS_FILE}"):
            fields = line.decode(errors="replace").split("\t")
            if number == 1:
                continue
            try:
                utterance_id, word, start, end = fields
                words.setdefault(utterance_id, []).append((word, float(start), float(end)))
            except ValueError:
                broken.add(fields[0])
    except Refused:  # times are an addition: utterances do without
        return
    for utterance_id, times in words.items():
        if utterance_id not in broken:
            yield utterance_id, tuple(times)


def has_transcripts(split: SplitInput) -> bool:
    """Whether one of the first chapters has any: audio two folders down may belong to other formats as well."""
    chapters = itertools.islice(_chapters(split.path), 10)
    return any(name.endswith(TRANSCRIPT_SUFFIX) for names in chapters for name in names)


def _is_split(path: str) -> bool:
    """Whether there is audio, or a transcript, two folders further down, and no side file as Libri-Light has them."""
    names = next(_chapters(path), None)
    return names is not None and not any(files.is_audio(name) and f"{files.stem(name)}.json" in names for name in names)


def _chapters(path: str) -> Iterator[tuple[str, ...]]:
    """Names of the files in each SPEAKER/CHAPTER that has audio or a transcript."""
    for speaker in files.listing(path).folders:
        for chapter in files.listing(f"{path}/{speaker}").folders:
            names = files.listing(f"{path}/{speaker}/{chapter}").files
            if any(files.is_audio(name) or name.endswith(TRANSCRIPT_SUFFIX) for name in names):
                yield names


def _in_folder(split: SplitInput, speaker: str, folder: files.Folder) -> Iterator[Source]:
    """One folder: each audio file with its transcript, then the transcripts that are left over."""
    texts: dict[str, tuple[str, str, int]] = {}
    for name in folder.files:
        if name.endswith(TRANSCRIPT_SUFFIX):
            yield from _read_transcripts(split, speaker, f"{folder.path}/{name}", texts)
    yield from files.odd_sources(folder, split=split.name, root=split.path)
    audio = [name for name in folder.files if files.is_audio(name)]
    for name in audio:
        text, origin, _ = texts.get(files.stem(name), (None, "", 0))
        path = f"{folder.path}/{name}"
        yield Source(split.name, files.stem(name), path, text, speaker=speaker, origin=origin or path)
    with_audio = {files.stem(name) for name in audio}
    for utterance_id, (text, origin, order) in texts.items():
        if utterance_id not in with_audio:
            yield Source(split.name, utterance_id, "", text, speaker=speaker, order=order, origin=origin)


def _read_transcripts(split: SplitInput, speaker: str, path: str, texts: dict) -> Iterator[Source]:
    """Adds `id -> (text, path, line)` to `texts`; yields refusals of lines that are none."""
    found: dict[str, Any] = {"split": split.name, "speaker": speaker, "audio": "", "origin": path}
    try:
        for number, line in files.read_lines(path):
            try:
                utterance_id, _, text = line.decode().strip().partition(" ")
            except UnicodeDecodeError as error:
                name = line.split(b" ")[0].decode(errors="replace")
                problem: dict[str, Any] = {
                    "reason": "bad_transcript_line",
                    "error": f"line {number} is not UTF-8: {error}",
                }
                yield Source(**found, utterance_id=name, text=None, order=number, **problem)
                continue
            if utterance_id in texts:
                problem = {"reason": "duplicate_id", "error": f"line {number} is another transcript of {utterance_id}"}
                yield Source(**found, utterance_id=utterance_id, text=text, order=number, **problem)
            else:
                texts[utterance_id] = (text, path, number)
    except Refused as refused:
        name = files.relative(path, root=split.path)
        yield Source(**found, utterance_id=name, text=None, reason=refused.reason, error=str(refused))


FORMAT = Format(
    NAME,
    "SPLIT/SPEAKER/CHAPTER/*.flac with *.trans.txt beside them (LibriSpeech)",
    find=find_splits,
    parts=speaker_folders,
    sources=list_sources,
)
