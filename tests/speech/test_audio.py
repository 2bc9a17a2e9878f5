"""Decoding is compared with soundfile (libsndfile), resampling with the sine that was sampled."""

import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tf_rnnt_kd.speech import audio
from tf_rnnt_kd.speech.audio import decode_audio, resample
from tf_rnnt_kd.speech.errors import AudioError
from tf_rnnt_kd.speech.flac import crc16_remainder

_DIGITS = Path(__file__).parents[3] / "shared" / "data" / "digits" / "dev"


def _speechlike(num_samples=24000, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    envelope = 0.2 + 0.1 * np.sin(np.arange(num_samples) / 900)
    noise = rng.standard_normal([num_samples, channels])
    return (envelope[:, None] * np.clip(noise, -3, 3) / 3 + 0.02).astype(np.float32)


def _encode(samples, *, format, subtype=None, rate=16000):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def _reason(content, **settings):
    with pytest.raises(AudioError) as caught:
        decode_audio(content, **settings)
    return caught.value.reason


FORMATS = [
    ("FLAC", "PCM_S8"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_16"),
    ("WAVEX", "PCM_24"),
    ("OGG", "VORBIS"),
]


@pytest.mark.parametrize(("format", "subtype"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_decoding_agrees_with_soundfile(format, subtype, channels):
    content = _encode(_speechlike(channels=channels), format=format, subtype=subtype)
    expected, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    decoded = decode_audio(content)
    assert rate == 16000
    assert decoded.dtype == np.float32
    # float32 sums of two channels, and libvorbis built by two compilers, may differ in the last bit.
    np.testing.assert_allclose(decoded, expected.mean(axis=1), atol=3e-7)


@pytest.mark.skipif(not _DIGITS.is_dir(), reason="needs the digits corpus beside the checkout")
def test_real_flac_agrees_with_soundfile():
    files = sorted(_DIGITS.glob("*/*/*.flac"))[:40]
    assert len(files) == 40
    for file in files:
        np.testing.assert_array_equal(decode_audio(file), soundfile.read(file, dtype="float32")[0])


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_keeps_time_and_shape(rate):
    def wave(seconds):
        # Swelling and fading, because no band-limited signal can begin or end with a jump.
        envelope = np.sin(np.pi * np.clip(seconds, 0, 1)) ** 2
        return envelope * (0.3 * np.sin(2 * np.pi * 440 * seconds) + 0.1 * np.sin(2 * np.pi * 1900 * seconds))

    resampled = resample(wave(np.arange(rate + 7) / rate).astype(np.float32), from_rate=rate, to_rate=16000)
    assert len(resampled) == int(np.ceil((rate + 7) * 16000 / rate))
    expected = wave(np.arange(len(resampled)) / 16000)
    np.testing.assert_allclose(resampled, expected, atol=2e-5)


def test_another_rate_is_resampled_when_decoding_and_channels_are_averaged():
    seconds = np.arange(44100) / 44100
    left = (0.4 * np.sin(2 * np.pi * 300 * seconds)).astype(np.float32)
    content = _encode(np.stack([left, 0.5 * left], axis=1), format="FLAC", rate=44100)
    expected = 0.3 * np.sin(2 * np.pi * 300 * np.arange(16000) / 16000)
    np.testing.assert_allclose(decode_audio(content)[80:-80], expected[80:-80], atol=1e-4)
    assert len(decode_audio(content, target_rate=8000)) == 8000


@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_a_file_cut_anywhere_is_truncated_and_never_silently_short(format, subtype):
    content = _encode(_speechlike(), format=format, subtype=subtype)
    cuts = {*np.random.default_rng(1).integers(13, len(content), 25).tolist(), len(content) - 1}
    assert {_reason(content[:cut]) for cut in cuts} == {"truncated"}


@pytest.mark.parametrize(("format", "subtype"), [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")])
def test_a_flipped_bit_is_found_and_the_decoder_does_not_hang(format, subtype):
    content = _encode(_speechlike(), format=format, subtype=subtype)
    rng = np.random.default_rng(2)
    intact = decode_audio(content)
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.integers(4, len(content))] ^= 1 << rng.integers(8)
        try:
            decoded = decode_audio(bytes(damaged))
        except AudioError as error:
            assert error.reason in {"damaged", "truncated", "unsupported_format"}  # noqa: PT017 (one of three)
        else:  # a bit of STREAMINFO that nobody needs, such as its MD5
            np.testing.assert_array_equal(decoded, intact)


def test_a_flac_frame_or_an_ogg_page_that_is_missing_in_the_middle_is_damage():
    content = _encode(_speechlike(40000), format="FLAC")
    second, third = (content.index(b"\xff\xf8", position) for position in _frame_positions(content)[1:3])
    assert _reason(content[:second] + content[third:]) == "damaged"
    pages = _encode(np.tile(_speechlike(40000), [4, 1]), format="OGG").split(b"OggS")
    assert len(pages) > 5
    assert _reason(b"OggS".join(pages[:4] + pages[5:])) == "damaged"
    assert _reason(b"OggS".join(pages[:-1])) == "truncated"


def _frame_positions(content):
    """Starts of FLAC frames, found by their sync code and their running number (below 128: one byte)."""
    positions, number, position = [], 0, 0
    while (position := content.find(b"\xff\xf8", position)) >= 0:
        if content[position + 4] == number:
            positions.append(position)
            number += 1
        position += 1
    return positions


def test_crc16_is_that_of_the_flac_format():
    # "123456789" -> 0xFEE8 is the published check value of CRC-16/UMTS (poly 0x8005, init 0), which FLAC uses.
    assert crc16_remainder(b"123456789" + bytes.fromhex("fee8")) == 0
    assert crc16_remainder(b"123456789" + bytes.fromhex("fee9")) != 0


def test_things_that_are_no_usable_audio():
    assert _reason(b"") == "empty_file"
    assert _reason(b"<html>404 not found</html>") == "not_audio"
    assert _reason(np.random.default_rng(0).bytes(5000)) == "not_audio"
    assert _reason(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42") == "unsupported_format"
    assert _reason(b"\xff\xf1\x50\x80" + bytes(100)) == "unsupported_format"  # AAC


def test_samples_that_are_useless():
    assert _reason(_encode(np.zeros(16000), format="FLAC")) == "silence"
    assert _reason(_encode(np.full(16000, 0.25), format="WAV")) == "silence"
    with_nan = _speechlike()
    with_nan[100] = np.nan
    assert _reason(_encode(with_nan, format="WAV", subtype="FLOAT")) == "non_finite"
    assert _reason(_encode(_speechlike() * 32768, format="WAV", subtype="FLOAT")) == "out_of_range"
    assert _reason(_encode(_speechlike(0), format="WAV")) == "too_short"
    assert _reason(_encode(_speechlike(799), format="WAV"), min_seconds=0.05) == "too_short"
    assert len(decode_audio(_encode(_speechlike(800), format="WAV"), min_seconds=0.05)) == 800
    for format in ("WAV", "FLAC", "OGG", "MP3", "AIFF"):
        assert _reason(_encode(_speechlike(32000), format=format), max_seconds=1.9) == "too_long"
    assert _reason(_encode(_speechlike(), format="WAV", rate=3999)) == "unsupported_format"
    assert _reason(_encode(_speechlike(), format="WAV", rate=192001)) == "unsupported_format"


def test_a_fault_of_the_program_costs_one_file_and_says_that_it_is_one(monkeypatch):
    def decode(*_, **__):
        raise IndexError("out of somewhere")

    monkeypatch.setattr(audio, "decode", decode)
    with pytest.raises(AudioError, match="IndexError: out of somewhere") as caught:
        decode_audio(_encode(_speechlike(), format="WAV"))
    assert caught.value.reason == "decoder_failed"


def test_a_header_with_thousands_of_channels_is_damaged():
    wav = bytearray(_encode(_speechlike(), format="WAV"))
    wav[22:24] = b"\xff\xff"
    assert _reason(bytes(wav)) == "damaged"


def test_a_slight_overshoot_is_clipped():
    samples = _speechlike()
    samples[5], samples[6] = 1.5, -1.5
    decoded = decode_audio(_encode(samples, format="WAV", subtype="FLOAT"))
    assert (decoded[5], decoded[6]) == (1.0, -1.0)


def test_chunks_before_the_samples_and_tags_after_them_are_no_obstacle():
    wav = _encode(_speechlike(), format="WAV")
    with_list = wav[:36] + b"LIST" + struct.pack("<I", 7) + b"INFOabc\0" + wav[36:]
    np.testing.assert_array_equal(decode_audio(with_list), decode_audio(wav))
    flac = _encode(_speechlike(), format="FLAC")
    np.testing.assert_array_equal(decode_audio(flac + b"TAG" + bytes(125)), decode_audio(flac))


def test_the_error_keeps_its_reason_between_processes():
    error = pickle.loads(pickle.dumps(AudioError("silence", "all zero")))
    assert (error.reason, str(error)) == ("silence", "all zero")
    with pytest.raises(ValueError, match="not a known reason"):
        AudioError("nonsense", "x")
