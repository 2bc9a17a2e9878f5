"""Optimizer, sparsity and averaged weights on two replicas: equal on both, and equal to one device."""

import json
import pathlib
import subprocess
import sys

import numpy as np

_TWO = """
import json
import keras
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.optimizer import WeightAverage, build_optimizer
from tf_rnnt_kd.training.sparsity import Sparsity

SHAPES = {"encoder_kernel": (4, 6), "joint_kernel": (6, 5), "joint_bias": (5,)}

class Weights(keras.Model):
    def __init__(self, seed):
        super().__init__(name="transducer")
        rng = np.random.default_rng(seed)
        for name, shape in SHAPES.items():
            start = keras.initializers.Constant(rng.normal(size=shape).astype(np.float32))
            self.add_weight(name=name, shape=shape, initializer=start)
        self.built = True

def train(strategy, name, inside=True):
    config = default_config()
    config.optimizer.update(name=name, schedule="constant", warmup_steps=0, clip_norm=1.0)
    config.sparsity.update(target=0.5, begin=1, end=4, frequency=2, block=(2, 1))
    with strategy.scope():
        model, averaged = Weights(0), Weights(1)
        optimizer = build_optimizer(config.optimizer, steps=10)
        optimizer.build(model.trainable_variables)
        average = WeightAverage(model, average_model=averaged, decay=0.9)
        averages = [averaged.trainable_variables]
        sparsity = Sparsity(config.sparsity, model.trainable_variables, steps=5, averages=averages)
    average.start()

    @tf.function
    def step(gradients, count):
        def change(gradients, count):
            optimizer.apply(gradients, model.trainable_variables)
            sparsity.after_update(count)
            average.update(optimizer.iterations - 1)
            return tf.constant(True)

        if inside:
            strategy.run(change, args=(gradients, count))
        else:
            gradients = strategy.run(lambda own: [gradient * 1.0 for gradient in own], args=(gradients,))
            with strategy.scope():
                tf.cond(count >= 0, lambda: change(gradients, count), lambda: tf.constant(False))

    rng = np.random.default_rng(2)
    for count in range(5):
        step([tf.constant(rng.normal(size=shape), tf.float32) for shape in SHAPES.values()], tf.constant(count))
    values = []
    for variable in [*model.weights, *averaged.weights, *optimizer.variables, *sparsity.variables]:
        local = [copy.numpy() for copy in strategy.experimental_local_results(variable.value)]
        assert all(np.array_equal(copy, local[0]) for copy in local), f"replicas drifted apart: {variable.path}"
        values.append(local[0].astype(float).tolist())
    return len(local), values

two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
ways = ((tf.distribute.get_strategy(), True), (two, True), (two, False))
print(json.dumps({name: [train(s, name, inside) for s, inside in ways] for name in NAMES}))
"""


def test_two_replicas_change_as_one_device_does():
    # In a process of its own: a process that has used TensorFlow can no longer split its CPU in two.
    done = subprocess.run(
        [sys.executable, "-c", _TWO.replace("NAMES", '["adamw", "adafactor"]')], capture_output=True, text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    for (count, one), *others in json.loads(done.stdout.splitlines()[-1]).values():
        assert [count, *(replicas for replicas, _ in others)] == [1, 2, 2]
        # From within strategy.run, and from outside of it under a condition.
        for _, two in others:
            for got, want in zip(two, one, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
        # Blocks of two rows: 12 and 15, of which half stay (15 / 2 rounds to even: 8).
        for index, kept in ((0, 12), (1, 16)):
            weight, averaged = np.array(one[index]), np.array(one[3 + index])
            assert np.count_nonzero(weight) == np.count_nonzero(averaged) == kept
            assert ((weight == 0) == (averaged == 0)).all()
