"""The model: the predictor against a loop, the joint against numpy, streaming and serialisation of the whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.models import Transducer, build_transducer

CONFIG = {
    "encoder": {
        "width": 16, "num_layers": 1, "num_heads": 2, "kernel_size": 3, "channels": 3, "left_context": 4, "dropout": 0.0
    },
    "predictor": {"width": 6, "context_size": 2, "dropout": 0.0},
    "joint_width": 10,
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    built = build_transducer(CONFIG, vocab_size=9, num_features=5)
    built.set_feature_statistics(np.arange(5.0), np.arange(1.0, 6.0))
    return built


def test_labels_at_once_equal_label_by_label(model):
    labels = np.array([[3, 1, 4, 1], [5, 8, 2, 6]], np.int32)
    together = model.predict_labels(labels)
    assert together.shape == [2, 5, 10]
    state = model.predictor_start(2)
    for u in range(5):
        np.testing.assert_allclose(together[:, u], model.predictor_project(state), atol=1e-6)
        if u < 4:
            state = model.predictor_advance(state, labels[:, u])


def test_a_prediction_depends_on_the_labels_before_it_only(model):
    first = model.predict_labels(np.array([[3, 1, 4, 1]], np.int32))
    second = model.predict_labels(np.array([[3, 1, 7, 1]], np.int32))
    np.testing.assert_array_equal(first[:, :3], second[:, :3])
    assert np.abs(first[:, 3] - second[:, 3]).max() > 1e-4


def test_joint_equals_numpy(model):
    rng = np.random.default_rng(0)
    encoded, predicted = rng.normal(size=[2, 3, 1, 10]), rng.normal(size=[2, 1, 4, 10])
    expected = np.tanh(encoded + predicted) @ model.joint_kernel.numpy() + model.joint_bias.numpy()
    logits = model.joint_logits(tf.constant(encoded, tf.float32), tf.constant(predicted, tf.float32))
    assert logits.shape == [2, 3, 4, 9] and logits.dtype == tf.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_features_are_normalised_by_the_statistics(model):
    x = np.random.default_rng(0).normal(size=[1, 4, 5])
    expected = (x - np.arange(5)) / np.arange(1, 6)
    np.testing.assert_allclose(model.normalise(tf.constant(x, tf.float32)), expected, atol=1e-6)


def test_streaming_equals_offline_through_the_flat_state(model):
    x = tf.constant(np.random.default_rng(1).normal(size=[2, 40, 5]), tf.float32)
    offline, lengths = model.encode(x, tf.constant([40, 40]))
    state = model.encoder_initial_state(2)
    assert all(isinstance(name, str) and isinstance(value, tf.Tensor) for name, value in state.items())
    shapes = {name: value.shape for name, value in state.items()}
    streamed = []
    for start in range(0, 40, 8):
        frames, state = model.encode_step(x[:, start : start + 8], tf.constant([8, 8]), state)
        streamed.append(frames)
    assert {name: value.shape for name, value in state.items()} == shapes
    np.testing.assert_array_equal(lengths, [5, 5])
    np.testing.assert_allclose(tf.concat(streamed, 1), offline, atol=1e-5)


def test_serialises_with_its_weights(model, tmp_path):
    path = tmp_path / "model.keras"
    x, n, y = tf.ones([1, 16, 5]), tf.constant([16]), tf.constant([[1, 2]])
    expected = model([x, n, y])
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert isinstance(loaded, Transducer)
    for ours, theirs in zip(loaded([x, n, y]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
