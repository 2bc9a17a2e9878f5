"""The training binary in two processes: the training of one device with batches twice as large."""

import json
import sys

import h5py
import numpy as np
import pytest
import tensorflow as tf
from workers import start_workers, wait_for_workers

from tf_rnnt_kd.records import dataset, reader, schema
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import trainer

CONFIG = """
from tf_rnnt_kd.training.config import default_config

def get_config(frames):
    config = default_config()
    config.frontend.num_mel_bins = 8
    config.model.encoder.update(width=8, num_layers=1, num_heads=2, kernel_size=3, channels=4, left_context=4)
    config.model.encoder.dropout = 0.0
    config.model.predictor.update(width=4, dropout=0.0)
    config.model.joint_width = 8
    config.data.update(frames_per_batch=int(frames), num_buckets=1, shuffle_buffer=4)
    # Each replica draws its own masks.
    config.augment.update(freq_masks=0, time_masks=0)
    config.optimizer.update(name="adafactor", peak_learning_rate=1e-2, warmup_steps=1)
    config.train.update(memory_limit_gb=-1.0, steps=3, log_every=1, eval_every=3, checkpoint_every=3)
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    rng = np.random.default_rng(0)
    records = []
    for index in range(12):
        waveform = rng.normal(size=int(rng.integers(8_000, 9_600))).astype(np.float32) * 0.1
        records.append(schema.encode_utterance(schema.Utterance(f"u-{index}", waveform, "A B", "s", "train")))
    shard = dataset.write_shard(
        folder / "records", file=dataset.shard_file("train", index=0, num_shards=1), records=records
    )
    splits = {"train": dataset.Split((shard,), len(records), 0.01, True)}
    dataset.DatasetInfo(kind="utterances", splits=splits, counts={}, rejected={}).save(folder / "records")
    Tokenizer.train_sentencepiece(["A B", "B A"], vocab_size=4, model_type="word").save(folder / "tokenizer")
    (folder / "config.py").write_text(CONFIG)
    return folder


def command(folder, workdir, *flags):
    records = f"{folder / 'records'}:train"
    return [
        sys.executable, "-m", "tf_rnnt_kd.train", f"--config={folder / 'config.py'}:128", f"--workdir={workdir}",
        f"--train={records}", f"--dev={records}", f"--tokenizer={folder / 'tokenizer'}", *flags,
    ]


def results(workdir):
    """The losses and gradient norms of all steps, and the averaged weights."""
    log = [json.loads(line) for line in (workdir / "train_log.jsonl").read_text().splitlines()]
    terms = [(line["loss"], line["gradient_norm"]) for line in log if "loss" in line]
    arrays = {}
    best = json.loads((workdir / "best" / "best.json").read_text())
    with h5py.File(workdir / "best" / best["weights"]) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return terms, arrays


@pytest.fixture(scope="module")
def one_device(folder):
    namespace = {}
    exec(CONFIG, namespace)  # noqa: S102
    source = reader.Source(str(folder / "records"), "train")
    trainer.train(
        config=namespace["get_config"](256), workdir=folder / "one", train_sources=[source], dev_source=source,
        tokenizer_dir=folder / "tokenizer",
    )
    return results(folder / "one")


def checkpointed(folder):
    """{name: array} of the floats in a worker's last checkpoint: not its place in the data, nor dropout's states."""
    saved = tf.train.load_checkpoint(str(folder / "ckpt-3"))
    kinds = saved.get_variable_to_dtype_map()
    return {name: saved.get_tensor(name) for name in kinds if name.startswith("variables/") and kinds[name].is_floating}


def test_two_workers(folder, one_device):
    commands = [command(folder, folder / "workers", "--strategy=multi_worker_mirrored")] * 2
    processes = start_workers(commands, log_folder=folder)
    wait_for_workers(processes, log_folder=folder)
    terms, arrays = results(folder / "workers")
    assert len(terms) == 3
    np.testing.assert_allclose(terms, one_device[0], rtol=1e-4)
    assert arrays.keys() == one_device[1].keys()
    for name, value in one_device[1].items():
        np.testing.assert_allclose(arrays[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    first, second = (checkpointed(folder / "workers/checkpoints" / name) for name in ("", "worker-1"))
    assert len(first) > 2 * len(arrays)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)
