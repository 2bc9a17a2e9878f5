"""Encoders whose backward pass computes activations again: the same numbers to the last bit, in less memory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.models import ConformerEncoder, LSTMEncoder
from tf_rnnt_kd.training.graph_memory import peak_memory

FEATURES = np.random.default_rng(0).normal(size=[3, 48, 7]).astype(np.float32)
LENGTHS = np.array([48, 29, 1], np.int32)


def conformer(dtype=None, **changes):
    """With all that draws or keeps something: dropout, stochastic depth, running statistics."""
    keras.utils.set_random_seed(3)
    settings = {
        "width": 16, "num_layers": 2, "num_heads": 2, "kernel_size": 5, "subsampling": 4, "channels": 4, "dropout": 0.3,
        "position_encoding": "relative", "convolution_norm": "batch", "stochastic_depth": 0.4,
        "time_reduction_after": (0,),
    }  # fmt: skip
    layer = ConformerEncoder(**{**settings, **changes}, dtype=dtype)
    layer.build((None, None, 7))
    return layer


def lstm(dtype=None, **changes):
    keras.utils.set_random_seed(3)
    layer = LSTMEncoder(8, subsampling=2, channels=4, dropout=0.3, **changes, dtype=dtype)
    layer.build((None, None, 7))
    return layer


def traced(layer, mode, *, jit_compile=False):
    """A function of features and lengths: {"frames", "to_features", path of a weight: gradient}."""
    variables = layer.trainable_variables

    @tf.function(jit_compile=jit_compile, autograph=False)
    def gradients(features, lengths):
        layer.recompute = mode  # when it is traced
        with tf.GradientTape() as tape:
            tape.watch(features)
            frames, _ = layer(features, lengths, training=True)
            # Not linear: behind a norm the gradient of a sum is nearly zero.
            loss = tf.reduce_sum(tf.square(tf.cast(frames, tf.float32)) * tf.range(1.0, frames.shape[-1] + 1.0))
        found = tape.gradient(loss, [features, *(variable.value for variable in variables)])
        return {"frames": frames, **dict(zip(["to_features", *(v.path for v in variables)], found, strict=True))}

    return gradients


def one_step(layer, function):
    """What `traced` gives, and `after <path>` of each state; the layer is left as it was."""
    states = layer.non_trainable_variables
    before = [state.numpy() for state in states]
    found = function(tf.constant(FEATURES), tf.constant(LENGTHS))
    found = {name: tf.cast(value, tf.float32).numpy() for name, value in found.items()}
    found.update({f"after {state.path}": state.numpy() for state in states})
    assert any((found[f"after {state.path}"] != old).any() for state, old in zip(states, before, strict=True))
    for state, old in zip(states, before, strict=True):
        state.assign(old)
    return found


@pytest.fixture(scope="module")
def expected():
    """A Conformer, and what a step gives that keeps everything."""
    layer = conformer()
    return layer, one_step(layer, traced(layer, "none"))


def assert_no_bit_differs(got, want):
    assert set(got) == set(want) and all(np.isfinite(value).all() for value in want.values())
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def assert_close(got, want, tolerance):
    assert set(got) == set(want)
    for name, value in want.items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(got[name], value, atol=tolerance * scale, err_msg=name)


def test_blocks_computed_again_change_no_bit(expected):
    layer, want = expected
    again = traced(layer, "blocks")
    assert_no_bit_differs(one_step(layer, again), want)
    # Other masks would show: with the next draws the gradients are far away.
    layer.blocks[0].residual_dropout.seed_generator.state.assign_add([0, 1])
    other = one_step(layer, again)
    layer.blocks[0].residual_dropout.seed_generator.state.assign_sub([0, 1])
    assert any(np.abs(other[name] - value).max() > 0.01 * np.abs(value).max() for name, value in want.items())


@pytest.mark.parametrize("make, dtype", [(conformer, "mixed_bfloat16"), (lstm, None)])
def test_neither_in_mixed_precision_nor_of_lstms(make, dtype):
    layer = make(dtype, num_layers=1, time_reduction_after=())
    assert_no_bit_differs(one_step(layer, traced(layer, "blocks")), one_step(layer, traced(layer, "none")))


def test_the_subsampling_utterance_by_utterance_changes_rounding_only(expected):
    layer, want = expected
    assert_close(one_step(layer, traced(layer, "all")), want, 1e-5)


def test_under_xla():
    layer = conformer(num_layers=1, subsampling=2, time_reduction_after=(), position_encoding="none")
    none, everything = (one_step(layer, traced(layer, mode, jit_compile=True)) for mode in ("none", "all"))
    assert_close(everything, none, 1e-4)


def test_a_deeper_encoder_takes_less_memory():
    layer = conformer(num_layers=3, time_reduction_after=(), position_encoding="none")

    def peak(mode):
        function = traced(layer, mode)
        return peak_memory(function.get_concrete_function(tf.TensorSpec([4, 800, 7]), tf.TensorSpec([4], tf.int32)))

    none, blocks = peak("none"), peak("blocks")
    # Of three blocks one and its gradients are live at a time.
    assert blocks.total < 0.6 * none.total
    # The estimate before a training tells the encoder's from the rest by name.
    assert sum(size for name, size in blocks.by_operation.items() if "conformer_encoder" in name) > 0.5 * blocks.total


def test_without_training_nothing_is_drawn_and_unknown_modes_are_refused():
    layer = conformer()
    expected = layer(FEATURES, tf.constant(LENGTHS))[0]
    layer.recompute = "all"
    np.testing.assert_array_equal(layer(FEATURES, tf.constant(LENGTHS))[0], expected)
    assert "recompute" not in layer.get_config()
    with pytest.raises(ValueError, match="train.recompute 'some'.*none, blocks, all"):
        layer.recompute = "some"
