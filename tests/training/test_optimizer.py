"""Updates against Keras's own optimizers and published formulas; parts, clipping, XLA."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.training.adafactor import Adafactor
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.learning_rate import build_schedule
from tf_rnnt_kd.training.optimizer import Optimizer, build_optimizer, global_norm, part_of

SHAPES = {"encoder": (4, 3), "predictor": (5, 4, 2), "joint_kernel": (3, 6), "joint_bias": (6,)}


class Weights(keras.Model):
    """Variables with the paths of a Transducer, and nothing else."""

    def __init__(self):
        super().__init__(name="transducer")
        for name, shape in SHAPES.items():
            self.add_weight(name=name, shape=shape, initializer="zeros")
        self.built = True


def weights(seed=0):
    model = Weights()
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    return model


def gradients(seed, scale=1.0):
    rng = np.random.default_rng(100 + seed)
    return [tf.constant(scale * rng.normal(size=shape), tf.float32) for shape in SHAPES.values()]


def settings(**changes):
    config = default_config().optimizer
    config.update(warmup_steps=2, clip_norm=0.0, weight_decay=0.0, **changes)
    return config


def updated(optimizer, model, *, steps=5, jit_compile=False, scale=1.0):
    """Arrays after some updates, by the variables' names."""
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step(own):
        optimizer.apply(own, model.trainable_variables)

    for index in range(steps):
        step(gradients(index, scale))
    return {variable.name: variable.numpy() for variable in model.weights}


def assert_equal(got, want, rtol=1e-5):
    for name in SHAPES:
        np.testing.assert_allclose(got[name], want[name], rtol=rtol, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_adamw_is_that_of_keras(jit_compile):
    config = settings()
    config.update(weight_decay=0.1, clip_norm=3.0)
    got = updated(build_optimizer(config, steps=10), weights(), jit_compile=jit_compile)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=8, warmup_target=config.peak_learning_rate, warmup_steps=2
    )
    theirs = keras.optimizers.AdamW(schedule, weight_decay=0.1, beta_2=0.98, epsilon=1e-8, global_clipnorm=3.0)
    assert_equal(got, updated(theirs, weights()))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_adafactor_without_momentum_is_that_of_keras_in_less_memory(jit_compile):
    model = weights()
    optimizer = build_optimizer(settings(name="adafactor", schedule="constant", beta_1=0.0, beta_2=None), steps=10)
    got = updated(optimizer, model, jit_compile=jit_compile)
    # A schedule, because a number would follow Keras's own relative step.
    theirs = keras.optimizers.Adafactor(build_schedule("constant", peak=2e-3, warmup_steps=2, steps=10))
    assert_equal(got, updated(theirs, weights()))
    held = sum(int(np.prod(variable.shape)) for variable in optimizer.variables[1:])
    assert held == (4 + 3) + (5 * 4 + 5 * 2) + (3 + 6) + 6


def test_adafactor_with_momentum_by_hand():
    rate, beta_1, beta_2 = 0.1, 0.9, 0.98
    model, rng = weights(), np.random.default_rng(3)
    optimizer = Adafactor(rate, beta_1=beta_1, beta_2=beta_2)
    variable = model.trainable_variables[0]
    want = variable.numpy().astype(np.float64)
    optimizer.build([variable])
    rows, columns, momentum = np.zeros(4), np.zeros(3), np.zeros((4, 3))
    for n in range(1, 4):
        gradient = rng.normal(size=(4, 3))
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
        decay = beta_2 * (1 - beta_2 ** (n - 1)) / (1 - beta_2**n)
        rows = decay * rows + (1 - decay) * (gradient**2).sum(1)
        columns = decay * columns + (1 - decay) * (gradient**2).sum(0)
        # The paper's sums: V = R C / (1' R), over n columns and m rows.
        update = gradient / np.sqrt(np.outer(rows, columns) / rows.sum())
        update /= max(1.0, np.sqrt(np.mean(update**2)))
        momentum = beta_1 * momentum + (1 - beta_1) * rate * np.sqrt(np.mean(want**2)) * update
        want = want - momentum
    np.testing.assert_allclose(variable.numpy(), want, rtol=1e-5)


@pytest.mark.parametrize(
    "name, rates",
    [
        ("constant", {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0, 99: 1.0}),
        ("transformer", {0: 0.25, 1: 0.5, 3: 1.0, 15: 0.5, 99: 0.2}),
        ("cosine", {0: 0.0, 2: 0.5, 4: 1.0, 52: 0.5, 100: 0.0}),
    ],
)
def test_schedules(name, rates):
    schedule = build_schedule(name, peak=3.0, warmup_steps=4, steps=100)
    for step, share in rates.items():
        np.testing.assert_allclose(schedule(tf.constant(step)), 3.0 * share, rtol=1e-5, atol=1e-6, err_msg=str(step))
    again = type(schedule).from_config(schedule.get_config())
    np.testing.assert_allclose(again(7), schedule(7))


