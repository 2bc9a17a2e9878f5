"""Files whose header says how many bytes of samples follow: WAV and its relatives, AIFF, CAF, AU, SPHERE.

Decoders take what is there; whether that is what was promised is checked here. Plain WAV goes to tensorflow-io,
everything else to libsndfile.
"""

import dataclasses
import struct
from collections.abc import Iterator

from tf_rnnt_kd.speech.audio_format import AudioFormat
from tf_rnnt_kd.speech.errors import AudioError

_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# Microsoft and IMA ADPCM, GSM: so many samples in a block that only the decoder counts them.
_IN_BLOCKS = (2, 0x11, 0x31)
# What tensorflow-io reads as it is meant (audio.py helps it with 32-bit integers).
_PLAIN = ((_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32))
_BITS = {_PCM: range(8, 33), _FLOAT: (32, 64), _A_LAW: (8,), _MU_LAW: (8,)}
_UNSTATED = 0xFFFFFFFF
_MAX_CHANNELS = 255
_FROM_A_PIPE = "does not state its length, as if it came from a pipe: write it to a file"


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """How a file is divided: `header` is a chunk's name and size, `samples` the name of the one with the samples."""

    name: str
    first: int
    header: struct.Struct
    align: int
    samples: bytes
    counts_header: bool = False


_RIFF = _Chunks("WAV", 12, struct.Struct("<4sI"), 2, b"data")
_RF64 = dataclasses.replace(_RIFF, name="RF64")
_RIFX = dataclasses.replace(_RIFF, name="big-endian WAV", header=struct.Struct(">4sI"))
_AIFF = dataclasses.replace(_RIFX, name="AIFF", samples=b"SSND")
_CAF = _Chunks("CAF", 8, struct.Struct(">4sq"), 1, b"data")
_W64 = _Chunks("W64", 40, struct.Struct("<4s12xq"), 8, b"data", counts_header=True)
# Start of the file -> (its layout, what follows 4 bytes later, or nothing).
_LAYOUTS = {
    b"RIFF": (_RIFF, b"WAVE"),
    b"RF64": (_RF64, b"WAVE"),
    b"RIFX": (_RIFX, b"WAVE"),
    b"FORM": (_AIFF, b"AIF"),
    b"caff": (_CAF, b""),
    b"riff\x2e\x91\xcf\x11": (_W64, b""),
}


def is_known(content: bytes) -> bool:
    """Whether it starts as one of these files does."""
    return _layout(content) is not None or content.startswith((b".snd", b"NIST_1A\n"))


def probe(content: bytes) -> AudioFormat:
    """The format of a file for which `is_known` holds.

    Raises:
        AudioError: truncated, damaged, or unsupported_format.
    """
    if content.startswith(b".snd"):
        return _probe_au(content)
    if content.startswith(b"NIST"):
        return _probe_sphere(content)
    layout = _layout(content)
    if layout is None:
        raise AudioError("unsupported_format", "the file starts as none of the known ones does")
    before: dict[bytes, bytes] = {}
    for name, start, size in _walk(content, layout):
        if name == layout.samples:
            if layout is _RF64 and size == _UNSTATED and len(before.get(b"ds64", b"")) >= 16:
                (size,) = struct.unpack_from("<Q", before[b"ds64"], 8)
            if size in (_UNSTATED, -1):
                raise AudioError("unsupported_format", f"{layout.name} that {_FROM_A_PIPE}")
            _require(size, available=len(content) - start, name=layout.name)
            return _format(layout, before, start=start, size=size)
        before[name] = content[start : start + size] if start + size <= len(content) else b""
    raise AudioError("truncated", f"the {layout.name} file ends before its samples, after {len(content)} bytes")


def _layout(content: bytes) -> _Chunks | None:
    for magic, (layout, form) in _LAYOUTS.items():
        # A file that was cut within its first 12 bytes is known by what is there.
        if content.startswith(magic) and (not form or form.startswith(content[8 : 8 + len(form)])):
            return layout
    return None


