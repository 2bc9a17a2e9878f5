"""Finding audio and transcripts: LibriSpeech folders, and JSONL manifests as NeMo writes them.

Nothing here opens an audio file. What is found, good or bad, becomes one small `Source`, so that
sources = utterances written + utterances refused, exactly.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator

import apache_beam as beam
import tensorflow as tf

from beam_pipelines.transforms import progress

ALIGNMENTS_FILE = "alignments.tsv"
TRUTH_SUFFIX = "-truth"
# Formats that cannot be decoded are listed too: they are refused with a reason instead of being overlooked.
AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".sph")
_TRANSCRIPT_SUFFIX = ".trans.txt"
_ID_FIELDS = ("utterance_id", "utt_id", "id")


@dataclasses.dataclass(frozen=True)
class SplitInput:
    """One split of the input: a folder in LibriSpeech layout, or a manifest file."""

    name: str
    path: str
    is_manifest: bool


@dataclasses.dataclass(frozen=True)
class Source:
    """One thing that should become an utterance.

    Attributes:
        audio: path of the audio file, "" where there is only a transcript.
        text: the transcript as it was found, None where there is none.
        offset: seconds into the file where the utterance starts.
        duration: its seconds as the manifest states them, None where nobody does.
        order: position in its file, to settle which of two equal ids came first.
        origin: the file that named it, for people.
        reason: why it is already known to be unusable, else "".
        error: the same for people.
    """

    split: str
    utterance_id: str
    audio: str
    text: str | None
    speaker: str = ""
    offset: float | None = None
    duration: float | None = None
    order: int = 0
    origin: str = ""
    reason: str = ""
    error: str = ""


def find_splits(path: str, *, wanted: Iterable[str] = ()) -> list[SplitInput]:
    """The splits below `path` (a folder, or one manifest file), sorted by name; only `wanted` ones where given.

    Raises:
        ValueError: there is no such path, no split in it, or not one of the wanted.
    """
    wanted = list(wanted)
    if not tf.io.gfile.exists(path):
        raise ValueError(f"no such file or folder: {path}; --input takes a corpus folder or a JSONL manifest")
    if not tf.io.gfile.isdir(path):
        found = [SplitInput(_stem(path), path, is_manifest=True)]
    else:
        folders, files = _listing(path)
        found = [
            SplitInput(name, f"{path}/{name}", is_manifest=False)
            for name in folders
            if not name.endswith(TRUTH_SUFFIX) and _is_split(f"{path}/{name}")
        ]
        found += [
            SplitInput(_stem(name), f"{path}/{name}", is_manifest=True) for name in files if _is_manifest(path, name)
        ]
        if not found and _is_split(path):
            found = [SplitInput(path.rstrip("/").rpartition("/")[2], path, is_manifest=False)]
    names = [split.name for split in found]
    if not found:
        raise ValueError(
            f"no corpus in {path}: expected SPLIT/SPEAKER/CHAPTER/*.flac with *.trans.txt beside them (LibriSpeech), "
            "or SPLIT.jsonl manifests with audio_filepath, duration, text (NeMo)"
        )
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise ValueError(f"no split {', '.join(missing)} in {path}, it has: {', '.join(sorted(names))}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has both a folder and a manifest, or two manifests, for split {', '.join(twice)}")
    return sorted((split for split in found if not wanted or split.name in wanted), key=lambda split: split.name)


@beam.typehints.with_input_types(SplitInput)
@beam.typehints.with_output_types(Source)
class ListSources(beam.PTransform):
    """Splits -> their sources."""

    def expand(self, splits):
        sources = (
            splits
            | "Folders" >> beam.FlatMap(_speaker_folders)
            # Listing a big corpus takes long: without this one worker would list all that one worker found.
            | "Spread" >> beam.Reshuffle()
            | "List" >> beam.FlatMap(_list_folder).with_output_types(Source)
        )
        return sources | "Count" >> beam.Map(_expect).with_output_types(Source)


def read_word_times(split: SplitInput) -> Iterator[tuple[str, tuple[tuple[str, float, float], ...]]]:
    """(utterance id, ((word, start seconds, end seconds), ...)) from `alignments.tsv` of a split, if it has one.

    A line that is not `utterance word start end` drops the times of its utterance, not the utterance.
    """
    path = f"{split.path}/{ALIGNMENTS_FILE}"
    if split.is_manifest or not tf.io.gfile.exists(path):
        return
    words: dict[str, list[tuple[str, float, float]]] = {}
    broken = set()
    for line in _read_lines(path)[1:]:
        fields = line.decode(errors="replace").split("\t")
        try:
            utterance_id, word, start, end = fields
            words.setdefault(utterance_id, []).append((word, float(start), float(end)))
        except ValueError:
            broken.add(fields[0])
    for utterance_id, times in words.items():
        if utterance_id not in broken:
            yield utterance_id, tuple(times)


def _expect(source: Source) -> Source:
    progress.expect(1)
    return source


def _speaker_folders(split: SplitInput) -> Iterator[tuple[SplitInput, str]]:
    if split.is_manifest:
        yield split, ""
        return
    folders, files = _listing(split.path)
    for speaker in folders:
        yield split, speaker
    if any(_is_corpus_file(name) for name in files):
        yield split, ""


def _list_folder(folder: tuple[SplitInput, str]) -> Iterator[Source]:
    split, speaker = folder
    if split.is_manifest:
        yield from _list_manifest(split)
    elif not speaker:
        yield from _list_files(split.name, "", split.path, _listing(split.path)[1])
    else:
        for path, _, files in tf.io.gfile.walk(f"{split.path}/{speaker}"):
            yield from _list_files(split.name, speaker, path.rstrip("/"), sorted(files))


def _list_files(split: str, speaker: str, path: str, files: list[str]) -> Iterator[Source]:
    """One folder: each audio file with its transcript, then the transcripts that are left over."""
    texts: dict[str, tuple[str, str, int]] = {}
    for name in files:
        if not name.endswith(_TRANSCRIPT_SUFFIX):
            continue
        for order, line in enumerate(_read_lines(f"{path}/{name}")):
            found = {"split": split, "speaker": speaker, "audio": "", "order": order, "origin": f"{path}/{name}"}
            try:
                utterance_id, _, text = line.decode().strip().partition(" ")
            except UnicodeDecodeError as error:
                utterance_id = line.split(b" ")[0].decode(errors="replace")
                yield Source(
                    **found,
                    utterance_id=utterance_id,
                    text=None,
                    reason="bad_transcript_line",
                    error=f"not UTF-8: {error}",
                )
                continue
            if utterance_id in texts:
                reason = f"line {order + 1} is another transcript of {utterance_id}"
                yield Source(**found, utterance_id=utterance_id, text=text, reason="duplicate_id", error=reason)
            else:
                texts[utterance_id] = (text, f"{path}/{name}", order)
    for name in files:
        if name.lower().endswith(AUDIO_SUFFIXES):
            utterance_id = _stem(name)
            text, origin, _ = texts.get(utterance_id, (None, "", 0))
            yield Source(
                split, utterance_id, f"{path}/{name}", text, speaker=speaker, origin=origin or f"{path}/{name}"
            )
    with_audio = {_stem(name) for name in files if name.lower().endswith(AUDIO_SUFFIXES)}
    for utterance_id, (text, origin, order) in texts.items():
        if utterance_id not in with_audio:
            yield Source(split, utterance_id, "", text, speaker=speaker, order=order, origin=origin)


def _list_manifest(split: SplitInput) -> Iterator[Source]:
    folder = split.path.rpartition("/")[0] or "."
    for order, line in enumerate(_read_lines(split.path)):
        origin = f"{split.path}:{order + 1}"
        try:
            yield _manifest_source(split.name, folder, json.loads(line), order, origin)
        except (ValueError, TypeError, KeyError) as error:
            problem = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            yield Source(
                split.name,
                f"line-{order + 1:08d}",
                audio="",
                text=None,
                order=order,
                origin=origin,
                reason="bad_manifest_line",
                error=f"expected {{audio_filepath, duration, text}}: {problem}",
            )


def _manifest_source(split: str, folder: str, entry: dict, order: int, origin: str) -> Source:
    if not isinstance(entry, dict):
        raise ValueError(f"not an object but {type(entry).__name__}")
    audio = entry["audio_filepath"]
    text = entry.get("text")
    if not isinstance(audio, str) or not audio or not isinstance(text, str | None):
        raise ValueError("audio_filepath must be a non-empty string, text a string")
    offset, duration = (_seconds(entry, name) for name in ("offset", "duration"))
    if duration is None and offset is not None:
        raise ValueError("an offset without a duration")
    given = [str(entry[name]) for name in _ID_FIELDS if entry.get(name) not in (None, "")]
    # NeMo manifests have no ids: the path is one, together with the offset where one file holds several utterances.
    utterance_id = given[0] if given else audio.removesuffix("." + audio.rpartition(".")[2])
    if not given and offset is not None:
        utterance_id += f"@{offset:.3f}"
    if "://" not in audio and not audio.startswith("/"):
        audio = f"{folder}/{audio}"
    speaker = str(entry.get("speaker", ""))
    return Source(split, utterance_id, audio, text, speaker, offset, duration, order=order, origin=origin)


def _seconds(entry: dict, name: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be seconds, got {value!r}")
    return float(value)


def _is_split(path: str) -> bool:
    """Whether there is audio, or a transcript, two folders further down (SPEAKER/CHAPTER)."""
    for speaker in _listing(path)[0]:
        for chapter in _listing(f"{path}/{speaker}")[0]:
            if any(_is_corpus_file(name) for name in _listing(f"{path}/{speaker}/{chapter}")[1]):
                return True
    return False


def _is_corpus_file(name: str) -> bool:
    return name.lower().endswith((*AUDIO_SUFFIXES, _TRANSCRIPT_SUFFIX))


def _is_manifest(path: str, name: str) -> bool:
    if name.endswith(".jsonl"):
        return True
    if not name.endswith(".json"):
        return False
    # Other things are called .json too: a manifest starts with a line that names audio.
    with tf.io.gfile.GFile(f"{path}/{name}", "rb") as file:
        first = file.readline()
    try:
        return "audio_filepath" in json.loads(first)
    except (ValueError, TypeError):
        return False


def _listing(path: str) -> tuple[list[str], list[str]]:
    """(folders, files) directly in a folder, sorted."""
    _, folders, files = next(tf.io.gfile.walk(path), ("", [], []))
    return sorted(name.rstrip("/") for name in folders), sorted(files)


def _read_lines(path: str) -> list[bytes]:
    with tf.io.gfile.GFile(path, "rb") as file:
        return [line for line in file.read().splitlines() if line.strip()]


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name
