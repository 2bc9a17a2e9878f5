"""JSONL manifests as NeMo writes them: SPLIT.jsonl with audio_filepath, duration, text, and perhaps offset, per line.

"speaker" and an id ("utterance_id", "utt_id" or "id") are used where they are; the domain is "domain", "lang" or
"language". Relative paths start in the manifest's folder.
"""

import json
from collections.abc import Iterator

from beam_pipelines.inputs import files
from beam_pipelines.inputs.source import Format, Refused, Source, SplitInput
from tf_rnnt_kd.records import DEAD_LETTER_FILE

NAME = "nemo"
_ID_FIELDS = ("utterance_id", "utt_id", "id")
_LONGEST_SECONDS = 1e9  # a number that is no time, and that no float holds, is a mistake
_DOMAIN_FIELDS = ("domain", "lang", "language")


def find_splits(path: str) -> list[SplitInput]:
    """Manifests in the folder `path`, or the one that it is.

    Raises:
        ValueError: two manifests are of one split.
    """
    if files.is_file(path):
        return [SplitInput(files.stem(path), path, NAME)] if _is_manifest(path) else []
    names = [name for name in files.listing(path).files if _is_manifest(f"{path}/{name}")]
    stems = [files.stem(name) for name in names]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"{path} has two manifests for split {', '.join(twice)}: give one of them as --input")
    return [SplitInput(stem, f"{path}/{name}", NAME) for stem, name in zip(stems, names, strict=True)]


def one_part(split: SplitInput) -> list[str]:
    """A manifest is read in one piece, so that its lines have numbers."""
    del split
    return [""]


def list_sources(split: SplitInput, part: str) -> Iterator[Source]:
    """A source for each line."""
    del part
    folder = split.path.rpartition("/")[0] or "."
    try:
        for number, line in files.read_lines(split.path):
            origin = f"{split.path}:{number}"
            try:
                yield _source(split.name, folder, json.loads(line), number, origin)
            except Refused as refused:
                yield _refusal(split, number, refused.reason, str(refused))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                problem = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
                expected = "expected {audio_filepath, duration, text}"
                yield _refusal(split, number, "bad_manifest_line", f"{expected}: {problem}")
    except Refused as refused:
        yield _refusal(split, 0, refused.reason, str(refused))


def _refusal(split: SplitInput, number: int, reason: str, error: str) -> Source:
    name, origin = f"line-{number:08d}", f"{split.path}:{number}"
    return Source(split.name, name, "", None, order=number, origin=origin, reason=reason, error=error)


def _source(split: str, folder: str, entry: dict, number: int, origin: str) -> Source:
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
    recording = audio.removesuffix("." + audio.rpartition(".")[2])
    utterance_id = given[0] if given else recording
    if not given and offset is not None:
        utterance_id += f"@{offset:.3f}"
    domains = [str(entry[name]) for name in _DOMAIN_FIELDS if entry.get(name) not in (None, "")]
    return Source(
        split,
        utterance_id,
        files.resolve(audio, folder=folder),
        text,
        speaker="" if entry.get("speaker") is None else str(entry["speaker"]),
        domain=domains[0] if domains else "",
        recording=recording if offset is not None else "",
        offset=offset,
        duration=duration,
        order=number,
        origin=origin,
    )


def _seconds(entry: dict, name: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LONGEST_SECONDS:
        raise ValueError(f"{name} must be seconds, got {str(value)[:40]}")
    return float(value)


def _is_manifest(path: str) -> bool:
    if path.endswith(f"/{DEAD_LETTER_FILE}"):  # of a dataset that prepare_corpus made
        return False
    if path.endswith(".jsonl"):
        return True
    if not path.endswith(".json"):
        return False
    # Other things are called .json too: a manifest starts with a line that names audio.
    try:
        first = next(files.read_lines(path), (0, b""))[1]
        return "audio_filepath" in json.loads(first)
    except (ValueError, TypeError, RecursionError, Refused):
        return False


FORMAT = Format(
    NAME,
    "SPLIT.jsonl manifests with audio_filepath, duration, text (NeMo)",
    find=find_splits,
    parts=one_part,
    sources=list_sources,
)
