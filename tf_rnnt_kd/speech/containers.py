"""What kind of audio a file holds, and whether it is whole.

Decoders are bad judges of both. tensorflow-io does not tell the sample rate, reads 32-bit integer WAV as if it were
float, returns truncated OGG as if it were short, and hangs on some damaged FLAC; libsndfile returns what is left of a
truncated AIFF, RF64, W64, AU, CAF, SPHERE or A-law file without a word. All is settled here, from the bytes, before
anything decodes: frame by frame for FLAC (`flac`) and MP3 (`mp3`), page by page for OGG (`ogg`), by the sizes that the
header promises for the others (`sized`).
"""

from tf_rnnt_kd.speech import flac, mp3, ogg, sized
from tf_rnnt_kd.speech.audio_format import AudioFormat
from tf_rnnt_kd.speech.errors import AudioError

DECODED = "FLAC, WAV, OGG (Vorbis, Opus), MP3, AIFF, RF64, W64, CAF, AU, SPHERE"
# (where, bytes, what it is): known and not decoded, so that the reason says so.
_OTHERS = (
    (4, b"ftyp", "MP4 (M4A, AAC)"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"ADIF", "AAC"),
    (0, b"\x30\x26\xb2\x75", "WMA"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"MThd", "MIDI"),
)


def probe(content: bytes) -> AudioFormat:
    """The format of a whole file.

    Raises:
        AudioError: empty_file, not_audio, unsupported_format, truncated or damaged.
    """
    if not content:
        raise AudioError("empty_file", "the file has no bytes")
    if content.startswith(b"fLaC"):
        return flac.probe(content)
    if content.startswith(b"OggS"):
        return ogg.probe(content)
    if sized.is_known(content):
        return sized.probe(content)
    if mp3.is_known(content):
        return mp3.probe(content)
    for position, magic, name in _OTHERS:
        if content.startswith(magic, position):
            raise AudioError("unsupported_format", f"{name} is not decoded here: convert it to FLAC, WAV or OGG Vorbis")
    raise AudioError("not_audio", f"none of {DECODED}: it starts with {content[:8]!r}")
