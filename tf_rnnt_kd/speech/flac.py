"""Is a FLAC file whole? Checked before it is decoded, because a decoder is a bad judge of it.

tensorflow-io's `decode_flac` **never returns** on some damaged files (one flipped bit that makes libFLAC drop a frame
is enough): it waits for samples that STREAMINFO promised. So every frame is checked first: its header by its CRC-8 and
its place in the sequence, its body by its CRC-16 (the FLAC format, RFC 9639, section 9).
"""

import dataclasses

import numpy as np

from tf_rnnt_kd.speech.audio_format import AudioFormat
from tf_rnnt_kd.speech.errors import AudioError

# Of what tensorflow-io knows, and what it can be told that it is 24 bits: each frame states its own depth.
_DECODED_BITS, _HIDDEN_BITS = (8, 16, 24), {12: 2, 20: 5}
_STREAMINFO_BYTES = 34
_FRAME_HEADER_BYTES = 16


@dataclasses.dataclass(frozen=True)
class FlacInfo:
    """What STREAMINFO says. `num_samples` is per channel; 0 where the encoder did not know.

    `position` and `first_frame` are the bytes where STREAMINFO's and the frames' content begins.
    """

    sample_rate: int
    channels: int
    bits: int
    num_samples: int
    position: int
    first_frame: int


@dataclasses.dataclass(frozen=True)
class _Frame:
    header_bytes: int
    block_size: int
    number: int


def probe(content: bytes) -> AudioFormat:
    """The format of a file that starts with `fLaC`.

    Raises:
        AudioError: truncated, damaged, or unsupported_format.
    """
    info = read_streaminfo(content)
    # The code in a frame's fourth byte; 0 there means "as in STREAMINFO".
    frame_code = content[info.first_frame + 3 : info.first_frame + 4]
    hidden = bool(frame_code) and frame_code[0] >> 1 & 7 == _HIDDEN_BITS.get(info.bits)
    if info.bits not in _DECODED_BITS and not hidden:
        raise AudioError("unsupported_format", f"FLAC with {info.bits} bits: convert it to 16 or 24 bits")
    samples = check_frames(content, info)
    return AudioFormat("flac", info.sample_rate, samples, channels=info.channels, bits=info.bits)


def plain(content: bytes, audio: AudioFormat) -> bytes:
    """The same frames behind a STREAMINFO that tensorflow-io takes: 8, 16 or 24 bits, and the length that was found."""
    info = read_streaminfo(content)
    bits = info.bits if info.bits in _DECODED_BITS else 24
    if (bits, audio.num_samples) == (info.bits, info.num_samples):
        return content
    packed = info.sample_rate << 44 | (info.channels - 1) << 41 | (bits - 1) << 36 | (audio.num_samples or 0)
    start = info.position + 10
    return content[:start] + packed.to_bytes(8, "big") + content[start + 8 :]


def read_streaminfo(content: bytes) -> FlacInfo:
    """Reads the metadata of a file that starts with `fLaC`; AudioError("truncated") where it ends within them."""
    info = None
    position, last = 4, False
    while not last:
        if position + 4 > len(content):
            raise AudioError("truncated", f"the file ends within the FLAC metadata, after {len(content)} bytes")
        last, kind = content[position] >= 128, content[position] & 127
        size = int.from_bytes(content[position + 1 : position + 4], "big")
        position += 4
        if kind == 0 and size >= _STREAMINFO_BYTES and position + size <= len(content):
            # 20 bits of sample rate, 3 of channels - 1, 5 of bits - 1, 36 of samples.
            packed = int.from_bytes(content[position + 10 : position + 18], "big")
            info = (packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1, packed & (1 << 36) - 1, position)
        position += size
    if position > len(content):
        raise AudioError("truncated", f"the file ends within the FLAC metadata, after {len(content)} bytes")
    if info is None or info[0] == 0:
        raise AudioError("damaged", "the FLAC metadata hold no valid STREAMINFO")
    return FlacInfo(*info, first_frame=position)


