"""Is an OGG file whole? Every page has a checksum and a number, and the last one says that it is the last."""

import struct
import zlib

from tf_rnnt_kd.speech.audio_format import AudioFormat
from tf_rnnt_kd.speech.errors import AudioError

# Start of a stream's first packet -> its codec; what is not here is named by its first bytes.
_CODECS = {b"\x01vorbis": "vorbis", b"OpusHead": "sndfile", b"\x7fFLAC": "sndfile"}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_NOTHING_ENDS_HERE = 0xFFFFFFFFFFFFFFFF


def probe(content: bytes) -> AudioFormat:
    """The format of a file that starts with `OggS`.

    Raises:
        AudioError: truncated, damaged, or unsupported_format.
    """
    position = 0
    ended: dict[int, bool] = {}
    sequences: dict[int, int] = {}
    identification, granule = b"", 0
    while position < len(content):
        segments_at = position + 27
        if segments_at > len(content):
            raise AudioError("truncated", "the OGG file ends within the header of a page")
        magic, _, flags, ends, serial, sequence, _, segments = struct.unpack_from("<4sBBQIIIB", content, position)
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
        granule = granule if ends == _NOTHING_ENDS_HERE else max(granule, ends)
        sequences[serial] = sequence
        ended[serial] = bool(flags & 4)
        position = end
    decoder = next((name for start, name in _CODECS.items() if identification.startswith(start)), None)
    if decoder is None or len(identification) < 16:
        raise AudioError("unsupported_format", f"OGG with {identification[:8]!r}: convert it to FLAC, WAV, OGG Vorbis")
    if not all(ended.values()):
        raise AudioError("truncated", "the OGG stream has no end-of-stream page")
    if decoder == "sndfile":
        return AudioFormat(decoder)
    channels, rate = struct.unpack_from("<BI", identification, 11)
    if not channels or not rate:
        raise AudioError("damaged", f"the Vorbis header says {channels} channels at {rate} Hz")
    # Where a stream was cut out of a longer one its positions do not start at 0: no promise.
    return AudioFormat(decoder, rate, granule, slack=None, channels=channels)


def _page_is_whole(page: bytes) -> bool:
    """OGG's CRC-32 is zlib's with the bits of each byte reversed and no inversions: so C code can compute it."""
    stored = int.from_bytes(page[22:26], "little")
    zeroed = page[:22] + bytes(4) + page[26:]
    reflected = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2) == stored
