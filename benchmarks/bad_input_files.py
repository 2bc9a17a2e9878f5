"""Bad audio files and bad manifest lines of every kind, with good ones among them. The same seed gives the same bytes.

`write` makes DIR/files (LibriSpeech layout), DIR/manifest (a JSONL manifest and its clips) and DIR/expected.jsonl, a
line for each input: what it is, and what must become of it ("written", "refused", or "either" where both are right).
"""

import dataclasses
import itertools
import json
import os
from pathlib import Path

import numpy as np

from benchmarks import bad_input_damage, bad_input_lines
from benchmarks.bad_input_formats import FORMATS, SUFFIXES, Format, encode, sound

SPLIT, MANIFEST, EXPECTED = "mixed", "lines", "expected.jsonl"
# A good file for so many bad ones.
_BAD_PER_GOOD = 10
_FOLDERS = 50
# Bigger than what is read at once; it takes no room on the disk.
_SPARSE_BYTES = (4 << 30) + 1
_SPARSE_FILES = 3
_STRANGERS = (
    b"\0\0\0\x20ftypM4A ",
    b"\xff\xf1\x50\x80",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b"\x1a\x45\xdf\xa3",
    b"#!AMR\n",
    b"\x89PNG\r\n",
    b"\xff\xd8\xff\xe0",
    b"PK\x03\x04",
    b"<!doctype html>",
    b"%PDF-1.7",
)
_STARTS = (
    b"fLaC",
    b"RIFF____WAVEfmt ",
    b"OggS",
    b"ID3\4",
    b"\xff\xfb\x90",
    b"FORM____AIFF",
    b"RF64____WAVEds64",
    b".snd",
    b"caff",
    b"NIST_1A\n   1024\n",
    b"riff\x2e\x91\xcf\x11",
)
_ODD_NAMES = (
    " with spaces",
    "\n and\ta line",
    "'quoted\"",
    "-\u00e9\u4e2d\U0001f600",
    "%2e%2e%2f",
    ";&|$(x)",
    "x" * 180,
)


@dataclasses.dataclass(frozen=True)
class Item:
    """One input. `path` is relative to the folder, "" where there is only a line; `line` counts from 1, 0: a file."""

    id: str
    kind: str
    format: str
    expect: str
    path: str = ""
    line: int = 0


