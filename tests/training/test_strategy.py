"""Strategies by name, what they lack, and the batches that replicas get."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tiny_steps

from tf_rnnt_kd.records.reader import Bucket
from tf_rnnt_kd.training.batching import DRAW, distribute, global_buckets, merge
from tf_rnnt_kd.training.strategy import build_strategy, jit_compiles, worker_of


def test_one_device_has_no_strategy_and_is_the_only_worker():
    assert build_strategy("none") is None
    assert worker_of(None) == (0, 1)


@pytest.mark.parametrize(
    "name, cluster, message",
    [
        ("horovod", None, "unknown --strategy=horovod: choose one of none, mirrored"),
        ("multi_worker_mirrored", None, "TF_CONFIG.*host0"),
        ("multi_worker_mirrored", "nonsense", "it is 'nonsense'"),
        ("multi_worker_mirrored", json.dumps({"cluster": {"worker": ["a:1"]}}), "TF_CONFIG"),
        ("multi_worker_mirrored", "[]", "TF_CONFIG"),
        ("tpu", None, "finds no TPU.*--tpu"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, name, cluster, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if cluster is not None:
        monkeypatch.setenv("TF_CONFIG", cluster)
    with pytest.raises(ValueError, match=message):
        build_strategy(name)


def test_devices_cannot_be_cut_once_they_are_used():
    tf.constant(0) + 1
    with pytest.raises(ValueError, match="before TensorFlow computes"):
        build_strategy("mirrored", virtual_cpus=3)


def test_xla_compiles_the_step_where_that_is_faster():
    assert jit_compiles(True) and not jit_compiles(False)
    has_accelerator = bool(tf.config.list_physical_devices("GPU") + tf.config.list_physical_devices("TPU"))
    assert jit_compiles("auto") == has_accelerator
    with pytest.raises(ValueError, match="train.jit_compile is 'auto', True or False"):
        jit_compiles("yes")


def test_a_global_batch_holds_the_utterances_of_all_replicas():
    assert global_buckets([Bucket(32, 3, 4), Bucket(64, 5, 2)], 3) == [Bucket(32, 3, 12), Bucket(64, 5, 6)]


def test_one_replica_gets_the_whole_batch_without_strings():
    batch = tiny_steps.batch(0)
    given = distribute(batch, None)
    assert set(given) == set(batch) - {"utterance_id"}
    assert int(distribute(batch, None, micro_batch=3)[DRAW]) == 3


def test_replicas_get_their_rows():
    batch = tiny_steps.batch(0)
    rows = {}
    for number in range(2):
        strategy = _Pretended(number)
        given = distribute(batch, strategy, micro_batch=5)
        assert int(given[DRAW]) == 10 + number
        rows[number] = given["features"].numpy()
    np.testing.assert_array_equal(np.concatenate([rows[0], rows[1]]), batch["features"].numpy())
    strategy.num_replicas_in_sync = 3
    with pytest.raises(ValueError, match="4 utterances cannot be shared equally by 3 replicas"):
        distribute(batch, strategy)


class _Pretended:
    """A strategy of two replicas that shows the values of one."""

    def __init__(self, number):
        self.num_replicas_in_sync = 2
        self.replica_id_in_sync_group = number

    def experimental_distribute_values_from_function(self, function):
        return function(self)


def test_micro_batches_are_padded_to_one():
    parts = [tiny_steps.batch(0), tiny_steps.batch(1)]
    merged = merge(parts)
    assert merged["features"].shape == (6, 40, 3)
    np.testing.assert_array_equal(merged["features"][:4, :32], parts[0]["features"])
    np.testing.assert_array_equal(merged["features"][:4, 32:], 0.0)
    np.testing.assert_array_equal(merged["features"][4:], parts[1]["features"])
    assert merged["utterance_id"].numpy().tolist()[3:] == [b"0-3", b"1-0", b"1-1"]
    assert merge(parts[:1]) is parts[0]
