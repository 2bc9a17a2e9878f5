"""What kind of audio a file holds, and whether it is whole: FLAC, WAV, OGG Vorbis.

tensorflow-io's decoders do not tell the sample rate, read 32-bit integer WAV as if it were float, return truncated OGG
as if it were short, and hang on some damaged FLAC. All four are settled here, from the bytes, before they decode.
"""

import dataclasses
import struct
import zlib

from tf_rnnt_kd.speech import flac
from tf_rnnt_kd.speech.errors import AudioError

_WAV_PCM, _WAV_FLOAT, _WAV_EXTENSIBLE = 1, 3, 0xFFFE
_OTHER_KINDS = {
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"\xff\xf3": "MP3",
    b"\xff\xf1": "AAC",
    b"FORM": "AIFF",
    b"RF64": "RF64",
    b"RIFX": "big-endian WAV",
    b"caff": "CAF",
    b".snd": "AU",
    b"NIST": "SPHERE",
}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclasses.dataclass(frozen=True)
class AudioFormat:
    """`kind` is "flac", "wav" or "ogg"; `num_samples` is per channel, None where only decoding tells (OGG).

    `data_start` is the byte where the samples of a WAV file begin, 0 for the others.
    """

    kind: str
    sample_rate: int
    channels: int
    num_samples: int | None
    bits: int
    is_float: bool
    data_start: int = 0


def probe(content: bytes) -> AudioFormat:
    """The format of a whole file.

    Raises:
        AudioError: empty_file, not_audio, unsupported_format, truncated or damaged.
    """
    if not content:
        raise AudioError("empty_file", "the file has no bytes")
    if content.startswith(b"fLaC"):
        return _probe_flac(content)
    if content.startswith(b"RIFF") and content[8:12] in (b"WAVE", b""):
        return _probe_wav(content)
    if content.startswith(b"OggS"):
        return _probe_ogg(content)
    for magic, name in _OTHER_KINDS.items():
        if content.startswith(magic):
            raise AudioError("unsupported_format", f"{name} is not decoded here: convert it to FLAC, WAV or OGG Vorbis")
    raise AudioError("not_audio", f"neither FLAC, WAV nor OGG: it starts with {content[:8]!r}")


def _probe_flac(content: bytes) -> AudioFormat:
    info = flac.read_streaminfo(content)
    if info.bits not in (8, 16, 24):
        raise AudioError("unsupported_format", f"FLAC with {info.bits} bits: convert it to 16 or 24 bits")
    samples = flac.check_frames(content, info)
    if not info.num_samples:
        raise AudioError(
            "unsupported_format", f"FLAC that does not state its length ({samples} samples): re-encode it from a file"
        )
    return AudioFormat("flac", info.sample_rate, info.channels, samples, info.bits, is_float=False)


def _probe_wav(content: bytes) -> AudioFormat:
    position, form = 12, None
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        position += 8
        if name == b"data":
            return _wav_format(form, size=size, available=len(content) - position, data_start=position)
        if name == b"fmt " and 16 <= size <= len(content) - position:
            tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content, position)
            if tag == _WAV_EXTENSIBLE and size >= 26:
                (tag,) = struct.unpack_from("<H", content, position + 24)
            form = (tag, channels, rate, bits)
        position += size + size % 2
    raise AudioError("truncated", f"the WAV file ends before its samples, after {len(content)} bytes")


def _wav_format(form: tuple[int, int, int, int] | None, *, size: int, available: int, data_start: int) -> AudioFormat:
    if form is None:
        raise AudioError("damaged", "the WAV file has no valid fmt chunk before its samples")
    tag, channels, rate, bits = form
    if (tag, bits) not in ((_WAV_PCM, 8), (_WAV_PCM, 16), (_WAV_PCM, 24), (_WAV_PCM, 32), (_WAV_FLOAT, 32)):
        raise AudioError("unsupported_format", f"WAV of format {tag} with {bits} bits: convert it to 16-bit PCM")
    if not channels or not rate:
        raise AudioError("damaged", f"the WAV header says {channels} channels at {rate} Hz")
    if size == 0xFFFFFFFF:
        raise AudioError("unsupported_format", "WAV that does not state its length, from a pipe: write it to a file")
    if size > available:
        raise AudioError("truncated", f"the WAV header promises {size} bytes of samples, {available} are there")
    num_samples = size // (channels * bits // 8)
    return AudioFormat("wav", rate, channels, num_samples, bits, is_float=tag == _WAV_FLOAT, data_start=data_start)


def _probe_ogg(content: bytes) -> AudioFormat:
    position = 0
    ended: dict[int, bool] = {}
    sequences: dict[int, int] = {}
    identification = b""
    while position < len(content):
        segments_at = position + 27
        if segments_at > len(content):
            raise AudioError("truncated", "the OGG file ends within the header of a page")
        magic, _, flags, _, serial, sequence, _, segments = struct.unpack_from("<4sBBqIIIB", content, position)
        if magic != b"OggS":
            raise AudioError("damaged", f"no OGG page where one should be, at byte {position}")
        payload = segments_at + segments
        end = payload + sum(content[segments_at:payload])
        if end > len(content):
            raise AudioError("truncated", f"the OGG file ends within a page, after {len(content)} bytes")
        if not _page_is_whole(content[position:end]):
            raise AudioError("damaged", f"the checksum of the OGG page at byte {position} is wrong")
        if sequence != sequences.get(serial, -1) + 1:
            raise AudioError("damaged", f"pages are missing before the OGG page at byte {position}")
        identification = identification or content[payload:end]
        sequences[serial] = sequence
        ended[serial] = bool(flags & 4)
        position = end
    if not identification.startswith(b"\x01vorbis") or len(identification) < 16:
        name = "Opus" if identification.startswith(b"OpusHead") else f"{identification[:8]!r}"
        raise AudioError("unsupported_format", f"OGG with {name}: convert it to FLAC, WAV or OGG Vorbis")
    if not all(ended.values()):
        raise AudioError("truncated", "the OGG stream has no end-of-stream page")
    channels, rate = struct.unpack_from("<BI", identification, 11)
    if not channels or not rate:
        raise AudioError("damaged", f"the Vorbis header says {channels} channels at {rate} Hz")
    return AudioFormat("ogg", rate, channels, None, bits=32, is_float=True)


def _page_is_whole(page: bytes) -> bool:
    """OGG's CRC-32 is zlib's with the bits of each byte reversed and no inversions: so C code can compute it."""
    stored = int.from_bytes(page[22:26], "little")
    zeroed = page[:22] + bytes(4) + page[26:]
    reflected = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2) == stored
