"""Kaldi data folders: SPLIT/wav.scp, and perhaps text, segments, utt2spk and utt2lang.

Only paths are read from wav.scp. A command (a line that ends in |) is refused and never run. Relative paths start in
the data folder. A split without `text` is unlabelled.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

from beam_pipelines.inputs import files
from beam_pipelines.inputs.source import Format, Refused, Source, SplitInput

NAME = "kaldi"
_WAVES, _TEXT, _SEGMENTS, _SPEAKERS, _LANGUAGES = "wav.scp", "text", "segments", "utt2spk", "utt2lang"
_IN_ARCHIVE = re.compile(r":\d+(\[.*\])?$")


def find_splits(path: str) -> list[SplitInput]:
    """`path` itself if it has a wav.scp, else the folders in it that do."""
    here = files.listing(path)
    if _WAVES in here.files:
        return [SplitInput(path.rpartition("/")[2], path, NAME)]
    names = [name for name in here.folders if _WAVES in files.listing(f"{path}/{name}").files]
    return [SplitInput(name, f"{path}/{name}", NAME) for name in names]


def one_part(split: SplitInput) -> list[str]:
    """Every file of a data folder may say something about every utterance."""
    del split
    return [""]


def list_sources(split: SplitInput, part: str) -> Iterator[Source]:
    """A source for each segment, or for each recording where there are no segments; and for what is left over."""
    del part
    there = files.listing(split.path).files
    tables: dict[str, dict[str, tuple[str, int]]] = {}
    for name in (_WAVES, _TEXT, _SEGMENTS, _SPEAKERS, _LANGUAGES):
        tables[name] = {}
        if name in there:
            yield from _read_table(split, name, tables[name])
    used = set()
    for utterance_id, (value, number) in tables[_SEGMENTS if _SEGMENTS in there else _WAVES].items():
        origin = f"{split.path}/{_SEGMENTS if _SEGMENTS in there else _WAVES}:{number}"
        found: dict[str, Any] = {
            "split": split.name,
            "utterance_id": utterance_id,
            "text": tables[_TEXT].get(utterance_id, (None,))[0],
            "speaker": tables[_SPEAKERS].get(utterance_id, ("",))[0],
            "domain": tables[_LANGUAGES].get(utterance_id, ("",))[0],
            "order": number,
            "origin": origin,
        }
        wave = value
        place: dict[str, Any] = {}
        try:
            if _SEGMENTS in there:
                recording, start, duration = _segment(value)
                used.add(recording)
                wave = tables[_WAVES].get(recording, ("",))[0]
                if not wave:
                    raise Refused("missing_audio", f"{_WAVES} has no recording {recording}")
                place = {"recording": recording, "offset": start, "duration": duration}
            yield Source(**found, **place, audio=_path(wave, folder=split.path))
        except Refused as refused:
            yield Source(**found, audio="", reason=refused.reason, error=str(refused))
    yield from _left_over(split, tables, used=used if _SEGMENTS in there else None)


def _left_over(split: SplitInput, tables: dict, *, used: set[str] | None) -> Iterator[Source]:
    """Transcripts without audio, and recordings of which no segment is known."""
    utterances = tables[_WAVES] if used is None else tables[_SEGMENTS]
    for utterance_id, (text, number) in tables[_TEXT].items():
        if utterance_id not in utterances:
            yield Source(split.name, utterance_id, "", text, order=number, origin=f"{split.path}/{_TEXT}:{number}")
    if used is None:
        return
    for recording, (_, number) in tables[_WAVES].items():
        if recording not in used:
            origin, error = f"{split.path}/{_WAVES}", f"{_SEGMENTS} has none of recording {recording}"
            yield Source(split.name, recording, "", None, order=number, origin=origin, reason="no_segment", error=error)


def _read_table(split: SplitInput, name: str, table: dict[str, tuple[str, int]]) -> Iterator[Source]:
    """Adds `first word of a line -> (the rest of it, its number)` to `table`; yields refusals."""
    path = f"{split.path}/{name}"
    found: dict[str, Any] = {"split": split.name, "audio": "", "text": None}
    try:
        for number, line in files.read_lines(path):
            first, _, rest = line.strip().partition(b" ") if b"\t" not in line else line.strip().partition(b"\t")
            problem: dict[str, Any] = {"order": number, "origin": f"{path}:{number}"}
            try:
                key, value = first.decode(), rest.decode().strip()
            except UnicodeDecodeError as error:
                key = first.decode(errors="replace")
                yield Source(**found, utterance_id=key, **problem, reason="bad_line", error=f"not UTF-8: {error}")
                continue
            if key in table and name in (_WAVES, _TEXT, _SEGMENTS):
                known = f"{key} is there already"
                yield Source(**found, utterance_id=key, **problem, reason="duplicate_id", error=known)
            else:
                table[key] = (value, number)
    except Refused as refused:
        yield Source(**found, utterance_id=name, origin=path, reason=refused.reason, error=str(refused))


def _segment(value: str) -> tuple[str, float, float | None]:
    """`recording start end` -> (recording, start, seconds); an end of -1 is that of the recording."""
    try:
        recording, first, last = value.split()
        start, end = float(first), float(last)
        if start < 0 or not math.isfinite(start) or not (end == -1 or start < end < math.inf):
            raise ValueError(f"from {start} to {end}")
    except ValueError as error:
        raise Refused("bad_line", f"expected: utterance recording start end, in seconds: {error}") from error
    return recording, start, None if end == -1 else end - start


def _path(wave: str, *, folder: str) -> str:
    if wave.endswith("|") or wave.startswith("|"):
        raise Refused("command_pipe", f"{wave[:200]!r} is a command; commands are not run: write files instead")
    if wave == "-" or _IN_ARCHIVE.search(wave):
        raise Refused("unsupported_format", f"{wave[:200]!r} is no audio file but a stream or a place in an archive")
    return files.resolve(wave, folder=folder)


FORMAT = Format(
    NAME,
    "SPLIT/wav.scp, perhaps with text, segments and utt2spk beside it (Kaldi)",
    find=find_splits,
    parts=one_part,
    sources=list_sources,
)