def check_frames(content: bytes, info: FlacInfo) -> int:
    """Walks through all frames; returns the samples per channel that they hold.

    Raises:
        AudioError: "truncated" where frames are missing at the end, "damaged" where one is broken on the way.
    """
    position, samples, number = info.first_frame, 0, 0
    sync = content[position : position + 2]
    if len(sync) < 2:
        raise AudioError("truncated", "the file ends before the first FLAC frame")
    if sync not in (b"\xff\xf8", b"\xff\xf9"):
        raise AudioError("damaged", "no FLAC frame follows the metadata")
    variable = sync == b"\xff\xf9"
    frame = _read_header(content, position)
    if frame is None or frame.number != 0:
        raise AudioError("damaged", "the header of the first FLAC frame is broken")
    while True:
        samples += frame.block_size
        number = samples if variable else number + 1
        if info.num_samples and samples >= info.num_samples:
            # Tags that some tools append (ID3v1) are no part of the last frame.
            end = len(content) - (128 if content[-128:-125] == b"TAG" else 0)
            following = None
        else:
            end, following = _find_frame(content, sync, start=position + frame.header_bytes, number=number)
        if crc16_remainder(content[position:end]):
            reason, state = ("truncated", "cut short or damaged") if following is None else ("damaged", "damaged")
            raise AudioError(reason, f"the FLAC frame that ends at sample {samples} of {info.num_samples} is {state}")
        if following is None:
            break
        position, frame = end, following
    if info.num_samples and samples != info.num_samples:
        reason = "truncated" if samples < info.num_samples else "damaged"
        raise AudioError(reason, f"the FLAC frames hold {samples} samples, STREAMINFO promises {info.num_samples}")
    return samples


def crc16_remainder(frame: bytes) -> int:
    """Remainder of a frame, its trailing CRC included, modulo x^16 + x^15 + x^2 + 1: 0 where the frame is whole."""
    bits = np.unpackbits(np.frombuffer(frame, np.uint8))
    # Each set bit contributes x^(its distance from the end); numpy does the whole frame at once.
    return int(np.bitwise_xor.reduce(bits * np.resize(_POWERS, len(bits))[::-1]))


def _find_frame(content: bytes, sync: bytes, *, start: int, number: int) -> tuple[int, _Frame | None]:
    """Where the frame `number` begins, and its header; (end of file, None) where there is none."""
    position = content.find(sync, start)
    later = False
    while position >= 0:
        frame = _read_header(content, position)
        if frame is not None:
            if frame.number == number:
                return position, frame
            later = later or number < frame.number < number + 4
        position = content.find(sync, position + 1)
    if later:
        raise AudioError("damaged", f"FLAC frame {number} is missing, later ones are there")
    return len(content), None


def _read_header(content: bytes, position: int) -> _Frame | None:
    header = content[position : position + _FRAME_HEADER_BYTES]
    if len(header) < 6:
        return None
    block_code, rate_code = header[2] >> 4, header[2] & 15
    # The frame (or sample) number, coded like UTF-8: leading ones of the first byte count the bytes.
    ones = 8 - (~header[4] & 255).bit_length()
    if ones in (1, 8) or block_code == 0:
        return None
    following = max(ones - 1, 0)
    number = header[4] & (127 if ones == 0 else (1 << (7 - ones)) - 1)
    for byte in header[5 : 5 + following]:
        number = number << 6 | byte & 63
    size = 5 + following
    if 2 <= block_code <= 5:
        block_size = 576 << (block_code - 2)
    elif block_code >= 8:
        block_size = 256 << (block_code - 8)
    elif block_code in (6, 7):
        block_size = int.from_bytes(header[size : size + block_code - 5], "big") + 1
        size += block_code - 5
    else:
        block_size = 192
    size += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if size >= len(header) or _crc8(header[: size + 1]):
        return None
    return _Frame(header_bytes=size + 1, block_size=block_size, number=number)


def _crc8(data: bytes) -> int:
    """Remainder modulo x^8 + x^2 + x + 1."""
    remainder = 0
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x107 if remainder & 128 else 0)) & 0x1FF
    return remainder


def _powers_of_x() -> np.ndarray:
    # x has order 32767 modulo the polynomial of CRC-16: after that many bits the remainders repeat.
    powers = np.empty(32767, np.uint16)
    remainder = 1
    for exponent in range(len(powers)):
        powers[exponent] = remainder
        remainder = (remainder << 1) ^ (0x18005 if remainder & 0x8000 else 0)
    return powers


_POWERS = _powers_of_x()
