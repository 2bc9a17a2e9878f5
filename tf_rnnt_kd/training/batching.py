"""The batches of one step: several replicas, several micro-batches.

The records give global batches, of `num_replicas` times the utterances of a bucket, in one order; of each the reader
of a worker makes the rows of that worker. So all replicas work on the same bucket in a step, and one replica of 2N
utterances sees what two of N see.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.training.strategy import replicas_of

DRAW = "draw"
"""Key of a batch: number of the replica's micro-batch within the step, int32 scalar, for random draws that differ."""


def global_buckets(buckets, num_replicas: int):
    """Buckets of one replica -> those of the global batches."""
    return [dataclasses.replace(bucket, batch_size=bucket.batch_size * num_replicas) for bucket in buckets]


def numeric(batch):
    """A batch, or its specification, without the strings: neither XLA nor accelerators know any."""
    return {name: value for name, value in batch.items() if value.dtype != tf.string}


def distribute(batch: Mapping[str, tf.Tensor], strategy, *, micro_batch: int | None = None):
    """The rows of one worker -> what each of its replicas computes on: an equal part of them, and DRAW.

    Args:
      batch: tensors whose first axis is that of the utterances.
      strategy: a tf.distribute.Strategy, or None for one replica.
      micro_batch: its number within the step, None where a step has only one. One replica then needs no DRAW.

    Raises:
      ValueError: the replicas cannot have equally many utterances.
    """
    batch = numeric(batch)
    if strategy is None:
        return batch if micro_batch is None else {**batch, DRAW: tf.constant(micro_batch)}
    numbers = replicas_of(strategy)
    rows, remainder = divmod(num_utterances(batch), len(numbers))
    if remainder:
        raise ValueError(f"{num_utterances(batch)} utterances cannot be shared equally by {len(numbers)} replicas")

    def of_replica(context, name):
        number = context.replica_id_in_sync_group
        if name == DRAW:
            return tf.constant(strategy.num_replicas_in_sync * (micro_batch or 0) + number)
        first = numbers.index(number) * rows
        return batch[name][first : first + rows]

    share = strategy.experimental_distribute_values_from_function
    return {name: share(lambda context, name=name: of_replica(context, name)) for name in (*batch, DRAW)}


def num_utterances(batch) -> int:
    """Utterances in a batch as the reader gives it."""
    return int(batch["num_frames"].shape[0])


def merge(batches: Sequence[Mapping[str, tf.Tensor]]) -> Mapping[str, tf.Tensor]:
    """Micro-batches of several buckets as one batch, padded with zeros; a single one as it is."""
    if len(batches) == 1:
        return batches[0]
    return {name: _joined([batch[name] for batch in batches]) for name in batches[0]}


def _joined(values):
    shape = np.max([value.shape for value in values], axis=0)
    padded = [
        tf.pad(value, [[0, 0 if axis == 0 else int(shape[axis]) - length] for axis, length in enumerate(value.shape)])
        if value.dtype != tf.string
        else value
        for value in values
    ]
    return tf.concat(padded, axis=0)
