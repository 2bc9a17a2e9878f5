"""The losses where training calls them: in a Keras model of mixed precision, in replicas, in traces of any length."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import joint_batch

from tf_rnnt_kd import lattice, losses
from tf_rnnt_kd.losses import LossInputs, Objective

_PROJECT = Path(__file__).parents[2]


class Transducer(keras.Model):
    """Features and previous symbols to the loss of each utterance, by the fused joint or by dense logits."""

    def __init__(self, *, fused, dtype):
        super().__init__(dtype=dtype)
        self.fused = fused
        self.encoder = keras.layers.Dense(6, dtype=dtype)
        self.predictor = keras.layers.Embedding(5, 6, dtype=dtype)
        self.joint = keras.layers.Dense(5, dtype=dtype)

    def build(self, shapes):
        self.encoder.build(shapes["features"])
        self.predictor.build(shapes["labels"])
        self.joint.build([None, 6])

    def call(self, inputs):
        labels = inputs["labels"]
        lengths = {key: inputs[key] for key in ("logit_lengths", "label_lengths")}
        encoded = self.encoder(inputs["features"])
        predicted = self.predictor(tf.pad(labels, [[0, 0], [1, 0]]))
        if self.fused:
            parts = encoded, predicted, self.joint.kernel.value, self.joint.bias.value
            return losses.rnnt(lattice.node_log_probs(*parts, labels=labels, **lengths), **lengths)
        logits = self.joint(tf.tanh(encoded[:, :, None] + predicted[:, None]))
        assert logits.dtype == self.compute_dtype
        return losses.rnnt_loss(logits, labels=labels, **lengths)


def _utterances(seed=0):
    arrays, labels, lengths = joint_batch(seed, batch=4)
    return {"features": arrays[0], "labels": labels, **lengths}


@pytest.mark.parametrize(("fused", "jit_compile"), [(True, True), (True, False), (False, True)])
def test_a_keras_model_of_mixed_precision_trains(fused, jit_compile):
    data = _utterances()
    models = []
    for policy in ("mixed_bfloat16", "float32"):
        keras.utils.set_random_seed(0)
        models.append(Transducer(fused=fused, dtype=keras.DTypePolicy(policy)))
    half, single = (model(data).numpy() for model in models)
    assert half.dtype == single.dtype == np.float32
    assert np.any(half != single)
    np.testing.assert_allclose(half, single, rtol=0.02)  # eight bits of mantissa in the encoder and the joint
    model = models[0]
    assert all(variable.dtype == "float32" for variable in model.trainable_variables)
    model.compile(keras.optimizers.SGD(0.05), loss=lambda _, loss: tf.reduce_mean(loss), jit_compile=jit_compile)
    seen = model.fit(data, np.zeros(4), batch_size=4, epochs=6, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(seen[0], half.mean(), rtol=1e-2)
    assert np.all(np.diff(seen) < 0) and seen[-1] < 0.9 * seen[0]


_REPLICAS = """
import json, sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tf_rnnt_kd import lattice, losses

given = json.load(sys.stdin)
weights, rest = given["weights"], given["batch"]
batch = {key: np.array(x, np.float32 if key == "encoder" else np.int32) for key, x in rest.items()}
results = {}
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name, strategy in (("one", tf.distribute.get_strategy()), ("two", two)):
    with strategy.scope():
        variables = [tf.Variable(np.array(w, np.float32)) for w in weights]

    def step(encoder, labels, logit_lengths, label_lengths):
        lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
        with tf.GradientTape() as tape:
            predictor = tf.one_hot(tf.pad(labels, [[0, 0], [1, 0]]), 5) @ variables[0]
            nodes = lattice.node_log_probs(encoder, predictor, *variables[1:], labels=labels, **lengths)
            teacher = tf.nest.map_structure(tf.stop_gradient, nodes)
            loss = losses.rnnt(nodes, fastemit_lambda=0.1, **lengths)
            loss += losses.collapsed(teacher, nodes, shift=1, **lengths)
            total = tf.reduce_sum(loss)
        gradients = tape.gradient(total, variables)
        gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
        for variable, gradient in zip(variables, gradients):
            variable.assign_sub(0.01 * gradient)
        return loss

    def replica_batch(context):
        rows = slice(context.replica_id_in_sync_group, None, context.num_replicas_in_sync)
        return {key: tf.constant(x[rows]) for key, x in batch.items()}

    count = strategy.num_replicas_in_sync
    parts = [strategy.experimental_distribute_values_from_function(
        lambda context, key=key: replica_batch(context)[key]) for key in batch]
    run = tf.function(lambda *x: strategy.run(step, args=x), autograph=False)
    losses_seen = []
    for _ in range(2):
        per_replica = strategy.experimental_local_results(run(*parts))
        assert len(per_replica) == count
        together = np.zeros(len(batch["encoder"]))
        for i, part in enumerate(per_replica):
            together[i::count] = part
        losses_seen.append(together.tolist())
    copies = [[x.numpy().tolist() for x in strategy.experimental_local_results(v)] for v in variables]
    assert all(copy == both[0] for both in copies for copy in both), "replicas drifted apart"
    results[name] = [losses_seen, [both[0] for both in copies]]
