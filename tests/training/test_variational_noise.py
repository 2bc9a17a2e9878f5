"""Noise on the weights of the forward pass: its size, its gradients, what it leaves alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.variational_noise import VariationalNoise


def network(dropout=0.0):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.layers.Dense(200, use_bias=False, name="first"), keras.layers.Dropout(dropout),
         keras.layers.Dense(1, name="second")]
    )
    model.build((None, 100))
    return model


def noise_on(model, **changes):
    config = default_config().variational_noise
    config.update(changes)
    return VariationalNoise(config, model=model, seed=3)


def seen(model, noise, step):
    """The first layer's kernel as the forward pass has it at a step."""
    with noise.applied(tf.constant(step)):
        return model.layers[0](tf.eye(100)).numpy()


def test_noise_is_gaussian_from_its_step_on_and_leaves_the_weights():
    model = network()
    clean = model.layers[0].kernel.numpy()
    noise = noise_on(model, deviation=0.05, begin=10)
    np.testing.assert_allclose(seen(model, noise, 9), clean, atol=1e-6)
    first, second = seen(model, noise, 10) - clean, seen(model, noise, 11) - clean
    for values in (first, second):
        # 20,000 samples: five standard errors.
        assert abs(values.std() - 0.05) < 5 * 0.05 / np.sqrt(2 * 20_000)
        assert abs(values.mean()) < 5 * 0.05 / np.sqrt(20_000)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(seen(model, noise, 10) - clean, first)
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), clean)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_are_those_at_the_noisy_weights(jit_compile):
    model = network()
    noise = noise_on(model, deviation=0.1, include=("first",))
    inputs = tf.constant(np.random.default_rng(0).normal(size=[4, 100]), tf.float32)

    @tf.function(jit_compile=jit_compile)
    def gradients(step):
        with tf.GradientTape() as tape, noise.applied(step):
            loss, noisy = tf.reduce_mean(model(inputs) ** 2), model.layers[0](tf.eye(100))
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables]), noisy

    kernel, second, bias = (variable.numpy().astype(np.float64) for variable in model.trainable_variables)
    got, noisy = gradients(tf.constant(4))
    noisy = noisy.numpy().astype(np.float64)
    hidden = inputs.numpy() @ noisy
    outputs = 2 * (hidden @ second + bias) / 4
    np.testing.assert_allclose(got[0], inputs.numpy().T @ (outputs @ second.T), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got[1], hidden.T @ outputs, rtol=1e-3, atol=1e-4)
    assert np.abs(noisy - kernel).max() > 0.1


def test_dropout_moves_on_as_without_noise():
    def outputs(deviation):
        model = network(dropout=0.5)
        noise = noise_on(model, deviation=deviation, include=("second/bias",))

        @tf.function
        def forward(step):
            with noise.applied(step):
                return model(tf.ones([1, 100]), training=True)

        values = [forward(tf.constant(step)).numpy() for step in range(3)]
        return values, [variable.numpy() for variable in model.non_trainable_variables]

    noisy, noisy_seeds = outputs(1e-6)
    clean, clean_seeds = outputs(0.0)
    np.testing.assert_allclose(noisy, clean, atol=1e-4)
    assert not np.allclose(clean[0], clean[1])
    assert len(clean_seeds) == 1
    np.testing.assert_array_equal(noisy_seeds, clean_seeds)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"deviation": -1.0}, "variational_noise.deviation"),
        ({"deviation": 0.1, "include": ("third",)}, "'third' fits none.*first"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        noise_on(network(), **changes)
