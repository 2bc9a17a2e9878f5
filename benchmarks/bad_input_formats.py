"""Sounds, and the formats that the bad inputs are made of; encoded by soundfile."""

import dataclasses
import io

import numpy as np
import soundfile

RATE = 16000
SECONDS = (0.3, 1.0)


@dataclasses.dataclass(frozen=True)
class Format:
    """`sync` is what a frame or page begins with, b"" in formats without; `is_sized`: a wrong length shows."""

    name: str
    suffix: str
    format: str
    subtype: str
    endian: str | None = None
    sync: bytes = b""
    holds_floats: bool = False
    is_sized: bool = True


FORMATS = {
    format.name: format
    for format in (
        Format("flac", ".flac", "FLAC", "PCM_16", sync=b"\xff\xf8"),
        Format("flac 24", ".flac", "FLAC", "PCM_24", sync=b"\xff\xf8"),
        Format("wav", ".wav", "WAV", "PCM_16"),
        Format("wav 24", ".wav", "WAV", "PCM_24"),
        Format("wav float", ".wav", "WAV", "FLOAT", holds_floats=True),
        Format("wav u-law", ".wav", "WAV", "ULAW"),
        Format("wav big-endian", ".wav", "WAV", "PCM_16", endian="BIG"),
        Format("vorbis", ".ogg", "OGG", "VORBIS", sync=b"OggS"),
        Format("opus", ".opus", "OGG", "OPUS", sync=b"OggS", is_sized=False),
        Format("mp3", ".mp3", "MP3", "MPEG_LAYER_III", sync=b"\xff\xf3"),
        Format("aiff", ".aiff", "AIFF", "PCM_16"),
        Format("aiff float", ".aif", "AIFF", "FLOAT", holds_floats=True),
        Format("rf64", ".wav", "RF64", "PCM_16"),
        Format("w64", ".w64", "W64", "PCM_16"),
        Format("caf", ".caf", "CAF", "PCM_16"),
        Format("au", ".au", "AU", "PCM_16"),
        Format("sphere", ".sph", "NIST", "PCM_16"),
    )
}
SUFFIXES = (".flac", ".wav", ".ogg", ".mp3", ".aiff", ".sph", ".m4a", ".opus")


def sound(rng: np.random.Generator) -> np.ndarray:
    """Float32 [S]: tones in noise, 0.3 to 1 s, no two the same. S is even: so no byte is there only to fill up."""
    time = np.arange(2 * int(rng.uniform(*SECONDS) * RATE / 2)) / RATE
    tones = sum(np.sin(2 * np.pi * hertz * time) for hertz in rng.uniform(100, 3000, 3))
    return (0.08 * tones + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def encode(samples: np.ndarray, format: Format) -> bytes:
    """Float32 [S] at 16 kHz -> a file's content."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format=format.format, subtype=format.subtype, endian=format.endian)
    return _without_clock(buffer.getvalue(), format)


def with_ogg_checksum(page: bytes) -> bytes:
    """An OGG page with the right checksum."""
    page, checksum = page[:22] + bytes(4) + page[26:], 0
    for byte in page:
        checksum = (checksum << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[checksum >> 24 ^ byte]
    return page[:22] + checksum.to_bytes(4, "little") + page[26:]


def _without_clock(content: bytes, format: Format) -> bytes:
    """libsndfile writes the time into PEAK chunks, and makes OGG's serial numbers of it."""
    peak = content.find(b"PEAK", 0, 200)
    if format.holds_floats and peak >= 0:
        return content[: peak + 12] + bytes(4) + content[peak + 16 :]
    if format.format != "OGG":
        return content
    pages = content.split(b"OggS")[1:]
    return b"".join(with_ogg_checksum(b"OggS" + page[:10] + b"ours" + page[14:]) for page in pages)


def _remainder(byte: int) -> int:
    remainder = byte << 24
    for _ in range(8):
        remainder = remainder << 1 ^ (0x104C11DB7 if remainder >> 31 else 0)
    return remainder


_OGG_TABLE = tuple(_remainder(byte) for byte in range(256))
