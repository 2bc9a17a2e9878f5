"""Lines of a JSONL manifest that name what they should not, or are no lines at all."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.bad_input_formats import FORMATS, encode, sound

_CLIP = "clips/clip.flac"


@dataclasses.dataclass(frozen=True)
class Line:
    """`make(rng, id)` gives the line, as bytes where it is no JSON object."""

    name: str
    make: Callable[[np.random.Generator, str], dict | bytes]
    expect: str = "refused"


def prepare(clips: Path) -> None:
    """What the lines name, in the folder `clips`."""
    (clips / "clip.flac").write_bytes(encode(sound(np.random.default_rng(0)), FORMATS["flac"]))
    os.mkfifo(clips / "pipe.wav")
    (clips / "loop.wav").symlink_to("loop.wav")
    (clips / "dangling.wav").symlink_to("absent.wav")
    (clips / "folder.wav").mkdir()


def _naming(*paths: object) -> Callable[[np.random.Generator, str], dict]:
    return lambda rng, item: {"audio_filepath": paths[rng.integers(len(paths))], "id": item}


def _part(*fields: dict) -> Callable[[np.random.Generator, str], dict]:
    return lambda rng, item: {"audio_filepath": _CLIP, "id": item, **fields[rng.integers(len(fields))]}


def _raw(*lines: bytes) -> Callable[[np.random.Generator, str], bytes]:
    return lambda rng, item: lines[rng.integers(len(lines))]


KINDS = (
    Line("absent", _naming("clips/none.wav", "none/none.wav", "~/a.wav", "$HOME/a.wav", "clips\\clip.flac", " ")),
    Line("climbs out", _naming("../" * 20 + "etc/passwd", "clips/../../../../../../../../etc/hostname")),
    Line(
        "by another name",
        _naming("clips/../clips/clip.flac", "../manifest/clips/clip.flac", "clips//./clip.flac", "clips/clip.flac/"),
        "either",
    ),
    Line("absolute", _naming("/etc/passwd", "/nonexistent.wav", "//etc//passwd", "file:///etc/passwd")),
    Line("device", _naming("/dev/zero", "/dev/random", "/dev/null", "file:///dev/zero")),
    Line("endless file", _naming("/proc/self/mem", "/proc/kmsg", "/sys/kernel/debug")),
    Line("folder", _naming("clips", ".", "/", "clips/folder.wav")),
    Line("pipe", _naming("clips/pipe.wav")),
    Line("link", _naming("clips/loop.wav", "clips/dangling.wav")),
    Line("NUL", _naming("clips/clip.flac\0.wav", "\0", "clips\0/clip.flac")),
    Line("very long", _naming("x" * 5000 + ".wav", "y" * (1 << 20), "a/" * 3000 + "a.wav", "../" * 5000)),
    Line("lone surrogate", _naming("clips/\ud800.wav", "\udcff\udcfe.flac")),
    Line("other scheme", _naming("nosuch://bucket/a.wav", "://", "nosuch://\0")),
    Line("empty name", _naming("")),
    Line("no string", _naming(7, None, ["clips/clip.flac"], {"path": _CLIP}, True, 1e400)),
    Line("behind the end", _part({"offset": 100.0, "duration": 1.0}, {"offset": 0.0, "duration": 50.0})),
    Line("nothing of it", _part({"offset": 0.0, "duration": 0.0}, {"offset": 0.1, "duration": 1e-9})),
    Line(
        "no times",
        _part(
            {"offset": -1.0, "duration": 1.0},
            {"offset": 0.0, "duration": float("nan")},
            {"offset": float("inf"), "duration": 1.0},
            {"offset": "0", "duration": 1.0},
            {"offset": 0.1},
            {"offset": True, "duration": 1.0},
            {"offset": 1e308, "duration": 1e308},
            {"offset": 10**400, "duration": 1.0},
        ),
    ),
    Line("no JSON", _raw(b'{"audio_filepath": "', b"audio.wav", b"{", b"{'audio_filepath': 'a.wav'}", b"\0\0\0")),
    Line("no object", _raw(b"[]", b"7", b"null", b'"clips/clip.flac"', b"NaN")),
    Line("no UTF-8", _raw(b'{"audio_filepath": "\xff\xfe.wav"}', b"\xff\xfe{\0}\0", b"\x80" * 50)),
    Line("deeply nested", _raw(b"[" * 100000, b'{"audio_filepath":' * 20000)),
    Line("a long line", _raw(b"z" * (1 << 20), b"[" + b"0, " * (1 << 18) + b"0]")),
    Line("no audio_filepath", _raw(b"{}", b'{"text": "a"}', b'{"AUDIO_FILEPATH": "clips/clip.flac"}')),
)