def write(folder: Path, *, count: int, seed: int) -> list[Item]:
    """`count` bad inputs and a tenth as many good ones, in `folder`, which must be empty or absent.

    Raises:
        ValueError: there is something in `folder`.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"--output={folder} is not empty: choose a new folder")
    writer = _Writer(folder, seed)
    damages = [
        (damage, format) for damage in bad_input_damage.KINDS for format in FORMATS.values() if damage.suits(format)
    ]
    lines = [(kind, None) for kind in bad_input_lines.KINDS]
    others = [(kind, None) for kind in _OTHERS]
    # Every kind in every format comes before one comes again; which first decides the seed.
    kinds = [*damages, *itertools.chain(*[lines, others] * 2)]
    order = np.random.default_rng([seed, 0]).permutation(len(kinds))
    for index in range(count):
        if index % _BAD_PER_GOOD == 0:
            writer.good(index)
        kind, format = kinds[order[index % len(kinds)]]
        if format is not None:
            writer.damaged(index, kind, format)
        elif isinstance(kind, str):
            writer.other(index, kind)
        else:
            writer.line(index, kind)
    writer.close()
    return writer.items


class _Writer:
    def __init__(self, folder: Path, seed: int):
        self.items: list[Item] = []
        self._folder, self._seed = folder, seed
        self._lines: list[bytes] = []
        self._sparse = 0
        self._bases: dict[str, bytes] = {}
        for number in range(_FOLDERS):
            (folder / "files" / SPLIT / f"s{number:02d}" / "1").mkdir(parents=True)
        (folder / "manifest" / "clips").mkdir(parents=True)
        bad_input_lines.prepare(folder / "manifest" / "clips")

    def good(self, index: int) -> None:
        """One in a folder, and one in the manifest."""
        names = list(FORMATS)
        for place in ("files", "manifest"):
            item, rng = f"{'v' if place == 'files' else 'w'}{index:06d}", self._rng(index, place)
            format = FORMATS[names[rng.integers(len(names))]]
            content = encode(sound(rng), format)
            if place == "files":
                path = self._put(item, format.suffix, content)
                self._add(item, "good", format.name, "written", path)
            else:
                path = f"manifest/clips/{item}{format.suffix}"
                (self._folder / path).write_bytes(content)
                self._add_line({"audio_filepath": path.removeprefix("manifest/"), "id": item})
                self._add(item, "good line", format.name, "written", path, line=len(self._lines))

    def damaged(self, index: int, kind, format: Format) -> None:
        rng = self._rng(index, kind.name)
        if format.name not in self._bases:
            self._bases[format.name] = encode(sound(np.random.default_rng([self._seed, 1])), format)
        content = kind.make(rng, self._bases[format.name], format)
        path = self._put(f"b{index:06d}", format.suffix, content)
        self._add(f"b{index:06d}", kind.name, format.name, kind.expect(format), path)

    def line(self, index: int, kind) -> None:
        item = f"b{index:06d}"
        made = kind.make(self._rng(index, kind.name), item)
        if isinstance(made, bytes):
            self._lines.append(made)
        else:
            self._add_line(made)
        self._add(item, f"line: {kind.name}", "", kind.expect, line=len(self._lines))

    def other(self, index: int, kind: str) -> None:
        item, rng = f"b{index:06d}", self._rng(index, kind)
        path, expect = _OTHERS[kind](self, item, rng)
        self._add(item, kind, "", expect, path)

    def close(self) -> None:
        (self._folder / "manifest" / f"{MANIFEST}.jsonl").write_bytes(b"".join(line + b"\n" for line in self._lines))
        rows = [json.dumps(dataclasses.asdict(item)) + "\n" for item in self.items]
        (self._folder / EXPECTED).write_text("".join(rows), encoding="utf-8")

    def _rng(self, index: int, name: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, 2, index, *name.encode()])

    def _place(self, item: str, suffix: str) -> Path:
        speaker = int(item[1:]) // _BAD_PER_GOOD % _FOLDERS
        return self._folder / "files" / SPLIT / f"s{speaker:02d}" / "1" / (item + suffix)

    def _put(self, item: str, suffix: str, content: bytes) -> str:
        path = self._place(item, suffix)
        path.write_bytes(content)
        return str(path.relative_to(self._folder))

    def _add_line(self, line: dict) -> None:
        self._lines.append(json.dumps(line).encode())

    def _add(self, *fields, line: int = 0) -> None:
        self.items.append(Item(*fields, line=line))

    def link(self, item: str, target: str) -> str:
        path = self._place(item, ".flac")
        path.symlink_to(target)
        return str(path.relative_to(self._folder))

    def bytes_of(self, item: str, rng: np.random.Generator, content: bytes) -> tuple[str, str]:
        return self._put(item, SUFFIXES[rng.integers(len(SUFFIXES))], content), "refused"

    def wrong_suffix(self, item: str, rng: np.random.Generator) -> tuple[str, str]:
        format = list(FORMATS.values())[rng.integers(len(FORMATS))]
        others = [suffix for suffix in SUFFIXES if suffix != format.suffix]
        return self._put(item, others[rng.integers(len(others))], encode(sound(rng), format)), "written"

    def no_permission(self, item: str, rng: np.random.Generator) -> tuple[str, str]:
        path = self._place(item, ".wav")
        path.write_bytes(encode(sound(rng), FORMATS["wav"]))
        path.chmod(0)  # which does not keep the superuser out
        return str(path.relative_to(self._folder)), "written" if os.access(path, os.R_OK) else "refused"

    def no_utf8(self, item: str, rng: np.random.Generator) -> tuple[str, str]:
        path = os.fsencode(self._place(item, "")) + b"-\xff\xfe\xe9.wav"
        Path(os.fsdecode(path)).write_bytes(encode(sound(rng), FORMATS["wav"]))
        return "", "either"

    def odd_name(self, item: str, rng: np.random.Generator) -> tuple[str, str]:
        name = _ODD_NAMES[rng.integers(len(_ODD_NAMES))]
        return self._put(item, f"{name}.wav", encode(sound(rng), FORMATS["wav"])), "either"

    def pipe(self, item: str, rng: np.random.Generator) -> tuple[str, str]:
        path = self._place(item, ".wav")
        os.mkfifo(path)
        return str(path.relative_to(self._folder)), "refused"

    def sparse(self, item: str, rng: np.random.Generator) -> tuple[str, str]:
        path = self._place(item, ".wav")
        with path.open("wb") as file:
            if self._sparse < _SPARSE_FILES:
                self._sparse += 1
                file.truncate(_SPARSE_BYTES)
        return str(path.relative_to(self._folder)), "refused"


# What is no damaged content: (writer, id, random numbers) -> (path, what must become of it).
_OTHERS = {
    "empty": lambda writer, item, rng: writer.bytes_of(item, rng, b""),
    "random bytes": lambda writer, item, rng: writer.bytes_of(item, rng, rng.bytes(rng.integers(1, 5000))),
    "zero bytes": lambda writer, item, rng: writer.bytes_of(item, rng, bytes(rng.integers(1, 5000))),
    "other kinds of file": lambda writer, item, rng: writer.bytes_of(
        item, rng, _one(rng, _STRANGERS) + rng.bytes(2000)
    ),
    "our start, then noise": lambda writer, item, rng: writer.bytes_of(
        item, rng, _one(rng, _STARTS) + rng.bytes(rng.integers(0, 3000))
    ),
    "wrong extension": _Writer.wrong_suffix,
    "no permission": _Writer.no_permission,
    "name is no UTF-8": _Writer.no_utf8,
    "odd name": _Writer.odd_name,
    "dangling link": lambda writer, item, rng: (writer.link(item, "absent.flac"), "refused"),
    "looping link": lambda writer, item, rng: (writer.link(item, f"{item}.flac"), "refused"),
    "link to its folder": lambda writer, item, rng: (writer.link(item, "."), "refused"),
    "pipe": _Writer.pipe,
    "bigger than memory": _Writer.sparse,
}


def _one(rng: np.random.Generator, choices: tuple) -> bytes:
    return choices[rng.integers(len(choices))]
