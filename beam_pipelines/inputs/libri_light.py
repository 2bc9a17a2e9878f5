"""Libri-Light: SPLIT/SPEAKER/BOOK/*.flac, hour-long and unlabelled, each with a JSON side file of the same stem.

The side file's "speaker" and "voice_activity" ([[start, end], ...] in seconds) are used; where there is no voice
activity the recording is cut by ours. A folder that itself holds speakers is one split.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from beam_pipelines.inputs import files
from beam_pipelines.inputs.source import Format, Refused, Source, SplitInput

NAME = "libri_light"


def find_splits(path: str) -> list[SplitInput]:
    """Folders in `path` that hold speakers, else `path` itself if it does."""
    names = [name for name in files.listing(path).folders if _is_split(f"{path}/{name}")]
    if names:
        return [SplitInput(name, f"{path}/{name}", NAME) for name in names]
    return [SplitInput(path.rpartition("/")[2], path, NAME)] if _is_split(path) else []


def speaker_folders(split: SplitInput) -> Iterator[str]:
    """The speakers' folders, and "" for what lies beside them."""
    yield from files.listing(split.path).folders
    yield ""


def list_sources(split: SplitInput, speaker: str) -> Iterator[Source]:
    """Each recording with what its side file says; ids are paths below the split, SPEAKER/BOOK/name."""
    for folder in files.walk(f"{split.path}/{speaker}") if speaker else [files.listing(split.path)]:
        yield from files.odd_sources(folder, split=split.name, root=split.path)
        for name in folder.files:
            if files.is_audio(name):
                path = f"{folder.path}/{name}"
                side = f"{folder.path}/{files.stem(name)}.json"
                has_side = f"{files.stem(name)}.json" in folder.files
                yield _source(split, path, speaker=speaker, side=side if has_side else None)


def _source(split: SplitInput, path: str, *, speaker: str, side: str | None) -> Source:
    name = files.relative(path, root=split.path)
    found: dict[str, Any] = {"split": split.name, "utterance_id": name, "audio": path, "text": None}
    if side is None:
        return Source(**found, speaker=speaker, origin=path)
    try:
        content = _read_side(side)
        return Source(
            **found,
            speaker=str(content.get("speaker") or speaker),
            speech=_voice_activity(content.get("voice_activity")),
            origin=side,
        )
    except Refused as refused:
        return Source(**found, speaker=speaker, origin=side, reason=refused.reason, error=str(refused))


def _read_side(path: str) -> dict:
    files.check_regular(path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = json.loads(file.read())
    except (tf.errors.OpError, ValueError, RecursionError) as error:
        raise Refused("bad_side_file", f"{path} is no JSON: {error}; without it ours finds the speech") from error
    if not isinstance(content, dict):
        raise Refused("bad_side_file", f"{path} holds {type(content).__name__}, not an object")
    return content


def _voice_activity(regions) -> tuple[tuple[float, float], ...] | None:
    """Regions in order, those that overlap or touch as one; None where there is no such list."""
    if regions is None:
        return None
    merged: list[list[float]] = []
    try:
        for start, end in sorted((float(start), float(end)) for start, end in regions):
            if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
                raise ValueError(f"[{start}, {end}]")
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
    except (TypeError, ValueError) as error:
        raise Refused("bad_side_file", f"voice_activity must be [[start, end], ...] in seconds: {error}") from error
    return tuple((start, end) for start, end in merged)


def _is_split(path: str) -> bool:
    """Whether there is audio two folders further down (SPEAKER/BOOK) with a JSON file of the same stem beside it."""
    for speaker in files.listing(path).folders:
        for book in files.listing(f"{path}/{speaker}").folders:
            names = files.listing(f"{path}/{speaker}/{book}").files
            if any(files.is_audio(name) for name in names):
                return any(files.is_audio(name) and f"{files.stem(name)}.json" in names for name in names)
    return False


FORMAT = Format(
    NAME,
    "SPLIT/SPEAKER/BOOK/*.flac with a .json of the same name beside each (Libri-Light)",
    find=find_splits,
    parts=speaker_folders,
    sources=list_sources,
)
