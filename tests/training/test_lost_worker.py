"""Two workers, of which one is killed, and later told to stop: the other ends as well, and started again both go on."""

import json
import signal
import sys

import numpy as np
import tensorflow as tf
from test_train import corpus  # noqa: F401 (a fixture)
from workers import start_workers

STEPS = 12
CONFIG_FILE = """
import json, os, sys
sys.path.insert(0, {tests!r})
import faults_on_demand
from test_train import tiny_config
task = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
faults_on_demand.arm(os.environ.get(f"FAULT_{{task}}"))
def get_config():
    config = tiny_config({steps})
    config.train.update(eval_every=6, checkpoint_every=4, pictures_every=0)
    return config
"""


def commands(corpus, workdir):  # noqa: F811
    config = corpus / "two_workers.py"
    config.write_text(CONFIG_FILE.format(tests=__file__.rpartition("/")[0], steps=STEPS))
    records = corpus / "records"
    command = [
        sys.executable, "-m", "tf_rnnt_kd.train", f"--config={config}", f"--workdir={workdir}",
        f"--train={records}:train", f"--dev={records}:dev", f"--tokenizer={corpus / 'tokenizer'}",
        "--strategy=multi_worker_mirrored",
    ]
    return [command, command]


def losses(workdir):
    """{step: loss} of the log."""
    lines = [json.loads(line) for line in (workdir / "train_log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_two_workers_survive_a_kill_and_a_signal_of_one_of_them(corpus, tmp_path, monkeypatch):  # noqa: F811
    workdir, log = tmp_path / "work", tmp_path / "worker-0.log"

    def run(fault, *, timeout=300):
        monkeypatch.setenv("FAULT_1", fault)
        processes = start_workers(commands(corpus, workdir), log_folder=tmp_path)
        try:
            return [process.wait(timeout) for process in reversed(processes)]
        finally:
            for process in processes:
                process.kill()

    assert run("SIGKILL after step 6") == [-signal.SIGKILL, 69], log.read_text()
    assert "another worker is gone: start the same command again on all workers" in log.read_text()
    before = losses(workdir)
    assert list(before) == [5]

    # One of them is told to stop in its evaluation; the other finishes its own, and they stop at the same step.
    assert run("SIGTERM in evaluation 1") == [75, 75], log.read_text()
    assert "resumed at step 4" in log.read_text()
    assert "another worker stopped it at step 6 of 12, which is saved" in log.read_text()
    assert losses(workdir) == before

    states = [
        tf.train.load_checkpoint(str(workdir / "checkpoints" / folder / "ckpt-6")) for folder in ("", "worker-1")
    ]
    # All weights and averages. Not the states that dropout draws from, the position in each worker's part of the data,
    # nor the best WER, since the evaluation of the one that was told to stop is still to come.
    names = [
        name for name, dtype in states[0].get_variable_to_dtype_map().items()
        if name.startswith("variables/") and dtype.is_floating
    ]
    assert len(names) > 50
    for name in names:
        np.testing.assert_array_equal(states[0].get_tensor(name), states[1].get_tensor(name), err_msg=name)
