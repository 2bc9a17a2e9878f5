"""Formats beyond plain FLAC, WAV and Vorbis: their samples against soundfile, and what a cut or a lie does to them."""

import io
import struct

import numpy as np
import pytest
import soundfile

from tf_rnnt_kd.speech.audio import decode_audio
from tf_rnnt_kd.speech.errors import AudioError

EXACT, ONE_BIT_OF_16 = 3e-7, 2.0**-15
# format, subtype, byte order
FORMATS = [
    ("MP3", None, None),
    ("OGG", "OPUS", None),
    ("AIFF", "PCM_16", None),
    ("AIFF", "PCM_24", "LITTLE"),
    ("AIFF", "FLOAT", None),
    ("AIFF", "ULAW", None),
    ("RF64", "PCM_16", None),
    ("RF64", "FLOAT", None),
    ("W64", "PCM_16", None),
    ("W64", "PCM_24", None),
    ("CAF", "PCM_16", None),
    ("CAF", "ALAC_16", None),
    ("AU", "PCM_16", None),
    ("AU", "ULAW", None),
    ("NIST", "PCM_16", None),
    ("NIST", "ULAW", None),
    ("WAV", "PCM_16", "BIG"),
    ("WAV", "DOUBLE", None),
    ("WAV", "ULAW", None),
    ("WAV", "ALAW", None),
    ("WAV", "IMA_ADPCM", None),
    ("WAV", "MS_ADPCM", None),
    ("WAV", "GSM610", None),
]


def _sound(num_samples=24000, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    seconds = np.arange(num_samples) / 16000
    tones = sum(np.sin(2 * np.pi * hertz * seconds) for hertz in rng.uniform(150, 3000, 4))
    noise = rng.standard_normal([num_samples, channels])
    return (0.05 * tones[:, None] + 0.02 * noise).astype(np.float32)


def _encode(samples, *, format, subtype=None, endian=None, rate=16000):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype, endian=endian)
    return buffer.getvalue()


def _reason(content, **settings):
    with pytest.raises(AudioError) as caught:
        decode_audio(content, **settings)
    return caught.value.reason


