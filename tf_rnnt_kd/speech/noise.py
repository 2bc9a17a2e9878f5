"""Recordings of noise to mix into speech, held in memory and drawn by seed."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf
from absl import logging

from tf_rnnt_kd.speech.audio import decode_audio
from tf_rnnt_kd.speech.draws import GENERATOR
from tf_rnnt_kd.speech.errors import AudioError

SAMPLE_RATE = 16000
MAX_HOURS = 12.0  # 1.4 GB
AUDIO_ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")
_PCM16_SCALE = 32768.0


class NoiseBank:
    """Recordings one after another, as 16-bit samples.

    Any place of any recording can be had at once, so a draw depends on its seed alone, whatever was drawn before.

    Args:
        recordings: int16 [S] each, at 16 kHz; empty ones are left out. name: of the place they are from, for errors.

    Raises:
        ValueError: there are none, or more than MAX_HOURS of them.
    """

    def __init__(self, recordings: Iterable[np.ndarray], *, name: str):
        kept, samples = [], 0
        for recording in recordings:
            samples += len(recording)
            if samples > MAX_HOURS * 3600 * SAMPLE_RATE:
                raise ValueError(
                    f"{name} holds more than {MAX_HOURS:g} hours, too much to keep in memory: name a part of it in "
                    "augment.noise"
                )
            if len(recording):
                kept.append(recording)
        if not kept:
            raise ValueError(f"{name} holds no audio that can be read: augment.noise must name some, or be ''")
        lengths = np.array([len(recording) for recording in kept], np.int64)
        self.hours = samples / SAMPLE_RATE / 3600
        self._samples = tf.constant(np.concatenate(kept))
        self._lengths = tf.constant(lengths)
        self._starts = tf.constant(np.cumsum(lengths) - lengths)

    def __len__(self) -> int:
        return int(self._lengths.shape[0])

    @classmethod
    def from_folder(cls, folder: str) -> "NoiseBank":
        """All audio files below a folder, in the order of their names; those that cannot be used are logged."""
        return cls(_decoded(folder), name=folder)

    def draw(self, num_samples: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
        """float32 [num_samples] of one recording, each equally likely, from a random place on; it wraps around.

        Args:
            num_samples: scalar. seed: int [2].
        """
        which = tf.random.stateless_uniform([2], seed, 0, tf.int32.max, tf.int32, alg=GENERATOR)
        recording = which[0] % len(self)
        length = self._lengths[recording]
        place = (tf.cast(which[1], tf.int64) + tf.range(tf.cast(num_samples, tf.int64))) % length
        return tf.cast(tf.gather(self._samples, self._starts[recording] + place), tf.float32) / _PCM16_SCALE


def _decoded(folder):
    paths = sorted(
        f"{place}/{name}"
        for place, _, names in tf.io.gfile.walk(folder)
        for name in names
        if name.lower().endswith(AUDIO_ENDINGS)
    )
    for path in paths:
        try:
            waveform = decode_audio(path, target_rate=SAMPLE_RATE)
        except AudioError as error:
            logging.warning("noise %s is left out: %s: %s", path, error.reason, error)
            continue
        yield np.clip(np.rint(waveform * _PCM16_SCALE), -32768, 32767).astype(np.int16)
