"""What every input format gives: splits, and one small `Source` for each thing in them, good or bad.

Nothing here opens audio, so that sources = utterances + refusals can be counted before anything is decoded.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class SplitInput:
    """One split of one input. `path` is a folder or a file, whatever its `format` (a key of `FORMATS`) reads."""

    name: str
    path: str
    format: str


@dataclasses.dataclass(frozen=True)
class Source:
    """One thing that should become an utterance, or a recording that is to be cut into some.

    Attributes:
        audio: path of the audio file, "" where there is only a transcript.
        text: the transcript as it was found, None where there is none.
        domain: language or domain of the utterance, "" where nobody says.
        recording: id of the recording where `audio` may hold several utterances; "": the utterance is the recording.
        offset: seconds into the file where the utterance starts.
        duration: its seconds as the input states them, None where nobody does.
        speech: where people speak, ((start, end) in seconds, ...), None where nobody says.
        record_at: place of the record in the TFRecord file `audio`, None where that is an audio file.
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
    domain: str = ""
    recording: str = ""
    offset: float | None = None
    duration: float | None = None
    speech: tuple[tuple[float, float], ...] | None = None
    record_at: int | None = None
    order: int = 0
    origin: str = ""
    reason: str = ""
    error: str = ""

    @property
    def key(self) -> str:
        """What the shard is chosen by: all of a recording lies in one, so that it is decoded once."""
        return self.recording or self.utterance_id


class Refused(Exception):
    """Something that gives no utterance. `reason` is for counting, the message for people."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.reason, str(self))


@dataclasses.dataclass(frozen=True)
class Format:
    """One input format.

    Attributes:
        name: as --format takes it.
        looks_like: what there must be, for people.
        find: path -> the splits there, [] where the path is of another format.
        parts: split -> names of what can be listed independently, such as its speakers' folders.
        sources: split and one of its parts -> the sources.
    """

    name: str
    looks_like: str
    find: Callable[[str], list[SplitInput]]
    parts: Callable[[SplitInput], Iterable[str]]
    sources: Callable[[SplitInput, str], Iterator[Source]]


def sound(source: Source) -> Source:
    """The same, or a refusal where a string of it cannot be written: no UTF-8, or a NUL in a name.

    File names that are no UTF-8 come with lone surrogates, and so do some escapes in JSON.
    """
    given = [name for name in (*_NAMES, *_TEXTS) if getattr(source, name)]
    broken = [name for name in given if printable(getattr(source, name)) != getattr(source, name)]
    if not broken:
        return source
    mended: dict[str, Any] = {name: printable(getattr(source, name)) for name in broken}
    return dataclasses.replace(
        source,
        **mended,
        reason=source.reason or ("bad_name" if broken[0] in _NAMES else "bad_text"),
        error=printable(source.error) or f"{broken[0]} {getattr(source, broken[0])!r} is no UTF-8, or holds a NUL",
    )


def printable(text: str) -> str:
    """`text` with what is no UTF-8, and NULs, written as escapes."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


_NAMES = ("utterance_id", "audio", "recording", "origin")
_TEXTS = ("text", "speaker", "domain", "error")