@pytest.mark.parametrize(("format", "subtype", "endian"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_those_of_soundfile(format, subtype, endian, channels):
    channels = 1 if subtype == "GSM610" else channels  # it knows no more
    content = _encode(_sound(channels=channels), format=format, subtype=subtype, endian=endian)
    expected, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    assert rate == 16000
    decoded = decode_audio(content)
    assert decoded.dtype == np.float32
    tolerance = ONE_BIT_OF_16 if format == "MP3" else EXACT  # two decoders, minimp3 and mpg123
    np.testing.assert_allclose(decoded, expected.mean(axis=1), atol=tolerance)


@pytest.mark.parametrize(("format", "subtype", "endian"), FORMATS)
def test_a_file_cut_anywhere_is_truncated_and_never_silently_short(format, subtype, endian):
    content = _encode(_sound(), format=format, subtype=subtype, endian=endian)
    if subtype == "GSM610":
        content = content[:-1]  # an odd number of bytes, filled up: the last is no sound
    cuts = {*np.random.default_rng(1).integers(13, len(content), 25).tolist(), len(content) - 1}
    assert {_reason(content[:cut]) for cut in cuts} == {"truncated"}


def _mp3_frames(content):
    """Where the frames of an MP3 of constant rate and channels begin: at its first two bytes, again and again."""
    sync = content[:2]
    starts, position = [], 0
    while (position := content.find(sync, position)) >= 0:
        if content[position + 3] == content[3]:
            starts.append(position)
        position += 1
    return starts


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_of_every_rate_is_as_long_as_what_was_encoded(rate, channels):
    content = _encode(_sound(2 * rate + 77, channels), format="MP3", rate=rate)
    assert len(decode_audio(content, target_rate=rate)) == 2 * rate + 77


def test_an_mp3_frame_that_is_lost_is_noticed():
    content = _encode(_sound(40000), format="MP3")
    starts = _mp3_frames(content)
    assert len(starts) > 60
    assert _reason(content[: starts[-1]]) == "truncated"
    assert _reason(content[: starts[20]] + content[starts[21] :]) == "truncated"
    assert _reason(content[: starts[20] + 9] + content[starts[21] :]) == "damaged"
    assert _reason(content + content[starts[3] :]) == "damaged"
    # Without the frame that states the length nobody can know; a frame that is cut shows all the same.
    headless = content[starts[1] :]
    assert len(decode_audio(headless)) > 39000
    assert _reason(headless[:-1]) == "truncated"


def test_an_mp3_cut_out_of_a_longer_one_is_decoded_although_tensorflow_io_refuses_it():
    """Its first frame needs bits of a frame that is not there, as in what `ffmpeg -c copy` cuts."""
    content = _encode(_sound(40000), format="MP3")
    starts = _mp3_frames(content)
    part = content[: starts[1]] + content[starts[20] :]
    stated = part.index(b"Xing") + 8
    part = part[:stated] + struct.pack(">II", len(starts) - 20, len(part)) + part[stated + 8 :]
    decoded, whole = decode_audio(part), decode_audio(content)
    np.testing.assert_allclose(decoded[3000:-3000], whole[len(whole) - len(decoded) :][3000:-3000], atol=ONE_BIT_OF_16)


def test_tags_round_an_mp3_are_no_obstacle():
    content = _encode(_sound(), format="MP3")
    expected = decode_audio(content)
    picture = np.random.default_rng(0).bytes(5000)
    front = b"ID3\4\0\0" + bytes([0, 0, 5000 >> 7, 5000 & 127]) + picture
    np.testing.assert_array_equal(decode_audio(front + content), expected)
    np.testing.assert_array_equal(decode_audio(content + b"TAG" + bytes(125)), expected)
    assert _reason(front[:-1]) == "truncated"
    assert _reason(front) == "truncated"
    assert _reason(front + b"something else") == "damaged"


def test_bytes_that_only_begin_as_an_mp3_are_refused():
    rng = np.random.default_rng(0)
    for _ in range(30):
        assert _reason(b"\xff\xfb" + rng.bytes(4000)) in {"damaged", "truncated", "unsupported_format", "not_audio"}


def test_lengths_that_no_file_has_are_not_believed():
    sound = _sound()

    def changed(content, position, layout, value):
        return content[:position] + struct.pack(layout, value) + content[position + struct.calcsize(layout) :]

    aiff = _encode(sound, format="AIFF")
    assert _reason(changed(aiff, aiff.index(b"SSND") + 4, ">I", 1 << 31)) == "truncated"
    assert _reason(changed(aiff, aiff.index(b"COMM") + 10, ">I", 1 << 31)) == "damaged"
    assert _reason(changed(_encode(sound, format="AU"), 8, ">I", 1 << 31)) == "truncated"
    rf64 = _encode(sound, format="RF64")
    assert _reason(changed(rf64, rf64.index(b"ds64") + 16, "<Q", 1 << 40)) == "truncated"
    w64 = _encode(sound, format="W64")
    assert _reason(changed(w64, w64.index(b"data") + 16, "<Q", 1 << 40)) == "truncated"
    assert _reason(changed(w64, w64.index(b"data") + 16, "<Q", 7)) == "damaged"
    caf = _encode(sound, format="CAF")
    assert _reason(changed(caf, caf.index(b"data") + 4, ">q", 1 << 40)) == "truncated"
    assert _reason(changed(caf, caf.index(b"data") + 4, ">q", -1)) == "unsupported_format"
    sphere = _encode(sound, format="NIST")
    assert _reason(sphere.replace(b"sample_count -i 24000", b"sample_count -i 99999")) == "truncated"
    mp3 = _encode(sound, format="MP3")
    assert _reason(changed(mp3, mp3.index(b"Xing") + 8, ">I", 1 << 31)) == "truncated"
    wav = _encode(sound, format="WAV")
    assert _reason(changed(wav, 40, "<I", (1 << 31) - 2)) == "truncated"
    assert _reason(changed(wav, 40, "<I", 0xFFFFFFFF)) == "unsupported_format"


@pytest.mark.parametrize("bits", [12, 20])
def test_wav_of_12_and_20_bits(bits):
    # WAV keeps such samples at the top of the next whole bytes.
    held = 16 if bits == 12 else 24
    values = np.round(_sound(2000)[:, 0] * 2 ** (bits - 1)).astype(np.int64)
    data = b"".join(int(value << (held - bits)).to_bytes(held // 8, "little", signed=True) for value in values)
    form = struct.pack("<HHIIHH", 1, 1, 16000, 16000 * held // 8, held // 8, bits)
    content = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form
    content += b"data" + struct.pack("<I", len(data)) + data
    np.testing.assert_allclose(decode_audio(content), values / 2.0 ** (bits - 1), atol=1e-7)
    assert _reason(content[:-1]) == "truncated"


def _remainder(data, *, width, polynomial):
    remainder = 0
    for byte in data:
        remainder ^= byte << (width - 8)
        for _ in range(8):
            remainder = remainder << 1 ^ (polynomial if remainder >> (width - 1) else 0)
    return remainder.to_bytes(width // 8, "big")


def _bits(*fields):
    """(value, bits) one after another, as bytes."""
    text = "".join(format(value & (1 << width) - 1, f"0{width}b") for value, width in fields)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _flac(values, *, bits, states_length=True, states_bits=True):
    """FLAC without compression (verbatim subframes), as the format's description has it."""
    length = len(values) if states_length else 0
    info = _bits((1000, 16), (1000, 16), (0, 48), (16000, 20), (0, 3), (bits - 1, 5), (length, 36)) + bytes(16)
    content = b"fLaC\x80" + len(info).to_bytes(3, "big") + info
    code = {8: 1, 12: 2, 16: 4, 20: 5, 24: 6, 32: 7}.get(bits, 0) if states_bits else 0
    for number, start in enumerate(range(0, len(values), 1000)):
        block = values[start : start + 1000]
        header = _bits((0xFFF8, 16), (7, 4), (0, 4), (0, 4), (code, 3), (0, 1), (number, 8), (len(block) - 1, 16))
        header += _remainder(header, width=8, polynomial=0x107)
        frame = header + _bits((1, 7), (0, 1), *((int(value), bits) for value in block))
        content += frame + _remainder(frame, width=16, polynomial=0x18005)
    return content


@pytest.mark.parametrize("bits", [8, 12, 16, 20, 24])
@pytest.mark.parametrize("states_length", [True, False])
def test_flac_of_every_depth_with_and_without_its_length(bits, states_length):
    values = np.round(_sound(3500)[:, 0] * 2 ** (bits - 1)).astype(np.int64)
    content = _flac(values, bits=bits, states_length=states_length)
    np.testing.assert_array_equal(decode_audio(content), (values / 2.0 ** (bits - 1)).astype(np.float32))
    assert _reason(content[:-1]) == "truncated"
    assert _reason(content[:-40]) == "truncated"


def test_flac_of_depths_that_cannot_be_decoded_says_so():
    values = np.round(_sound(2000)[:, 0] * 100).astype(np.int64)
    assert _reason(_flac(values, bits=32)) == "unsupported_format"
    assert _reason(_flac(values, bits=18)) == "unsupported_format"
    assert _reason(_flac(values, bits=20, states_bits=False)) == "unsupported_format"


def test_codecs_that_libsndfile_does_not_know_are_unsupported_and_not_damaged():
    caf = _encode(_sound(), format="CAF")
    assert _reason(caf.replace(b"lpcm", b"aac ", 1)) == "unsupported_format"
    assert _reason(_encode(_sound(), format="WAV", subtype="NMS_ADPCM_32")) == "unsupported_format"
    sphere = _encode(_sound(), format="NIST")
    shorten = sphere.replace(b"sample_coding -s3 pcm", b"sample_coding -s26 pcm,embedded-shorten-v2.00")
    assert _reason(shorten) == "unsupported_format"
