"""The training binary and loop: learns, resumes to the same weights after SIGKILL, refuses what does not fit."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tf_rnnt_kd.records import dataset, reader, schema
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import trainer
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.workdir import TrainLog, load_model

ROOT = pathlib.Path(__file__).parents[2]
TONES = {"LOW": 300.0, "MID": 900.0, "HIGH": 2700.0}


def spoken(index):
    """Words that are pure tones with noise: learnable in a minute."""
    rng = np.random.default_rng(index)
    words = list(rng.choice(list(TONES), size=rng.integers(1, 4)))
    pieces = [np.zeros(1600)]
    for word in words:
        length = int(rng.integers(3200, 4800))
        pieces += [0.3 * np.sin(2 * np.pi * TONES[word] * np.arange(length) / 16000), np.zeros(1600)]
    waveform = np.concatenate(pieces)
    waveform += rng.normal(size=len(waveform)) * 0.005
    return schema.Utterance(f"t-{index:04d}", waveform.astype(np.float32), " ".join(words), "s", "train")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    splits = {}
    for split, first, count in (("train", 0, 64), ("dev", 1000, 16)):
        records = [schema.encode_utterance(spoken(first + i)) for i in range(count)]
        shard = dataset.write_shard(
            folder / "records", file=dataset.shard_file(split, index=0, num_shards=1), records=records
        )
        splits[split] = dataset.Split((shard,), count, 0.1, True)
    dataset.DatasetInfo(kind="utterances", splits=splits, counts={}, rejected={}).save(folder / "records")
    Tokenizer.train_sentencepiece(list(TONES), vocab_size=4, model_type="word").save(folder / "tokenizer")
    return folder


def tiny_config(steps):
    config = default_config()
    config.frontend.num_mel_bins = 20
    config.model.encoder.update(width=24, num_layers=1, num_heads=2, kernel_size=3, left_context=4)
    config.model.predictor.width = 8
    config.model.joint_width = 24
    config.data.update(frames_per_batch=1600, num_buckets=1, shuffle_buffer=16)
    config.augment.update(freq_width=3, time_masks=1)
    config.optimizer.update(peak_learning_rate=1e-2, warmup_steps=10)
    config.train.update(memory_limit_gb=-1.0, steps=steps, log_every=5, eval_every=10, checkpoint_every=10)
    return config


def run(corpus, workdir, config, **options):
    source = str(corpus / "records")
    return trainer.train(
        config=config, workdir=workdir, train_sources=[reader.Source(source, "train")],
        dev_source=reader.Source(source, "dev"), tokenizer_dir=corpus / "tokenizer", **options,
    )


def weights_of(workdir):
    best = json.loads((workdir / "best" / "best.json").read_text())
    arrays = {}
    with h5py.File(workdir / "best" / best["weights"]) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return best, arrays


@pytest.fixture(scope="module")
def trained(corpus):
    workdir = corpus / "trained"
    return workdir, run(corpus, workdir, tiny_config(120))


def test_learns_a_task_that_can_be_learnt(trained):
    workdir, done = trained
    assert done["best_dev_wer"] < 0.2
    assert done["rejected"] == {} and done["skipped_steps"] == 0
    loaded = load_model(workdir)
    assert loaded.step == done["best_step"] and loaded.model.is_streaming
    log = [json.loads(line) for line in (workdir / "train_log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0] / 4
    assert min(entry["dev_wer"] for entry in log if "dev_wer" in entry) == done["best_dev_wer"]
    assert list((workdir / "tensorboard").iterdir())


def test_a_second_call_does_nothing(trained, corpus):
    workdir, done = trained
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
    assert run(corpus, workdir, tiny_config(120)) == done
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()} == before


def test_another_config_in_the_same_workdir_is_refused(trained, corpus):
    config = tiny_config(120)
    config.optimizer.peak_learning_rate = 0.5
    with pytest.raises(ValueError, match="peak_learning_rate: 0.01 -> 0.5.*--workdir"):
        run(corpus, trained[0], config)
    # What changes memory alone may be changed on the way.
    config = tiny_config(120)
    config.train.recompute = "blocks"
    assert run(corpus, trained[0], config) == trained[1]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(trained, corpus, capfd):
    config = tiny_config(30)
    config.train.memory_limit_gb = 0.0
    assert run(corpus, corpus / "dry", config, dry_run=True) == {}
    said = capfd.readouterr().err
    assert not (corpus / "dry").exists()
    (shape,) = re.findall(r"labels\): (\d+) x \d+ x \d+\n", said)
    batches = -(-64 // int(shape))
    assert "memory, about, for batches of" in said
    passes = f"about {30 / batches:.1f} passes over the records, of {batches} batches"
    assert f"steps 1 to 30, each on 1 batch: {passes}; evaluate every 10 steps on 16 utterances (0.10 hours)" in said
    # Of a complete training, what it came to; of another with this folder, that it is another.
    assert run(corpus, trained[0], tiny_config(120), dry_run=True) == trained[1]
    with pytest.raises(ValueError, match="train.steps: 120 -> 30.*--workdir"):
        run(corpus, trained[0], tiny_config(30), dry_run=True)


CONFIG_FILE = """
import os, sys
sys.path.insert(0, {tests!r})
import faults_on_demand
from test_train import tiny_config
faults_on_demand.arm(os.environ.get("FAULT"))
def get_config():
    return tiny_config(40)
