"""Levels, measured anew with plain NumPy."""

import numpy as np
import pytest

from tf_rnnt_kd.speech.level import active_level, set_level


def _tone(rms, seconds=1.0):
    return (rms * np.sqrt(2) * np.sin(2 * np.pi * 500 * np.arange(int(16000 * seconds)) / 16000)).astype(np.float32)


def _dbfs(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


@pytest.mark.parametrize("rms", [0.001, 0.05, 0.4])
def test_a_tone_gets_the_level_that_was_asked_for(rms):
    assert _dbfs(set_level(_tone(rms), dbfs=-26)) == pytest.approx(-26, abs=0.01)


@pytest.mark.parametrize("pause", [0.5, 3.0, 15.0])
def test_pauses_do_not_make_the_speech_louder(pause):
    rng = np.random.default_rng(0)
    silence = (1e-4 * rng.standard_normal(int(16000 * pause))).astype(np.float32)
    leveled = set_level(np.concatenate([silence, _tone(0.1), silence]), dbfs=-26)
    assert leveled.dtype == np.float32
    assert _dbfs(leveled[len(silence) : len(silence) + 16000]) == pytest.approx(-26, abs=0.1)


def test_quiet_sounds_within_25_decibels_count_and_others_do_not():
    loud = _tone(0.1)
    both = np.concatenate([loud, loud * 0.1])  # 20 dB
    assert active_level(both) == pytest.approx(_dbfs(both), abs=0.01)
    assert active_level(np.concatenate([loud, loud * 0.01])) == pytest.approx(-20, abs=0.01)


def test_nothing_clips_and_the_shape_is_kept():
    rng = np.random.default_rng(0)
    peaky = (0.01 * rng.standard_normal(16000)).astype(np.float32)
    peaky[8000] = 0.9
    leveled = set_level(peaky, dbfs=-10)
    assert np.abs(leveled).max() <= 0.99
    np.testing.assert_allclose(leveled, peaky * (0.99 / 0.9), rtol=1e-5)
    assert np.abs(set_level(_tone(0.6), dbfs=-0.1)).max() <= 0.99


def test_silence_is_left_alone():
    dither = np.full(1000, 5e-5, np.float32)
    np.testing.assert_array_equal(set_level(dither, dbfs=-26), dither)
    assert len(set_level(np.zeros(0, np.float32), dbfs=-26)) == 0


def test_a_click_is_all_there_is():
    click = np.zeros(64000, np.float32)
    click[30000] = 0.5
    leveled = set_level(click, dbfs=-26)
    assert np.isfinite(leveled).all()
    assert leveled[30000] == pytest.approx(0.9, abs=0.1)  # as one block of 320 samples it has -26 dBFS then


def test_short_and_odd_lengths():
    assert _dbfs(set_level(_tone(0.1)[:100], dbfs=-26)) == pytest.approx(-26, abs=0.01)
    assert len(set_level(_tone(0.1)[:333], dbfs=-26)) == 333


def test_a_level_above_full_scale_is_a_mistake():
    with pytest.raises(ValueError, match="below 0"):
        set_level(_tone(0.1), dbfs=26)
