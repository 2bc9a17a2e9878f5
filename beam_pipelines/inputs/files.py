"""Folders and files of an input, local or in a bucket, where anything may be wrong with any of them.

Local folders are read with `os.scandir`: `tf.io.gfile` fails as a whole where one name is no UTF-8, and follows links
in circles. What cannot be used comes back as `Odd`, so that it is counted.
"""

import dataclasses
import os
import stat
from collections.abc import Iterator

import tensorflow as tf

from beam_pipelines.inputs.source import Refused, Source

# Formats that cannot be decoded are listed too: they are refused with a reason instead of being overlooked.
AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".aifc", ".au",
                  ".caf", ".w64", ".sph", ".wma", ".webm")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Odd:
    """A folder that cannot be read, or a name of audio that is no file, and why."""

    path: str
    reason: str
    error: str


@dataclasses.dataclass(frozen=True)
class Folder:
    """What lies directly in a folder; names, sorted."""

    path: str
    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    odd: tuple[Odd, ...] = ()


def is_remote(path: str) -> bool:
    """Whether `path` is an address that `tf.io.gfile` reads, such as gs://."""
    return "://" in path


def is_file(path: str) -> bool:
    """Whether there is something at `path` that is no folder."""
    return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)


def stem(path: str) -> str:
    """The file's name without folder and suffix."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def is_audio(name: str) -> bool:
    """Whether the suffix is one of audio."""
    return name.lower().endswith(AUDIO_SUFFIXES)


def listing(path: str) -> Folder:
    """One folder. A folder that cannot be read is empty but for one `Odd`."""
    try:
        return _remote_listing(path) if is_remote(path) else _local_listing(path)
    except (OSError, ValueError, tf.errors.OpError) as error:  # ValueError: a NUL, or a remote name that is no UTF-8
        return Folder(path, odd=(Odd(path, "unreadable", f"the folder cannot be read: {error}"),))


def walk(path: str) -> Iterator[Folder]:
    """The folder and all below it, each before its own folders. Links that lead back up are not followed."""
    yield from _walk(path, above=())


def _walk(path: str, *, above: tuple[tuple[int, int], ...]) -> Iterator[Folder]:
    if not is_remote(path):
        try:
            found = os.stat(path)  # noqa: PTH116 (names that are no UTF-8 survive in str)
        except OSError as error:
            yield Folder(path, odd=(Odd(path, "unreadable", str(error)),))
            return
        if (found.st_dev, found.st_ino) in above:
            yield Folder(path, odd=(Odd(path, "unreadable", "the link leads to a folder above it"),))
            return
        above = (*above, (found.st_dev, found.st_ino))
    folder = listing(path)
    yield folder
    for name in folder.folders:
        yield from _walk(f"{path}/{name}", above=above)


def odd_sources(folder: Folder, *, split: str, root: str) -> Iterator[Source]:
    """A refusal for each `Odd` of `folder`; its id is the path below `root`."""
    for odd in folder.odd:
        name = relative(odd.path, root=root)
        yield Source(split, name, "", None, origin=odd.path, reason=odd.reason, error=odd.error)


def relative(path: str, *, root: str) -> str:
    """The path below `root`, without the suffix of audio: an id that no other file of the input has."""
    name = path.removeprefix(root.rstrip("/") + "/")
    return name.rpartition(".")[0] if is_audio(name) else name


def read_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) of each line that is not blank.

    Raises:
        Refused: it is no regular file, or cannot be read.
    """
    check_regular(path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip(b"\r\n")
    except (tf.errors.OpError, ValueError) as error:
        raise Refused("unreadable", f"{path} cannot be read: {error}") from error


def check_regular(path: str) -> int | None:
    """Size in bytes of a local file; None in a bucket, where there is nothing else than files.

    Raises:
        Refused: "missing_audio", "bad_name" or "unreadable" (also a folder, a device, a pipe, which would wait).
    """
    if is_remote(path):
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 (names that are no UTF-8 survive in str)
    except FileNotFoundError as error:
        raise Refused("missing_audio", f"{path} does not exist") from error
    except ValueError as error:
        raise Refused("bad_name", f"{path!r}: {error}") from error
    except OSError as error:
        raise Refused("unreadable", f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise Refused("unreadable", f"{path} is a folder, a pipe or a device")
    return found.st_size


def resolve(audio: str, *, folder: str) -> str:
    """A path as a manifest gives it -> the file's path. Relative ones start in `folder`, and may not leave it.

    Raises:
        Refused: "bad_name".
    """
    if "\0" in audio:
        raise Refused("bad_name", f"the path {audio!r} holds a NUL")
    if ".." in audio.split("/"):
        raise Refused("bad_name", f"the path {audio} climbs with '..': write the whole path")
    return audio if is_remote(audio) or audio.startswith("/") else f"{folder}/{audio}"


def _local_listing(path: str) -> Folder:
    folders, files, odd = [], [], []
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():
                    files.append(entry.name)
                elif is_audio(entry.name):  # other pipes and broken links are nobody's loss
                    check_regular(entry.path)
            except Refused as refused:
                odd.append(Odd(entry.path, refused.reason, str(refused)))
            except OSError as error:
                odd.append(Odd(entry.path, "unreadable", str(error)))
    return Folder(path, tuple(sorted(folders)), tuple(sorted(files)), tuple(sorted(odd, key=lambda item: item.path)))


def _remote_listing(path: str) -> Folder:
    _, folders, files = next(tf.io.gfile.walk(path), ("", [], []))
    return Folder(path, tuple(sorted(name.rstrip("/") for name in folders)), tuple(sorted(files)))