def test_parts_have_their_own_rates_and_warm_ups():
    config = settings(schedule="constant", beta_1=0.0)
    config.update(weight_decay=0.5)
    whole = updated(build_optimizer(config, steps=10), weights(), steps=1)
    config.multipliers.encoder = 0.0
    config.multipliers.joint = 3.0
    config.part_warmup_steps.predictor = 1
    parts = updated(build_optimizer(config, steps=10), weights(), steps=1)
    start = {variable.name: variable.numpy() for variable in weights().weights}
    moved = {name: parts[name] - start[name] for name in SHAPES}
    # In the first update a warm-up of two steps gives half the rate; decay scales with the rate.
    for name, factor in {"encoder": 0.0, "predictor": 2.0, "joint_kernel": 3.0, "joint_bias": 3.0}.items():
        first = factor * (whole[name] - start[name])
        np.testing.assert_allclose(moved[name], first, rtol=2e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "path, part",
    [
        ("transducer/encoder/block_0/attention/kernel", "encoder"),
        ("transducer/encoder_projection/kernel", "joint"),
        ("transducer/joint_bias", "joint"),
        ("predictor/embedding/embeddings", "predictor"),
        ("hidden_projections/block_1/encoder/kernel", None),
    ],
)
def test_parts_by_path(path, part):
    assert part_of(path) == part


def test_clipping_bounds_the_whole_gradient_and_leaves_small_ones():
    class Plain(keras.optimizers.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, gradient)

    for scale, clipped in ((1.0, True), (1e-3, False)):
        schedules = {part: build_schedule("constant", peak=1.0, warmup_steps=0, steps=1) for part in (None, "joint")}
        schedules.update(encoder=schedules[None], predictor=schedules[None])
        model, own = weights(), gradients(0, scale)
        start = [variable.numpy() for variable in model.weights]
        updated(Optimizer(Plain(1.0), schedules=schedules, clip_norm=0.5), model, steps=1, scale=scale)
        moved = np.concatenate([(a - b.numpy()).ravel() for a, b in zip(start, model.weights, strict=True)])
        flat = np.concatenate([g.numpy().ravel() for g in own])
        want = flat * 0.5 / np.linalg.norm(flat) if clipped else flat
        np.testing.assert_allclose(moved, want, rtol=1e-3, atol=1e-6)


def test_the_norm_adds_rows_that_occur_twice():
    twice = tf.IndexedSlices(tf.constant([[3.0], [1.0]]), indices=tf.constant([1, 1]), dense_shape=tf.constant([4, 1]))
    np.testing.assert_allclose(global_norm([twice, None, tf.constant([3.0])]), 5.0)


def test_variables_without_gradient_stay_and_no_gradient_at_all_is_an_error():
    model, optimizer = weights(), build_optimizer(settings(schedule="constant"), steps=10)
    optimizer.build(model.trainable_variables)
    before = model.weights[1].numpy()
    own = gradients(0)
    optimizer.apply([own[0], None, *own[2:]], model.trainable_variables)
    np.testing.assert_array_equal(model.weights[1].numpy(), before)
    with pytest.raises(ValueError, match="no trainable variable has a gradient"):
        optimizer.apply([None] * 4, model.trainable_variables)


def test_decay_spares_what_it_is_told_to():
    config = settings(schedule="constant")
    config.update(weight_decay=10.0, no_decay=("joint_bias",))
    model = weights()
    start = {variable.name: variable.numpy() for variable in model.weights}
    got = updated(build_optimizer(config, steps=10), model, steps=1, scale=0.0)
    np.testing.assert_array_equal(got["joint_bias"], start["joint_bias"])
    np.testing.assert_allclose(got["joint_kernel"], start["joint_kernel"] * (1 - 10 * 1e-3), rtol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"name": "sgd"}, "optimizer.name 'sgd'.*adafactor"),
        ({"schedule": "linear"}, "optimizer.schedule 'linear'.*transformer"),
        ({"name": "adam"}, "weight_decay=0 .not 0.5."),
        ({"schedule": "transformer", "warmup_steps": 0}, "warmup_steps"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message):
    config = settings()
    config.update(weight_decay=0.5)
    config.update(changes)
    with pytest.raises(ValueError, match=message):
        build_optimizer(config, steps=10)
    with pytest.raises(ValueError, match="encoder, predictor, joint.*decoder"):
        bad = settings()
        with bad.unlocked():
            bad.multipliers.decoder = 1.0
        build_optimizer(bad, steps=10)
