"""2N utterances on one replica, N on each of two, and micro-batches of them make the same steps."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tiny_steps
from workers import ROOT

from tf_rnnt_kd.training.batching import merge

# Sparsity, clipping and averaging are part of what must be equal.
PLAIN = {"numbers": [[0], [2], [4]], "overrides": {"sparsity.target": 0.5, "sparsity.end": 2, "sparsity.frequency": 1}}
ACCUMULATED = {"numbers": [[0, 2], [4, 6]], "train": {"accumulate_steps": 2}}
DROPPED = {
    "numbers": [[0]],
    "overrides": {
        "model.encoder.dropout": 0.5, "model.encoder.convolution_norm": "batch", "variational_noise.deviation": 0.1,
    },
}  # fmt: skip
RECOMPUTED = {**DROPPED, "train": {"recompute": "blocks"}}


def command(settings, output):
    return [sys.executable, str(ROOT / "tests/training/tiny_steps.py"), json.dumps(settings), str(output)]


def of_case(path, case):
    with np.load(path) as file:
        return {name.partition(":")[2]: file[name] for name in file.files if name.startswith(f"{case}:")}


def assert_same_steps(got, want):
    assert {name for name in got if "draws/" not in name} == {name for name in want if "draws/" not in name}
    for name, value in want.items():
        if not name.startswith("draws/"):
            np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.fixture(scope="module")
def one_device():
    return tiny_steps.run(**PLAIN)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    # In a process of its own: one that has used TensorFlow can no longer cut its CPU in two.
    path = tmp_path_factory.mktemp("mirrored") / "out.npz"
    cases = {"plain": PLAIN, "accumulated": ACCUMULATED, "dropped": DROPPED, "recomputed": RECOMPUTED}
    settings = {"strategy": "mirrored", "virtual_cpus": 2, "cases": cases}
    done = subprocess.run(command(settings, path), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return path


def test_steps_learn_and_prune(one_device):
    assert one_device["terms/2/loss"] > 0 and one_device["terms/2/finite"]
    kernel = one_device["model/transducer/joint_kernel"]
    assert np.count_nonzero(kernel) == kernel.size / 2
    assert one_device["optimizer/sgd/iteration"] == 3


def test_two_devices_make_the_steps_of_one(mirrored, one_device):
    assert_same_steps(of_case(mirrored, "plain"), one_device)


def test_two_devices_add_up_micro_batches_as_one_does(mirrored):
    assert_same_steps(of_case(mirrored, "accumulated"), tiny_steps.run(**ACCUMULATED))


def test_replicas_drop_different_units(mirrored):
    found = of_case(mirrored, "dropped")
    draws = {name: value for name, value in found.items() if name.startswith("draws/")}
    # Of the state [2] the second number counts draws; the first belongs to the replica.
    different = [value for value in draws.values() if value[0].tolist() != value[1].tolist()]
    assert len(different) == len(draws) > 1
    assert found["terms/0/finite"]


def test_replicas_compute_activations_again(mirrored):
    # With masks, noise on the weights, and statistics over both replicas.
    found, expected = of_case(mirrored, "recomputed"), of_case(mirrored, "dropped")
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_micro_batches_of_two_buckets_make_the_step_of_one_large_batch(jit_compile):
    whole = tiny_steps.Tiny(tiny_steps.tiny_config())
    parts = tiny_steps.Tiny(tiny_steps.tiny_config(accumulate_steps=2, jit_compile=jit_compile))
    for step in range(2):
        # Utterances count alike, four in the one micro-batch and two in the other.
        batches = [tiny_steps.batch(2 * step), tiny_steps.batch(2 * step + 1)]
        want, got = whole.step([merge(batches)], tf.constant(step)), parts.step(batches, tf.constant(step))
        assert set(got) == set(want)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4, err_msg=name)
    want, got = whole.arrays(), parts.arrays()
    for name in want:
        if not name.startswith("draws/"):
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=2e-6, err_msg=name)
    # XLA: one for each bucket.
    assert parts.step.compiled.experimental_get_tracing_count() == (2 if jit_compile else 1)


def test_a_step_wants_its_number_of_micro_batches():
    step = tiny_steps.Tiny(tiny_steps.tiny_config(accumulate_steps=2)).step
    with pytest.raises(ValueError, match="1 batches for a step of 2"):
        step([tiny_steps.batch(0)], tf.constant(0))
    with pytest.raises(ValueError, match="train.accumulate_steps"):
        tiny_steps.Tiny(tiny_steps.tiny_config(accumulate_steps=0))
