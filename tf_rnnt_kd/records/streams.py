"""Endless streams of records, in an order that a seed decides."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records.plain import plain
from tf_rnnt_kd.records.sources import Source

_OPEN_SHARDS = 64


def endless_records(sources: Sequence[Source], *, seed: int, shuffle_buffer: int) -> tf.data.Dataset:
    """Serialised records of the sources, again and again, and whether a person made the labels of each: (string, bool).

    Without weights all records pass before one comes again. With weights (all sources have one, see `sources.mixture`)
    each record is drawn from one of the sources, by its weight, and each source is passed through for itself. The
    second element is false where it is for the record to say: its labels are those of a teacher, if it has one.

    Args:
      shuffle_buffer: records, of which each next one is drawn; for each source with a weight.
    """
    if sources[0].weight is None:
        return _shuffled(sources, seed, shuffle_buffer)
    weights = np.array([source.weight for source in sources], np.float64)
    upper = tf.constant(np.cumsum(weights / weights.sum())[:-1])

    @plain
    def choose(count):
        share = tf.random.stateless_uniform([1], [seed, tf.cast(count, tf.int32)], dtype=tf.float64)
        return tf.searchsorted(upper, share, side="right", out_type=tf.int64)[0]

    return tf.data.Dataset.choose_from_datasets(
        [_shuffled([source], seed + number, shuffle_buffer) for number, source in enumerate(sources)],
        tf.data.Dataset.counter().map(choose),
    )


def _shuffled(sources, seed, shuffle_buffer):
    labelled = [(path, _by_persons(source)) for source in sources for path in source.paths()]
    paths, by_persons = zip(*labelled, strict=True)
    dataset = tf.data.Dataset.from_tensor_slices((list(paths), list(by_persons)))
    if len(paths) > _OPEN_SHARDS:
        # Some shards are read at a time; these must not be neighbours in every epoch.
        dataset = dataset.shuffle(len(paths), seed=seed, reshuffle_each_iteration=True)
    dataset = dataset.interleave(
        plain(lambda path, by_person: tf.data.TFRecordDataset(path).map(plain(lambda record: (record, by_person)))),
        cycle_length=min(len(paths), _OPEN_SHARDS), block_length=1,
    )
    return dataset.shuffle(shuffle_buffer, seed=seed, reshuffle_each_iteration=True).repeat()


def _by_persons(source):
    # Of pseudo_label --targets=reference: the tokens are the transcripts', and the teacher adds scores and lattices.
    return source.info().settings.get("targets") == "reference"
