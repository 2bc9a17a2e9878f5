"""Speed and noise on waveforms: tones, powers, and what seeds decide."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.speech.perturb import add_noise, mix_noise, samples_at_speed, speed_perturb


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_speed_moves_a_tone(factor):
    seconds = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)
    out = np.asarray(speed_perturb(tone, factor))
    assert len(out) == int(np.ceil(16000 / factor)) == samples_at_speed(16000, factor)
    expected = np.sin(2 * np.pi * 1000 * factor * np.arange(len(out)) / 16000)
    np.testing.assert_allclose(out[2:-2], expected[2:-2], atol=2e-3)


def test_speed_one_is_identity_and_factor_may_be_a_tensor():
    waveform = np.random.default_rng(0).normal(size=777).astype(np.float32)
    np.testing.assert_array_equal(speed_perturb(waveform, 1.0), waveform)
    dataset = tf.data.Dataset.from_tensors((waveform, np.float32(0.9))).map(speed_perturb)
    np.testing.assert_allclose(next(iter(dataset)), speed_perturb(waveform, 0.9), atol=1e-5)
    assert speed_perturb(np.zeros([0], np.float32), 0.9).shape == (0,)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 25.0])
def test_noise_has_the_ratio_asked_for(snr_db):
    seconds = np.arange(32000) / 16000
    waveform = (0.2 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    noise = np.asarray(add_noise(waveform, snr_db=snr_db, seed=tf.constant([1, 2]))) - waveform
    assert abs(10 * np.log10(np.mean(waveform**2) / np.mean(noise**2)) - snr_db) < 0.2
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.03
    again = np.asarray(add_noise(waveform, snr_db=snr_db, seed=tf.constant([1, 2]))) - waveform
    other = np.asarray(add_noise(waveform, snr_db=snr_db, seed=tf.constant([1, 3]))) - waveform
    np.testing.assert_array_equal(noise, again)
    assert abs(np.corrcoef(noise, other)[0, 1]) < 0.03


def test_noise_takes_a_batch_and_leaves_silence_alone():
    waveforms = np.stack([np.ones(8000, np.float32), np.zeros(8000, np.float32)])
    noise = np.asarray(add_noise(waveforms, snr_db=tf.constant([20.0, 20.0]), seed=tf.constant([0, 0]))) - waveforms
    assert abs(noise[0].std() - 0.1) < 0.005 and not noise[1].any()


@pytest.mark.parametrize("snr_db", [-5.0, 12.0])
def test_a_recording_is_mixed_at_the_ratio_asked_for(snr_db):
    random = np.random.default_rng(0)
    waveform, noise = random.normal(size=[2, 4000]).astype(np.float32) * [[0.1], [3.0]]
    added = np.asarray(mix_noise(waveform.astype(np.float32), noise.astype(np.float32), snr_db=snr_db)) - waveform
    assert abs(10 * np.log10(np.mean(waveform**2) / np.mean(added**2)) - snr_db) < 0.01
    assert np.corrcoef(added, noise)[0, 1] > 0.9999


def test_silence_neither_gets_nor_gives_noise():
    tone, silence = tf.ones([100]), tf.zeros([100])
    np.testing.assert_array_equal(mix_noise(tone, silence, snr_db=5.0), tone)
    np.testing.assert_array_equal(mix_noise(silence, tone, snr_db=5.0), silence)