def _walk(content: bytes, layout: _Chunks) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte, bytes) of each chunk whose header is there."""
    position = layout.first
    while position + layout.header.size <= len(content):
        name, size = layout.header.unpack_from(content, position)
        position += layout.header.size
        size -= layout.header.size if layout.counts_header else 0
        yield name, position, size
        if size < 0:
            raise AudioError("damaged", f"a chunk of the {layout.name} file says that it has {size} bytes")
        position += size + -size % layout.align


def _require(size: int, *, available: int, name: str) -> None:
    if size < 0:
        raise AudioError("damaged", f"the {name} header promises {size} bytes of samples")
    if size > available:
        raise AudioError("truncated", f"the {name} header promises {size} bytes of samples, {available} are there")


def _format(layout: _Chunks, before: dict[bytes, bytes], *, start: int, size: int) -> AudioFormat:
    if layout in (_RIFF, _RF64, _RIFX, _W64):
        return _wav_format(layout, before.get(b"fmt ", b""), size=size, data_start=start)
    if layout is _AIFF and len(before.get(b"COMM", b"")) >= 18:
        common = before[b"COMM"]
        (frames,) = struct.unpack_from(">I", common, 2)
        # AIFC with ADPCM counts packets there.
        return AudioFormat("sndfile", num_samples=None if common[18:22] in (b"ima4", b"GSM ") else frames)
    return AudioFormat("sndfile")


def _wav_format(layout: _Chunks, form: bytes, *, size: int, data_start: int) -> AudioFormat:
    endian = ">" if layout is _RIFX else "<"
    if len(form) < 16:
        raise AudioError("damaged", f"the {layout.name} file has no valid fmt chunk before its samples")
    tag, channels, rate, _, block, bits = struct.unpack_from(endian + "HHIIHH", form)
    if tag == _EXTENSIBLE and len(form) >= 26:
        (tag,) = struct.unpack_from(endian + "H", form, 24)
    if not 0 < channels <= _MAX_CHANNELS or not rate:
        raise AudioError("damaged", f"the {layout.name} header says {channels} channels at {rate} Hz")
    if tag in _IN_BLOCKS:
        return AudioFormat("sndfile")
    if bits not in _BITS.get(tag, ()):
        raise AudioError(
            "unsupported_format", f"{layout.name} of format {tag} with {bits} bits: convert it to 16-bit PCM"
        )
    num_samples = size // (channels * -(-bits // 8))
    if layout is not _RIFF or (tag, bits) not in _PLAIN:
        return AudioFormat("sndfile", num_samples=num_samples)
    return AudioFormat(
        "wav", rate, num_samples, channels=channels, bits=bits, is_float=tag == _FLOAT, data_start=data_start
    )


def _probe_au(content: bytes) -> AudioFormat:
    if len(content) < 24:
        raise AudioError("truncated", f"the file ends within the AU header, after {len(content)} bytes")
    _, start, size = struct.unpack_from(">4sII", content)
    if size == _UNSTATED:
        raise AudioError("unsupported_format", f"AU that {_FROM_A_PIPE}")
    _require(size, available=len(content) - start, name="AU")
    return AudioFormat("sndfile")


def _probe_sphere(content: bytes) -> AudioFormat:
    """NIST's SPHERE: a text header in lines of `name -type value`, its length in the second line."""
    try:
        start = int(content[8:16])
    except ValueError as error:
        reason = "truncated" if len(content) < 16 else "damaged"
        raise AudioError(reason, f"the SPHERE header does not say how long it is: {content[8:16]!r}") from error
    if start > len(content):
        raise AudioError("truncated", f"the file ends within the SPHERE header, after {len(content)} bytes")
    fields = {line[0]: line[2] for line in (row.split(None, 2) for row in content[16:start].split(b"\n")) if line[2:]}
    if b"shorten" in fields.get(b"sample_coding", b""):
        raise AudioError("unsupported_format", "SPHERE compressed with shorten: convert it with sph2pipe")
    try:
        samples = int(fields[b"sample_count"])
        sample_bytes = int(fields[b"channel_count"]) * int(fields[b"sample_n_bytes"])
    except (KeyError, ValueError) as error:
        raise AudioError("damaged", f"the SPHERE header does not say how many samples there are: {error}") from error
    _require(samples * sample_bytes, available=len(content) - start, name="SPHERE")
    return AudioFormat("sndfile", num_samples=samples)
