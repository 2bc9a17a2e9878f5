"""The benchmark of a training step runs on a small one, floor and all. No time is asserted."""

import math

from benchmarks import train_step, train_step_tf


def test_a_small_step_and_its_floor():
    size = train_step.Size(batch=2, frames=80, labels=4, vocab=12, preset="digits_student", joint_width=96)._asdict()
    found = train_step_tf.time_step(size=size, repetitions=1, jit_compile=False)
    assert math.isfinite(found["ratio"]) and found["parameters"] > 0 and 0 < found["joint_share"] < 1
    # Forward and both gradients of at least the three convolutions that subsample and of 20 dense layers.
    assert found["products"] > 3 * 23
    figures = {"step": found, "memory": {"first": 1, "later": 1}}
    assert train_step.lines(figures)[0].startswith("parameters: ")
