"""SpecAugment, speed and noise: their statistics, their bounds and what they must leave alone."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.speech.augment import add_noise, spec_augment, speed_perturb

LENGTHS = np.array([100, 60, 7, 0], np.int32)


def mask_of(seed=(1, 2), lengths=LENGTHS, frames=100, **settings):
    """True where masked: features of ones, so only masks are 0."""
    out = spec_augment(tf.ones([len(lengths), frames, 16]), tf.constant(lengths), seed=tf.constant(seed), **settings)
    assert set(np.unique(out)) <= {0.0, 1.0}
    return np.asarray(out) == 0


def test_time_masks_lie_within_the_utterance_and_are_not_too_wide():
    widths = []
    for seed in range(40):
        masked = mask_of((seed, 0), freq_masks=0, time_masks=1, time_ratio=0.2, time_width_max=15)
        rows = masked.all(axis=2)
        assert (rows == masked.any(axis=2)).all()
        for row, length in zip(rows, LENGTHS, strict=True):
            hit = np.flatnonzero(row)
            widths.append(len(hit))
            assert len(hit) <= min(15, int(0.2 * length))
            assert not len(hit) or (hit[-1] < length and hit[-1] - hit[0] + 1 == len(hit))
    widths = np.array(widths).reshape(-1, len(LENGTHS))
    assert widths[:, 0].max() == 15 and widths[:, 1].max() == 12 and widths[:, 2].max() == 1 and not widths[:, 3].any()
    assert widths[:, 0].min() == 0 and 5 < widths[:, 0].mean() < 10


def test_frequency_masks_span_all_frames_and_reach_all_bins():
    share = np.zeros(16)
    for seed in range(60):
        masked = mask_of((seed, 1), freq_masks=1, freq_width=5, time_masks=0)
        columns = masked.all(axis=1)
        assert (columns == masked.any(axis=1)).all()
        assert (columns.sum(axis=1) <= 5).all() and (
            np.abs(np.diff(columns.astype(int), axis=1)).sum(axis=1) <= 2
        ).all()
        share += columns.sum(axis=0)
    assert (share > 0).all()


def test_no_masks_change_nothing():
    assert not mask_of(freq_masks=0, time_masks=0).any()
    assert not mask_of(freq_width=0, time_ratio=0.0).any()


def test_a_seed_decides_and_utterances_differ():
    settings = {"freq_masks": 2, "freq_width": 6, "time_masks": 3, "time_ratio": 0.2}
    first = mask_of(**settings)
    np.testing.assert_array_equal(first, mask_of(**settings))
    assert (first != mask_of((1, 3), **settings)).any() and (first != mask_of((2, 2), **settings)).any()
    assert (first[0] != first[1]).any()
    compiled = tf.function(lambda x, n, s: spec_augment(x, n, seed=s, **settings), jit_compile=True)
    out = compiled(tf.ones([4, 100, 16]), tf.constant(LENGTHS), tf.constant([1, 2]))
    np.testing.assert_array_equal(np.asarray(out) == 0, first)


def test_unmasked_values_pass_and_padding_makes_no_difference():
    features = tf.constant(np.random.default_rng(0).normal(size=[4, 100, 16]).astype(np.float32))
    settings = {"seed": tf.constant([5, 6]), "freq_width": 4, "time_ratio": 0.1}
    out = np.asarray(spec_augment(features, LENGTHS, **settings))
    assert (out[out != 0] == np.asarray(features)[out != 0]).all() and (out == 0).any()
    longer = spec_augment(tf.pad(features, [[0, 0], [0, 30], [0, 0]]), LENGTHS, **settings)
    np.testing.assert_array_equal(longer[:, :100], out)
    assert spec_augment(tf.cast(features, tf.bfloat16), LENGTHS, **settings).dtype == tf.bfloat16


@pytest.mark.parametrize("settings", [{"freq_width": 17}, {"time_ratio": 1.5}, {"time_masks": -1}])
def test_impossible_masks_are_refused(settings):
    with pytest.raises(ValueError, match=r"wider|must be"):
        mask_of(**settings)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_speed_moves_a_tone(factor):
    seconds = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)
    out = np.asarray(speed_perturb(tone, factor))
    assert len(out) == int(np.ceil(16000 / factor))
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
