"""Is an MP3 file whole? It has no total length and hardly a checksum, but every frame says where the next one begins.

So the frames are walked from the first to the last byte (ISO/IEC 11172-3, 2.4.1 and 2.4.2; 13818-3 for the half
rates): one that is cut, or missing, or follows at the wrong place, shows. Where the encoder left the number of frames
in a Xing, Info or VBRI header, a file that was cut between two frames shows as well; without it that cannot be seen.
"""

import dataclasses

from tf_rnnt_kd.speech.audio_format import AudioFormat
from tf_rnnt_kd.speech.errors import AudioError

# Thousands of bits per second of layer III, for MPEG-1 and for the half and quarter rates.
_BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MPEG_1, _LAYER_III, _MONO = 3, 1, 3
# Tags that may stand behind the last frame.
_TRAILERS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")
# Encoders fill the last frame up, decoders start late: so many frames in all.
_SLACK_FRAMES = 4


@dataclasses.dataclass(frozen=True)
class _Frame:
    """`stream` must be the same in all frames of a file; `size` is in bytes, with the header."""

    stream: tuple[int, int, bool]
    size: int
    has_checksum: bool

    @property
    def rate(self) -> int:
        return self.stream[1]

    @property
    def samples(self) -> int:
        return 1152 if self.stream[0] == _MPEG_1 else 576


def is_known(content: bytes) -> bool:
    """Whether it starts as an MP3 file does: with an ID3 tag, or a frame of layer III."""
    return content.startswith(b"ID3") or (len(content) > 1 and content[0] == 255 and content[1] & 0xE6 == 0xE2)


def probe(content: bytes) -> AudioFormat:
    """The format of a file for which `is_known` holds.

    Raises:
        AudioError: truncated, damaged, or unsupported_format.
    """
    first = position = _after_tags(content)
    if position >= len(content):
        raise AudioError("truncated", f"the file ends within its ID3 tag, after {len(content)} bytes")
    frame = start = _read_header(content, position)
    if start is None:
        raise AudioError(
            "damaged" if len(content) - position >= 4 else "truncated", f"no MP3 frame at byte {position}"
        )
    stated = _stated_length(content, position, start)
    frames = 0
    while frame is not None and position + frame.size <= len(content):
        if frame.stream != start.stream:
            raise AudioError("damaged", f"the MP3 frame at byte {position} is of another rate or channels")
        frames += 1
        position += frame.size
        frame = _read_header(content, position)
    rest = content[position:]
    if frame is not None or (0 < len(rest) < 4 and rest.strip(b"\0")):
        raise AudioError("truncated", f"the MP3 file ends within a frame, after {len(content)} bytes")
    if rest.strip(b"\0") and not rest.startswith(_TRAILERS):
        raise AudioError("damaged", f"no MP3 frame where one should be, at byte {position}")
    if stated:
        expected, size = stated
        frames -= 1  # the one that states it
        # Some encoders count that one too: then the number of bytes is right.
        if frames != expected and (frames + 1 != expected or size != position - first):
            reason = "truncated" if frames < expected else "damaged"
            raise AudioError(reason, f"the MP3 file has {frames} frames, it promises {expected}")
    samples = frames * start.samples
    return AudioFormat("mp3", start.rate, samples, slack=_SLACK_FRAMES * start.samples)


def _after_tags(content: bytes) -> int:
    position = 0
    while content.startswith(b"ID3", position) and len(content) >= position + 10:
        # 28 bits, 7 in each byte; a flag says that a footer of 10 bytes follows.
        size = sum((content[position + 6 + index] & 127) << (21 - 7 * index) for index in range(4))
        position += 10 + size + (10 if content[position + 5] & 16 else 0)
    return position if not content.startswith(b"ID3", position) else len(content)


def _read_header(content: bytes, position: int) -> _Frame | None:
    header = int.from_bytes(content[position : position + 4], "big")
    version, layer = header >> 19 & 3, header >> 17 & 3
    bitrate, rate = header >> 12 & 15, header >> 10 & 3
    if position + 4 > len(content) or header >> 21 != 0x7FF or layer != _LAYER_III or version not in _RATES:
        return None
    if bitrate in (0, 15) or rate == 3:  # 0 is "free": the frame does not say how long it is
        return None
    is_first = version == _MPEG_1
    bits_per_second = 1000 * _BITRATES[not is_first][bitrate]
    hertz = _RATES[version][rate]
    size = (144 if is_first else 72) * bits_per_second // hertz + (header >> 9 & 1)
    return _Frame((version, hertz, header >> 6 & 3 == _MONO), size, not header >> 16 & 1)


def _stated_length(content: bytes, position: int, frame: _Frame) -> tuple[int, int] | None:
    """(frames, bytes) as the first frame states them, None where it does not. It holds no sound itself then."""
    version, _, mono = frame.stream
    side_information = (17 if mono else 32) if version == _MPEG_1 else (9 if mono else 17)
    xing = position + 4 + side_information + (2 if frame.has_checksum else 0)
    vbri = position + 36

    def number(at: int) -> int:
        return int.from_bytes(content[at : at + 4], "big")

    if content[xing : xing + 4] in (b"Xing", b"Info"):
        flags = number(xing + 4)
        frames = number(xing + 8) if flags & 1 else 0
        size = number(xing + (12 if flags & 1 else 8)) if flags & 2 else 0
    elif content[vbri : vbri + 4] == b"VBRI":
        frames, size = number(vbri + 14), number(vbri + 10)
    else:
        return None
    return (frames, size) if frames else None
