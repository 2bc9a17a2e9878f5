"""The memory estimate: exact on graphs counted by hand, near what a process is measured to take, and its refusal."""

import json
import os
import pathlib
import subprocess
import sys
import types

import pytest
import tensorflow as tf

from tf_rnnt_kd.training import memory
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.graph_memory import peak_memory

ROOT = pathlib.Path(__file__).parents[2]
FACTOR = 2.0
"""The estimate of activations, gradients and lattice lies between 1/FACTOR and FACTOR of what is measured."""


def traced(function, *shapes):
    return tf.function(function, autograph=False).get_concrete_function(*(tf.TensorSpec(shape) for shape in shapes))


def test_tensors_live_from_their_maker_to_their_last_reader():
    def chain(x):  # 1000 floats in; each product is needed by the next only, which cannot overwrite it
        for _ in range(5):
            x = tf.reverse(x, axis=[0])
        return x

    peak = peak_memory(traced(chain, [1000]))
    # The input belongs to the caller all along; beside it two tensors at a time, and five axes (int32 scalars in [1]).
    assert peak.total == 3 * 4000 + 5 * 4
    assert sum(peak.by_operation.values()) == peak.total


def test_what_is_written_in_place_counts_once_and_views_nothing():
    def chain(x):
        x = tf.reverse(x, axis=[0])
        for _ in range(5):
            x = tf.reshape(tf.tanh(x), [10, 100])
        return tf.reshape(x, [1000])

    peak = peak_memory(traced(chain, [1000]))
    small = sum(size for name, size in peak.by_operation.items() if "shape" in name or "axis" in name)
    assert peak.total - small == 2 * 4000


def test_a_tape_keeps_what_gradients_need():
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in range(6):
                y = tf.sin(y)  # its gradient needs its input
            loss = tf.reduce_sum(y)
        return tf.reduce_sum(tape.gradient(loss, x))

    peak = peak_memory(traced(gradient, [10_000]))
    # The input, the six values, and what the backward pass makes of the last.
    assert 7 * 40_000 <= peak.total <= 9.1 * 40_000


MEASURED = """
import json, sys, types
import numpy as np, tensorflow as tf
from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.records.reader import Bucket
from tf_rnnt_kd.training import memory
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.forward import Forward

config = default_config()
config.model.encoder.update(width=64, num_layers=2, num_heads=2, kernel_size=5, subsampling=4, channels=16, dropout=0.1)
config.model.joint_width = 128
bucket = Bucket(num_frames=2000, num_labels=40, batch_size=8)
model = build_transducer(config.model.to_dict(), vocab_size=200, num_features=80)
forward = Forward(model, config, Objective(config.losses))
spec = {
    "features": tf.TensorSpec([None, None, 80]), "num_frames": tf.TensorSpec([None], tf.int32),
    "tokens": tf.TensorSpec([None, None], tf.int32), "num_tokens": tf.TensorSpec([None], tf.int32),
}
session = types.SimpleNamespace(forward=forward, model=model, batch_spec=spec, hop_seconds=0.01)
trained = [variable.value for variable in model.trainable_variables]

@tf.function(input_signature=[spec, tf.TensorSpec([], tf.int32)])
def gradients(batch, step):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(forward(batch, step)["loss"])
    return tape.gradient(loss, trained)

def batch(frames, labels, size):
    rng = np.random.default_rng(0)
    return {
        "features": tf.constant(rng.normal(size=[size, frames, 80]), tf.float32), "num_frames": tf.fill([size], frames),
        "tokens": tf.ones([size, labels], tf.int32), "num_tokens": tf.fill([size], labels),
    }

def highest():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

gradients(batch(200, 5, 1), tf.constant(0))  # traces and compiles
full = batch(bucket.num_frames, bucket.num_labels, bucket.batch_size)
started = memory.resident_memory()
gradients(full, tf.constant(0))
peak = memory.activation_memory(session, bucket)
estimate = peak.total + memory._lattice_workspace(session, bucket)
json.dump({"measured": highest() - started, "estimate": estimate}, open(sys.argv[1], "w"))
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="reads the peak of a process from /proc")
def test_the_estimate_is_near_what_a_process_takes(tmp_path):
    answer = tmp_path / "answer.json"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", MEASURED, str(answer)], check=True, cwd=ROOT, env=environment)
    found = json.loads(answer.read_text())
    assert found["measured"] > 100e6, "too small to be told from the rest of the process"
    assert found["measured"] / FACTOR < found["estimate"] < found["measured"] * FACTOR, found


@pytest.mark.parametrize(
    "largest, advice",
    [
        (
            "encoder activations",
            r"set train.recompute=blocks or all.*lower data.frames_per_batch.*train.accumulate_steps.*now 12800",
        ),
        ("optimizer", "adafactor"),
        ("data", "data.shuffle_buffer"),
        ("weights", "a smaller model"),
    ],
)
def test_too_much_is_refused_with_advice(monkeypatch, largest, advice):
    parts = {"weights": 1_000_000, "optimizer": 0, "encoder activations": 0, "data": 0} | {largest: 3_000_000_000}
    monkeypatch.setattr(memory, "estimate", lambda *arguments, **options: parts)
    bucket = types.SimpleNamespace(batch_size=8, num_frames=1600, num_labels=50)
    session, config, shown = types.SimpleNamespace(buckets=[bucket]), default_config(), []
    config.train.memory_limit_gb = 2.5
    with pytest.raises(ValueError, match=f"needs about 3.00 GB and there are 2.50 GB.*{largest}, 3.00 GB.*{advice}"):
        memory.check(session, config=config, sources=[], report=shown.append)
    assert "8 x 1600 frames x 50 labels" in shown[0] and f"{largest} 3.00 GB" in shown[0]
    config.train.memory_limit_gb = 3.5
    assert memory.check(session, config=config, sources=[], report=shown.append) == parts


def test_without_a_limit_nothing_is_estimated(monkeypatch):
    monkeypatch.setattr(memory, "estimate", lambda *arguments, **options: pytest.fail("it was estimated"))
    config = default_config()
    config.train.memory_limit_gb = -1.0
    assert memory.check(types.SimpleNamespace(), config=config, sources=[], report=pytest.fail) == {}


def test_the_machine_has_memory():
    limit = memory.device_memory()
    assert limit is None or limit > memory.resident_memory() > 0
