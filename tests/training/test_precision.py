"""Number formats: losses stay float32 and near those of float32; the scale that keeps float16 gradients alive."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_steps

from tf_rnnt_kd.training.precision import LossScale, layers_in


@functools.cache
def tiny_in(precision):
    """A model and its step, the same for all tests: graphs take seconds to trace."""
    return tiny_steps.Tiny(tiny_steps.tiny_config(precision=precision))


@pytest.fixture(scope="module")
def float32():
    """Weights before a step, and the terms of that step."""
    tiny = tiny_in("float32")
    weights = [variable.numpy() for variable in tiny.model.weights]
    return weights, tiny.step([tiny_steps.batch(0)], tf.constant(0))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_losses_are_float32_and_near_those_of_float32(precision, float32):
    weights, want = float32
    tiny = tiny_in(precision)
    for variable, value in zip(tiny.model.weights, weights, strict=True):
        variable.assign(value)
    terms = tiny.step([tiny_steps.batch(0)], tf.constant(0))
    assert terms["loss"].dtype == tf.float32 and bool(terms["finite"])
    np.testing.assert_allclose(terms["loss"], want["loss"], rtol=0.02)
    np.testing.assert_allclose(terms["gradient_norm"], want["gradient_norm"], rtol=0.1)
    assert float(terms["loss"]) != float(want["loss"])
    assert tiny.model.joint_kernel.dtype == ("bfloat16" if precision == "bfloat16" else "float32")
    # What is evaluated and exported.
    assert {variable.dtype for variable in tiny.averaged.trainable_weights} == {"float32"}


def test_layers_compute_in_the_precision_and_the_setting_ends():
    with layers_in("mixed_bfloat16"):
        layer = keras.layers.Dense(2)
    assert layer.compute_dtype == "bfloat16" and layer.variable_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    with pytest.raises(ValueError, match="unknown train.precision 'fp8'.*mixed_float16"), layers_in("fp8"):
        pass


def test_a_scale_that_is_too_large_costs_the_step_but_no_alarm():
    tiny = tiny_in("mixed_float16")
    scale, _ = tiny.loss_scale.variables
    scale.assign(2.0**24)
    before = tiny.arrays()
    terms = tiny.step([tiny_steps.batch(0)], tf.constant(0))
    assert not np.isfinite(terms["gradient_norm"]) and bool(terms["finite"])
    assert float(terms["loss_scale"]) == 2.0**24 and float(scale) == 2.0**23
    after = tiny.arrays()
    for name, value in before.items():
        if not name.startswith("draws/"):
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    # A loss that is not finite is the batch's fault, whatever the scale.
    batch = tiny_steps.batch(0)
    batch["features"] = tf.fill(batch["features"].shape, np.inf)
    assert not bool(tiny.step([batch], tf.constant(1))["finite"])


def test_the_scale_doubles_after_finite_steps_and_halves_down_to_one():
    scale = LossScale("mixed_float16", initial=4.0, growth_steps=2)
    seen = []
    for finite in (True, True, True, False, True, True, False, False, False, False, False):
        scale.update(tf.constant(finite))
        seen.append(float(scale.value))
    assert seen == [4, 8, 8, 4, 4, 8, 4, 2, 1, 1, 1]
    largest = LossScale("mixed_float16", initial=2.0**24, growth_steps=1)
    largest.update(tf.constant(True))
    assert float(largest.value) == 2.0**24


def test_other_precisions_have_no_scale():
    scale = LossScale("mixed_bfloat16")
    scale.update(tf.constant(False))
    assert float(scale.value) == 1.0 and scale.variables == [] and not scale.is_on