"""


def command(corpus, workdir, *extra):
    config = corpus / "config.py"
    config.write_text(CONFIG_FILE.format(tests=str(pathlib.Path(__file__).parent)))
    records = corpus / "records"
    return [
        sys.executable, "-m", "tf_rnnt_kd.train", f"--config={config}", f"--workdir={workdir}",
        f"--train={records}:train", f"--dev={records}:dev", f"--tokenizer={corpus / 'tokenizer'}", *extra,
    ]


def start(corpus, workdir, *extra, fault=""):
    """Runs the binary to its end, with a fault of faults_on_demand."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "FAULT": fault}
    return subprocess.run(
        command(corpus, workdir, *extra), env=environment, cwd=ROOT, capture_output=True, text=True
    )


def test_stopped_killed_and_started_again_gives_the_same_weights_bit_for_bit(corpus):
    whole, stopped = corpus / "whole", corpus / "stopped"
    assert start(corpus, whole).returncode == 0

    extra = "--config.train.pictures_every=30"  # which changes nothing either
    ended = start(corpus, stopped, extra, fault="SIGTERM in evaluation 1")
    assert ended.returncode == 75, ended.stderr
    assert "SIGTERM stopped it at step 10 of 40, which is saved: the same command goes on" in ended.stderr
    ended = start(corpus, stopped, extra, fault="SIGKILL between the files of checkpoint 30")
    assert ended.returncode == -signal.SIGKILL and "resumed at step 10" in ended.stderr, ended.stderr
    assert not (stopped / "done.json").exists()
    ended = start(corpus, stopped, extra)
    assert ended.returncode == 0, ended.stderr
    assert "the checkpoint of step 30 is not whole" in ended.stderr and "resumed at step 20" in ended.stderr

    first, second = weights_of(whole), weights_of(stopped)
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    for name in first[1]:
        np.testing.assert_array_equal(first[1][name], second[1][name], err_msg=name)

    def steps(workdir):
        lines = [json.loads(line) for line in (workdir / "train_log.jsonl").read_text().splitlines()]
        return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]

    assert steps(whole) == steps(stopped)


@pytest.mark.parametrize(
    "extra, message",
    [
        (["--config.optimizer.no_such_key=1"], "--config has no such setting: 'no_such_key'"),
        (["--dev="], "--dev missing"),
        (["--tokenizer=/nowhere"], "--tokenizer=/nowhere: there is no such file or folder"),
    ],
)
def test_mistakes_are_named(corpus, tmp_path, extra, message):
    # Of settings that import nothing slow.
    settings = f"--config={ROOT / 'configs' / 'demo.py'}:teacher"
    words = [settings if word.startswith("--config=") else word for word in command(corpus, tmp_path / "w", *extra)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_log_drops_what_a_resumed_run_writes_again(tmp_path):
    log = TrainLog(tmp_path, resumed_step=0)
    for step in (10, 20, 30):
        log.write(step=step, loss=1.0)
    with (tmp_path / "train_log.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')
    TrainLog(tmp_path, resumed_step=20).write(step=30, loss=2.0)
    lines = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(10, 1.0), (20, 1.0), (30, 2.0)]
