"""LSTMs against a loop over scalars' definitions in float64, both directions, and the recurrent predictor."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.models import LSTMEncoder, LSTMPredictor
from tf_rnnt_kd.models.lstm import LSTMBlock
from tf_rnnt_kd.models.recurrent import LSTM

OPTIONS = [
    {},
    {"projection": 2},
    {"coupled_gates": True},
    {"layer_norm": True},
    {"projection": 3, "coupled_gates": True, "layer_norm": True},
]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def reference(layer, frames):
    """Outputs for frames [T, C] of one utterance, from the equations of the class."""
    weights = {weight.name: weight.numpy().astype(np.float64) for weight in layer.weights}
    units, outputs = layer.units, []
    h, c = np.zeros(layer.output_width), np.zeros(units)
    for x in frames:
        gates = np.split(x @ weights["kernel"] + h @ weights["recurrent_kernel"], layer.num_gates)
        if layer.layer_norm:
            gates = [norm(gate) * scale for gate, scale in zip(gates, weights["gate_scale"], strict=True)]
        gates = [gate + bias for gate, bias in zip(gates, weights["bias"], strict=True)]
        forget, candidate, out = sigmoid(gates[-3]), np.tanh(gates[-2]), sigmoid(gates[-1])
        c = forget * c + (1 - forget if layer.num_gates == 3 else sigmoid(gates[0])) * candidate
        shown = norm(c) * weights["cell_scale"] + weights["cell_shift"] if layer.layer_norm else c
        h = out * np.tanh(shown)
        if "projection" in weights:
            h = h @ weights["projection"]
        outputs.append(h)
    return np.stack(outputs)


def randomised(layer, seed=0):
    random = np.random.default_rng(seed)
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.weights])
    return layer


@pytest.mark.parametrize("options", OPTIONS)
def test_lstm_equals_its_equations(options):
    layer = LSTM(5, **options)
    layer.build((None, None, 4))
    # It begins with the forget gate at one and the others at zero.
    bias = layer.bias.numpy()
    np.testing.assert_array_equal(bias.sum(axis=1), 5.0 * (np.arange(layer.num_gates) == layer.num_gates - 3))
    randomised(layer)
    x = np.random.default_rng(1).normal(size=[2, 6, 4])
    outputs = layer(tf.constant(x, tf.float32), tf.constant([6, 4]))
    np.testing.assert_allclose(outputs[0], reference(layer, x[0]), atol=1e-5)
    np.testing.assert_allclose(outputs[1, :4], reference(layer, x[1, :4]), atol=1e-5)


def test_plain_lstm_equals_keras():
    layer, theirs = LSTM(5), keras.layers.LSTM(5, return_sequences=True)
    for each in (layer, theirs):
        each.build((None, None, 4))
    randomised(layer)
    theirs.set_weights([layer.kernel, layer.recurrent_kernel, tf.reshape(layer.bias, [-1])])
    x = np.random.default_rng(1).normal(size=[2, 6, 4]).astype(np.float32)
    np.testing.assert_allclose(layer(x, tf.constant([6, 6])), theirs(x), atol=1e-5)


def test_the_backward_direction_begins_at_each_utterances_end():
    block = LSTMBlock(3, bidirectional=True)
    block.build((None, None, 4))
    randomised(block)
    x = np.random.default_rng(1).normal(size=[2, 6, 4])
    outputs = block(tf.constant(x, tf.float32), tf.constant([6, 4]))
    for i, length in enumerate([6, 4]):
        np.testing.assert_allclose(outputs[i, :length, :3], reference(block.forward, x[i, :length]), atol=1e-5)
        backward = reference(block.backward, x[i, :length][::-1])[::-1]
        np.testing.assert_allclose(outputs[i, :length, 3:], backward, atol=1e-5)
    with pytest.raises(ValueError, match="'lstm'"):
        block.get_initial_state(1)


def test_coupled_gates_save_a_quarter():
    counts = [LSTMEncoder(8, 1, coupled_gates=coupled, channels=2) for coupled in (False, True)]
    for layer in counts:
        layer.build((None, None, 7))
    full, coupled = (layer.blocks[0].count_params() for layer in counts)
    assert coupled == full * 3 / 4


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "projection": 3, "embedding_width": 4, "layer_norm": True}])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_labels_at_once_equal_label_by_label(options, dtype):
    predictor = LSTMPredictor(9, 5, **options, dtype=dtype)
    predictor.build()
    labels = np.array([[3, 1, 4, 1], [5, 8, 2, 6]], np.int32)
    together = predictor(labels)
    assert together.shape == [2, 5, predictor.output_width] and together.dtype == predictor.compute_dtype
    state = predictor.start(2)
    kinds = tf.nest.map_structure(lambda x: (x.shape, x.dtype), state)
    for u in range(5):
        ours, theirs = (tf.cast(x, tf.float32) for x in (together[:, u], predictor.project(state)))
        np.testing.assert_allclose(ours, theirs, atol=1e-5 if dtype == "float32" else 2e-2)
        if u < 4:
            state = predictor.advance(state, labels[:, u])
    assert tf.nest.map_structure(lambda x: (x.shape, x.dtype), state) == kinds


def test_the_predictor_reads_a_blank_first_and_remembers_all_labels():
    predictor = LSTMPredictor(9, 5, num_layers=2)
    predictor.build()
    labels = np.array([[3, 1, 4, 1, 5]], np.int32)
    embedded = predictor.embedding(np.concatenate([[[0]], labels], axis=1)).numpy()[0]
    expected = reference(predictor.layers[1], reference(predictor.layers[0], embedded))
    np.testing.assert_allclose(predictor(labels)[0], expected, atol=1e-5)
    other = predictor(np.array([[7, 1, 4, 1, 5]], np.int32))
    difference = np.abs(predictor(labels) - other).max(axis=(0, 2))
    assert difference[0] == 0 and np.all(difference[1:] > 1e-6)
