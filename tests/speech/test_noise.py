"""Recordings of noise: what of a folder is taken, and that a draw is a stretch of one of them."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.speech import noise
from tf_rnnt_kd.speech.noise import NoiseBank


def write_wav(path, samples, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tf.audio.encode_wav(np.asarray(samples, np.float32)[:, None] / 32768, rate)
    path.write_bytes(content.numpy())


def test_a_folder_of_audio_is_read_and_bad_files_are_left_out(tmp_path):
    write_wav(tmp_path / "b" / "up.wav", np.arange(1000))
    write_wav(tmp_path / "a.WAV", np.arange(5000, 5500))
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    (tmp_path / "notes.txt").write_text("no audio")
    bank = NoiseBank.from_folder(str(tmp_path))
    assert len(bank) == 2 and bank.hours == pytest.approx(1500 / 16000 / 3600)
    seen = set()
    for seed in range(30):
        drawn = np.asarray(bank.draw(200, seed=tf.constant([seed, 0]))) * 32768
        low, size = (5000, 500) if drawn.min() >= 5000 else (0, 1000)
        seen.add(low)
        np.testing.assert_array_equal((np.diff(drawn) - 1) % size, 0)  # goes up by one, and wraps around
        assert low <= drawn.min() and drawn.max() < low + size
    assert seen == {0, 5000}


def test_a_draw_longer_than_the_recording_repeats_it():
    bank = NoiseBank([np.arange(1, 8, dtype=np.int16)], name="made")
    drawn = np.asarray(bank.draw(21, seed=tf.constant([3, 1])))
    np.testing.assert_array_equal(drawn[:7], drawn[14:])
    assert sorted(drawn[:7] * 32768) == list(range(1, 8))
    np.testing.assert_array_equal(drawn, bank.draw(21, seed=tf.constant([3, 1])))


def test_nothing_usable_and_too_much_are_errors(tmp_path, monkeypatch):
    (tmp_path / "bad.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds no audio.*augment.noise"):
        NoiseBank.from_folder(str(tmp_path))
    monkeypatch.setattr(noise, "MAX_HOURS", 1e-4)
    with pytest.raises(ValueError, match="more than 0.0001 hours.*name a part of it"):
        NoiseBank([np.ones(16000, np.int16)], name="made")
