"""Audio files of any layout, unlabelled: a pattern such as DIR/**/*.mp3, a folder, or one file.

** stands for any number of folders, also none. The folder before the first wildcard is the split, and ids are paths
below it.
"""

import fnmatch
import glob
import re
from collections.abc import Iterable, Iterator, Sequence

import tensorflow as tf

from beam_pipelines.inputs import files
from beam_pipelines.inputs.source import Format, Source, SplitInput

NAME = "audio"
_WILDCARD = re.compile(r"[*?\[]")
_ESCAPED = re.compile(r"\[([*?\[])\]")


def is_pattern(path: str) -> bool:
    """Whether there is a wildcard in it, and no file or folder of that very name."""
    return bool(_WILDCARD.search(path)) and not tf.io.gfile.exists(path)


def is_audio_file(path: str) -> bool:
    """Whether it is one file with a suffix of audio."""
    return files.is_audio(path) and files.is_file(path)


def find_splits(path: str) -> list[SplitInput]:
    """One split: what the pattern matches, or the audio in the folder and below it, or the one file."""
    if files.is_file(path):
        return [SplitInput(files.stem(path), glob.escape(path), NAME)] if files.is_audio(path) else []
    pattern = path if is_pattern(path) else f"{glob.escape(path)}/**/*"
    root, parts = _taken_apart(pattern)
    found = next(_matching(files.walk(root), root=root, pattern=parts), None)
    return [SplitInput(root.rpartition("/")[2] or NAME, pattern, NAME)] if found else []


def folders(split: SplitInput) -> list[str]:
    """The folders in the one before the first wildcard, and "" for what lies beside them."""
    root, pattern = _taken_apart(split.path)
    return [*files.listing(root).folders, ""] if pattern[:1] == ["**"] else [""]


def list_sources(split: SplitInput, folder: str) -> Iterator[Source]:
    """A source for each file that matches and has a suffix of audio."""
    root, pattern = _taken_apart(split.path)
    if not pattern:
        yield Source(split.name, files.stem(root), root, None, origin=root)
        return
    below: Iterable[files.Folder]
    if folder:
        below = files.walk(f"{root}/{folder}")
    else:
        below = [files.listing(root)] if pattern[0] == "**" or len(pattern) == 1 else files.walk(root)
    below = list(below)
    for here in below:
        yield from files.odd_sources(here, split=split.name, root=root)
    for file in _matching(below, root=root, pattern=pattern):
        yield Source(split.name, files.relative(file, root=root), file, None, origin=file)


def _matching(below: Iterable[files.Folder], *, root: str, pattern: Sequence[str]) -> Iterator[str]:
    for here in below:
        for name in here.files:
            file = f"{here.path}/{name}"
            if files.is_audio(name) and _matches(file.removeprefix(f"{root}/").split("/"), pattern):
                yield file


def _taken_apart(path: str) -> tuple[str, list[str]]:
    """(folder before the first wildcard, what follows, taken apart); nothing follows where there is no wildcard."""
    parts = path.split("/")
    names: list[str] = []
    for part in parts:
        name = _literal(part)
        if name is None:
            break
        names.append(name)
    return "/".join(names), parts[len(names) :]


def _literal(part: str) -> str | None:
    """The name that a part of a pattern stands for, None where it has a wildcard that is not escaped, as in [*]."""
    name = _ESCAPED.sub(r"\1", part)
    return name if glob.escape(name) == part else None


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


FORMAT = Format(
    NAME,
    "audio files, by a pattern such as DIR/**/*.mp3, or below a folder",
    find=find_splits,
    parts=folders,
    sources=list_sources,
)
