"""Noise, rooms and filters for synthetic speech, each against its definition."""

import numpy as np
import pytest

from tf_rnnt_kd.speech import acoustics

RATE = 16000


def rng(seed=0):
    return np.random.default_rng(seed)


def tone(hz, *, seconds=1.0, rate=RATE):
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize(("source", "target"), [(22050, 16000), (22050, 17111), (8000, 16000)])
def test_resampling_keeps_a_tone(source, target):
    out = acoustics.resample(tone(1000, rate=source), num_samples=target)
    np.testing.assert_allclose(out, tone(1000, rate=target), atol=1e-6)


def test_resampling_removes_what_does_not_fit():
    out = acoustics.resample(tone(9000, rate=22050), num_samples=RATE)
    assert np.abs(out).max() < 1e-6


@pytest.mark.parametrize(("colour", "db_per_octave"), [("white", 0), ("pink", -3), ("brown", -6), ("blue", 3)])
def test_noise_has_its_slope_and_unit_power(colour, db_per_octave):
    noise = acoustics.coloured_noise(20 * RATE, colour=colour, sample_rate=RATE, rng=rng())
    assert abs(np.mean(noise**2) - 1) < 1e-9
    power = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(len(noise), 1 / RATE)
    octaves = [10 * np.log10(power[(hz >= low) & (hz < 2 * low)].mean()) for low in (250, 500, 1000, 2000)]
    np.testing.assert_allclose(np.diff(octaves), db_per_octave, atol=0.5)


@pytest.mark.parametrize("colour", acoustics.NOISE_COLOURS)
def test_noise_is_what_its_generator_says(colour):
    first, again, other = (
        acoustics.coloured_noise(RATE, colour=colour, sample_rate=RATE, rng=rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == (RATE,) and np.isfinite(first).all() and np.abs(first - other).max() > 0.1


def test_unknown_colour():
    with pytest.raises(ValueError, match="white, pink"):
        acoustics.coloured_noise(100, colour="green", sample_rate=RATE, rng=rng())


@pytest.mark.parametrize("snr_db", [0, 20])
def test_mixing_counts_active_speech_only(snr_db):
    speech = np.concatenate([np.zeros(RATE), 0.01 * tone(300), np.zeros(RATE)])
    noise = acoustics.coloured_noise(3 * RATE, colour="white", sample_rate=RATE, rng=rng())
    mixed = acoustics.mix(speech, noise, snr_db=snr_db, level_db=-26)
    background = np.mean(mixed[:RATE] ** 2)
    assert abs(10 * np.log10((10**-2.6) / background) - snr_db) < 0.3
    clipped = acoustics.mix(speech, noise, snr_db=snr_db, level_db=6)
    assert abs(np.abs(clipped).max() - 0.99) < 1e-9


def test_band_filter_lets_the_middle_pass():
    def gain_db(hz, tilt=0.0):
        out = acoustics.band_filter(tone(hz), low_hz=200, high_hz=3500, tilt_db_per_octave=tilt, sample_rate=RATE)
        return 10 * np.log10(np.mean(out[4000:12000] ** 2) / 0.5)

    assert abs(gain_db(1000)) < 0.3 and abs(gain_db(200) + 3) < 0.5 and abs(gain_db(3500) + 3) < 0.5
    assert gain_db(50) < -20 and gain_db(7000) < -20
    assert abs(gain_db(2000, tilt=2.0) - gain_db(2000) - 2) < 0.3


def test_reverberation_decays_at_its_pace():
    click = np.zeros(RATE)
    click[0] = 1.0
    tail = acoustics.reverberate(click, rt60_seconds=0.5, direct_to_reverb_db=6.0, sample_rate=RATE, rng=rng())
    assert abs(tail[0] - 1) < 1e-9 and np.abs(tail[8000:]).max() < 1e-9
    assert abs(-10 * np.log10(np.sum(tail[1:] ** 2)) - 6) < 0.1
    early, late = (np.mean(tail[start : start + 800] ** 2) for start in (800, 4800))
    assert abs(10 * np.log10(early / late) - 60 * 4000 / 8000) < 1.5
