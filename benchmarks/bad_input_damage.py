"""What is done to a good file's content, and what must become of it."""

import dataclasses
import struct
from collections.abc import Callable

import numpy as np

from benchmarks.bad_input_formats import Format, encode, with_ogg_checksum

_HUGE = 1 << 31
_EVERY = lambda format: True  # noqa: E731
_FRAMED = lambda format: bool(format.sync)  # noqa: E731
_FLOATS = lambda format: format.holds_floats  # noqa: E731


@dataclasses.dataclass(frozen=True)
class Damage:
    """`make(rng, content, format)` gives the damaged content; `expect(format)` is "refused" or "either"."""

    name: str
    make: Callable[[np.random.Generator, bytes, Format], bytes]
    outcome: str = "refused"
    suits: Callable[[Format], bool] = _EVERY

    def expect(self, format: Format) -> str:
        return self.outcome


def _cut_in_header(rng, content, format):
    return content[: rng.integers(1, 40)]


def _cut_in_frame_header(rng, content, format):
    return content[: _frame(rng, content, format) + rng.integers(1, 5)]


def _cut_after_frames(rng, content, format):
    return content[: _frame(rng, content, format)]


def _cut_anywhere(rng, content, format):
    return content[: rng.integers(40, len(content) - 1)]


def _cut_last_byte(rng, content, format):
    return content[: -int(rng.integers(1, 3))]


def _frame(rng, content, format):
    """Where one of the frames behind the first begins."""
    starts, position = [], content.find(format.sync) + 1
    while (position := content.find(format.sync, position) + 1) > 0:
        starts.append(position - 1)
    return starts[rng.integers(len(starts))]


def _wrong_magic(rng, content, format):
    return bytes(byte ^ int(flip) for byte, flip in zip(content, rng.integers(1, 256, 4), strict=False)) + content[4:]


def _wrong_header(rng, content, format):
    damaged = bytearray(content)
    for position in rng.integers(4, 60, rng.integers(1, 5)):
        damaged[position] = rng.integers(256)
    return bytes(damaged)


def _flipped_bits(rng, content, format):
    damaged = bytearray(content)
    for position in rng.integers(0, len(content), rng.integers(1, 9)):
        damaged[position] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _hole(rng, content, format):
    start = rng.integers(len(content) // 2, len(content) - 210)
    return content[:start] + content[start + rng.integers(1, 200) :]


def _halves_swapped(rng, content, format):
    quarter = len(content) // 4
    return content[: 2 * quarter] + content[3 * quarter :] + content[2 * quarter : 3 * quarter]


def _noise_behind(rng, content, format):
    return content + rng.bytes(rng.integers(1, 500))


def _twice(rng, content, format):
    return content + content


def _no_samples(rng, content, format):
    return encode(np.zeros(0, np.float32), format)


def _silence(rng, content, format):
    return encode(np.zeros(int(rng.integers(5000, 12000)), np.float32), format)


def _too_short(rng, content, format):
    return encode((0.1 * rng.standard_normal(int(rng.integers(1, 1000)))).astype(np.float32), format)


def _with(value):
    def make(rng, content, format):
        samples = (0.1 * rng.standard_normal(8000)).astype(np.float32)
        samples[rng.integers(8000)] = value
        return encode(samples, format)

    return make


def _huge_length(rng, content, format):
    """The file says that it holds 2^31 samples, or bytes."""
    kind = format.format
    if kind == "FLAC":  # the last 36 of 64 bits
        (packed,) = struct.unpack_from(">Q", content, 18)
        return _packed(content, 18, ">Q", packed >> 36 << 36 | _HUGE)
    if kind == "OGG":
        last = content.rindex(b"OggS")
        return content[:last] + with_ogg_checksum(_packed(content[last:], 6, "<Q", _HUGE))
    if kind == "NIST":
        start = content.index(b"sample_count -i ")
        end = content.index(b"\n", start)
        header = content[:start] + b"sample_count -i %d" % _HUGE + content[end:1024]
        return header[:1024] + content[1024:]
    name, offset, layout = {
        "WAV": (b"data", 4, ">I" if format.endian else "<I"),
        "MP3": (b"Xing", 8, ">I"),
        "AIFF": (b"SSND", 4, ">I"),
        "RF64": (b"ds64", 16, "<Q"),
        "W64": (b"data", 16, "<Q"),
        "CAF": (b"data", 4, ">Q"),
        "AU": (b".snd", 8, ">I"),
    }[kind]
    return _packed(content, content.index(name) + offset, layout, _HUGE)


def _packed(content, position, layout, value):
    return content[:position] + struct.pack(layout, value) + content[position + struct.calcsize(layout) :]


class _Huge(Damage):
    def expect(self, format):
        # Opus states no length; the position of its last page says where it is to be cut.
        return "refused" if format.is_sized else "either"


KINDS = (
    Damage("cut in the header", _cut_in_header),
    Damage("cut in a frame's header", _cut_in_frame_header, suits=_FRAMED),
    Damage("cut after some frames", _cut_after_frames, suits=_FRAMED),
    Damage("cut anywhere", _cut_anywhere),
    Damage("last byte missing", _cut_last_byte),
    Damage("wrong magic", _wrong_magic),
    Damage("wrong header", _wrong_header, "either"),
    Damage("flipped bits", _flipped_bits, "either"),
    Damage("hole", _hole),
    Damage("parts swapped", _halves_swapped, "either"),
    Damage("noise behind", _noise_behind, "either"),
    Damage("twice", _twice, "either"),
    Damage("no samples", _no_samples),
    Damage("silence", _silence),
    Damage("too short", _too_short),
    _Huge("huge length", _huge_length),
    Damage("NaN", _with(np.nan), suits=_FLOATS),
    Damage("infinity", _with(-np.inf), suits=_FLOATS),
    Damage("far too loud", _with(1e5), suits=_FLOATS),
)
