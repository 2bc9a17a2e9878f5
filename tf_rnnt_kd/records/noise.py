"""The noise that training mixes into its utterances: where it is from, how often, how loud."""

import dataclasses

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records.dataset import DATASET_FILE, read_shard
from tf_rnnt_kd.records.schema import parse_example
from tf_rnnt_kd.records.sources import Source
from tf_rnnt_kd.speech.draws import GENERATOR
from tf_rnnt_kd.speech.noise import NoiseBank
from tf_rnnt_kd.speech.perturb import add_noise, mix_noise

WHITE = "white"
_SEED = 0x6E6F6973  # apart from the other draws of a training


@dataclasses.dataclass(frozen=True)
class NoiseMixer:
    """Adds noise to a share of the utterances, each by its own number.

    Attributes:
      bank: recordings, or None for white noise.
      probability: share of the utterances that get noise.
      snr_db: least and greatest signal-to-noise ratio in decibels, drawn uniformly.
    """

    bank: NoiseBank | None
    probability: float
    snr_db: tuple[float, float]

    def __call__(self, waveform: tf.Tensor, *, seed: int, index: tf.Tensor) -> tf.Tensor:
        """float32 [S] -> float32 [S]; what is added depends on the training's seed and the utterance's number."""
        seeds = tf.random.split([seed ^ _SEED, tf.cast(index, tf.int32)], 2, alg=GENERATOR)
        shares = tf.random.stateless_uniform([2], seeds[0], alg=GENERATOR)
        ratio = self.snr_db[0] + shares[0] * (self.snr_db[1] - self.snr_db[0])

        def noisy():
            if self.bank is None:
                return add_noise(waveform, snr_db=ratio, seed=seeds[1])
            return mix_noise(waveform, self.bank.draw(tf.size(waveform), seed=seeds[1]), snr_db=ratio)

        return tf.cond(shares[1] < self.probability, noisy, lambda: waveform)


def open_noise(name: str, *, probability: float, snr_db: tuple[float, float]) -> NoiseMixer | None:
    """The mixer of `augment.noise`, `.noise_probability` and `.noise_snr_db`.

    Args:
      name: "white", a folder of audio files, or DIR:split of records; "" for none.

    Raises:
      ValueError: nothing usable under that name, or numbers out of range.
    """
    if not name:
        return None
    if not 0 < probability <= 1:
        raise ValueError(f"augment.noise_probability must lie in 0..1 and above 0, got {probability}")
    if len(snr_db) != 2 or not snr_db[0] <= snr_db[1]:
        raise ValueError(f"augment.noise_snr_db must be (least, greatest) in decibels, got {tuple(snr_db)}")
    least, greatest = map(float, snr_db)
    return NoiseMixer(None if name == WHITE else _bank(name), float(probability), (least, greatest))


def _bank(name):
    if tf.io.gfile.isdir(name):
        if tf.io.gfile.exists(f"{name}/{DATASET_FILE}"):
            raise ValueError(f"augment.noise={name} is a folder of records: write {name}:SPLIT")
        return NoiseBank.from_folder(name)
    if not tf.io.gfile.isdir(name.rpartition(":")[0]):
        raise ValueError(f"augment.noise={name} is no folder of audio files, no DIR:SPLIT of records, and not 'white'")
    return NoiseBank(_recordings(Source.parse(name)), name=name)


def _recordings(source):
    for path in source.paths():
        for record in read_shard(path):
            yield np.frombuffer(parse_example(record)["audio"].bytes_list.value[0], "<i2")