print(json.dumps(results))
"""


def test_two_mirrored_replicas_learn_what_one_learns_from_the_whole_batch():
    arrays, labels, lengths = joint_batch(1, batch=4)
    embedding = np.random.default_rng(2).normal(size=[5, 6])
    given = {
        "weights": [embedding.tolist(), arrays[2].tolist(), arrays[3].tolist()],
        "batch": {
            "encoder": arrays[0].tolist(),
            "labels": labels.tolist(),
            **{key: value.tolist() for key, value in lengths.items()},
        },
    }
    # In a process of its own: a process that has used TensorFlow can no longer split its CPU in two.
    done = subprocess.run(
        [sys.executable, "-c", _REPLICAS], input=json.dumps(given), cwd=_PROJECT, capture_output=True, text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    for one, two in zip(results["one"], results["two"], strict=True):
        for got, want in zip(two, one, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    first, second = results["one"][0]
    assert np.all(np.isfinite(first)) and sum(second) < sum(first)


def _step(logits, labels, logit_lengths, label_lengths):
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nodes = lattice.node_log_probs_from_logits(logits, labels=labels, **lengths)
        teacher = tf.nest.map_structure(tf.stop_gradient, lattice.NodeLogProbs(*(0.5 * x for x in nodes)))
        objective = Objective({"rnnt": {}, "best_path": {}, "alignment_kl": {}})
        total, _ = objective(LossInputs(nodes, teacher=teacher, **lengths))
    return total, tape.gradient(total, logits)


def test_traces_do_not_grow_with_random_lengths():
    vector, rng = tf.TensorSpec([None], tf.int32), np.random.default_rng(3)
    signature = [tf.TensorSpec([None, None, None, 4]), tf.TensorSpec([None, None], tf.int32), vector, vector]
    any_shape = tf.function(_step, input_signature=signature, autograph=False)
    one_bucket = tf.function(_step, jit_compile=True, autograph=False)
    for _ in range(6):
        batch, frames, size = rng.integers(1, 5), rng.integers(1, 8), rng.integers(0, 5)
        logits = rng.normal(size=[batch, frames, size + 1, 4]).astype(np.float32)
        labels = rng.integers(1, 4, size=[batch, size])
        lengths = rng.integers(1, frames + 1, size=batch), rng.integers(0, size + 1, size=batch)
        total, gradient = any_shape(logits, *(tf.constant(x, tf.int32) for x in (labels, *lengths)))
        # The same batch padded to the bucket that a compiled step would have been given.
        rows, more, longer = 4 - batch, 7 - frames, 4 - size
        padded = np.pad(logits, [[0, rows], [0, more], [0, longer], [0, 0]])
        labels = np.pad(labels, [[0, rows], [0, longer]])
        lengths = [np.pad(x, [0, rows]) for x in lengths]  # dummy rows: 0 frames, 0 labels
        given = [tf.constant(padded), *(tf.constant(x, tf.int32) for x in (labels, *lengths))]
        bucket_total, bucket_gradient = one_bucket(*given)
        np.testing.assert_allclose(bucket_total[:batch], total, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(bucket_gradient[:batch, :frames, : size + 1], gradient, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(bucket_total[batch:], 0.0)
        assert np.all(np.isfinite(bucket_gradient)) and not np.any(bucket_gradient[batch:])
    assert any_shape.experimental_get_tracing_count() == 1
    assert one_bucket.experimental_get_tracing_count() == 1
