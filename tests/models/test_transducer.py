"""The model: the predictor against a loop, the joint against numpy, streaming, precision and what is kept of it."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd import lattice
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


@pytest.mark.parametrize("combination", ["add", "multiply"])
@pytest.mark.parametrize("factorised_blank", [False, True])
def test_joint_equals_numpy(combination, factorised_blank):
    joint = {"width": 10, "combination": combination, "factorised_blank": factorised_blank}
    model = build_transducer({**without_width(CONFIG), "joint": joint}, vocab_size=9, num_features=5)
    rng = np.random.default_rng(0)
    model.joint_bias.assign(rng.normal(size=9))
    encoded, predicted = rng.normal(size=[2, 3, 1, 10]), rng.normal(size=[2, 1, 4, 10])
    hidden = np.tanh(encoded + predicted if combination == "add" else encoded * predicted)
    expected = hidden @ model.joint_kernel.numpy().astype(np.float64) + model.joint_bias.numpy()
    if factorised_blank:
        blank = 1 / (1 + np.exp(-expected[..., :1]))
        labels = np.exp(expected[..., 1:]) / np.exp(expected[..., 1:]).sum(axis=-1, keepdims=True)
        expected = np.log(np.concatenate([blank, (1 - blank) * labels], axis=-1))
    logits = model.joint_logits(tf.constant(encoded, tf.float32), tf.constant(predicted, tf.float32))
    assert logits.shape == [2, 3, 4, 9] and logits.dtype == tf.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    # The lattice is told the same.
    found = model.joint(tf.constant(encoded[:, :, 0], tf.float32), tf.constant(predicted[:, 0], tf.float32))
    labels, lengths = np.array([[1, 8, 3], [4, 4, 7]]), {"logit_lengths": [3, 3], "label_lengths": [3, 3]}
    nodes = lattice.node_log_probs(**found._asdict(), labels=labels, **lengths)
    log_probs = tf.nn.log_softmax(expected).numpy()
    np.testing.assert_allclose(nodes.blank, log_probs[..., 0], atol=1e-5)
    for u in range(3):
        np.testing.assert_allclose(nodes.label[0, :, u], log_probs[0, :, u, labels[0, u]], atol=1e-5)


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
        frames, step_lengths, state = model.encode_step(x[:, start : start + 8], tf.constant([8, 8]), state)
        np.testing.assert_array_equal(step_lengths, [1, 1])
        streamed.append(frames)
    assert {name: value.shape for name, value in state.items()} == shapes
    np.testing.assert_array_equal(lengths, [5, 5])
    np.testing.assert_allclose(tf.concat(streamed, 1), offline, atol=1e-5)


def test_serialises_with_its_weights(tmp_path):
    path = tmp_path / "model.keras"
    joint = {"width": 10, "combination": "multiply", "factorised_blank": True}
    config = {"encoder": CONFIG["encoder"], "predictor": {"type": "lstm", "width": 6}, "joint": joint}
    model = build_transducer(config, vocab_size=9, num_features=5, dtype="mixed_bfloat16")
    x, n, y = tf.ones([1, 16, 5]), tf.constant([16]), tf.constant([[1, 2]])
    expected = model([x, n, y])
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert isinstance(loaded, Transducer) and loaded.dtype_policy.name == "mixed_bfloat16"
    assert (loaded.combination, loaded.factorised_blank) == ("multiply", True)
    for ours, theirs in zip(loaded([x, n, y]), expected, strict=True):
        np.testing.assert_array_equal(tf.cast(ours, tf.float32), tf.cast(theirs, tf.float32))


def test_the_types_of_encoder_and_predictor():
    small = {"width": 6, "num_layers": 1, "channels": 2}
    for encoder, predictor in (("lstm", "lstm"), ("bilstm", "stateless")):
        config = {
            "encoder": {"type": encoder, **small}, "predictor": {"type": predictor, "width": 4}, "joint": {"width": 8},
        }
        model = build_transducer(config, vocab_size=9, num_features=5)
        assert model.is_streaming == (encoder == "lstm")
        assert model.layer_widths == {"block_0": 6 if encoder == "lstm" else 12}
        encoded, _, predicted = model([tf.ones([1, 16, 5]), tf.constant([16]), tf.constant([[1, 2]])])
        assert encoded.shape == [1, 2, 8] and predicted.shape == [1, 3, 8]
        if encoder == "lstm":
            assert set(model.predictor_start(2)) == {"lstm_0"} and "block_0/cell" in model.encoder_initial_state(2)


@pytest.mark.parametrize(
    "part, settings, told",
    [
        ("encoder", {"type": "transformer"}, "conformer, lstm, bilstm"),
        ("encoder", {"type": "lstm", "width": 6, "num_layers": 1, "num_heads": 2}, "num_heads.*replace all of"),
        ("predictor", {"type": "rnn"}, "stateless, lstm"),
        ("predictor", {"width": 6, "layers": 1}, "no setting layers"),
        ("joint", {"width": 10, "activation": "relu"}, "activation"),
        ("joint", {"width": 10, "combination": "max"}, "add, multiply"),
        ("joint", {"combination": "add"}, "joint.width"),
        ("joint_width", 12, r"\[10, 12\]"),
    ],
)
def test_unknown_settings_are_refused(part, settings, told):
    config = {**without_width(CONFIG), "joint": {"width": 10}, part: settings}
    with pytest.raises(ValueError, match=told):
        build_transducer(config, vocab_size=9, num_features=5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_half_precision_reaches_every_layer_and_ends_before_the_joint(model, policy):
    half = build_transducer(CONFIG, vocab_size=9, num_features=5, dtype=policy)
    half.set_weights(model.get_weights())
    assert {layer.compute_dtype for layer in layers_within(half)} == {policy.removeprefix("mixed_")}
    weights = {weight.dtype for weight in half.trainable_weights}
    assert weights == {"float32" if policy.startswith("mixed") else policy}
    # The statistics of the features are not rounded, and large features are normalised before they are.
    assert half.feature_mean.dtype == "float32"
    x = tf.constant(np.random.default_rng(1).normal(1000.0, 1.0, size=[2, 40, 5]), tf.float32)
    inputs = (x, tf.constant([40, 24]), tf.constant([[3, 1, 4], [1, 5, 0]]))
    for statistics in (model, half):
        statistics.set_feature_statistics(np.full(5, 1000.0), np.ones(5))
    found, expected = half(inputs), model(inputs)
    model.set_feature_statistics(np.arange(5.0), np.arange(1.0, 6.0))
    for ours, theirs in zip(found[::2], expected[::2], strict=True):
        assert ours.dtype == half.compute_dtype
        np.testing.assert_allclose(tf.cast(ours, tf.float32), theirs, atol=0.1)
    joint = half.joint(found[0], found[2])
    assert {x.dtype for x in joint[:4]} == {tf.float32}
    assert half.joint_logits(found[0][:, :, None], found[2][:, None]).dtype == tf.float32


def test_what_trainings_before_have_stored_still_loads(tmp_path):
    """The places of the weights in a file; a rename in the classes would lose them."""
    model = build_transducer(CONFIG, vocab_size=9, num_features=5)
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    norm, dense = ["vars/0", "vars/1"], ["vars/0", "vars/1"]
    block = {
        "feed_forward_in/norm": norm, "feed_forward_in/expand": dense, "feed_forward_in/contract": dense,
        "attention_norm": norm, "attention/query_key_value": dense, "attention/output_projection": dense,
        "convolution/norm": norm, "convolution/gate": dense, "convolution": ["vars/0"],
        "convolution/depthwise_norm": norm, "convolution/pointwise": dense,
        "feed_forward_out/norm": norm, "feed_forward_out/expand": dense, "feed_forward_out/contract": dense,
        "output_norm": norm,
    }
    places = {
        "": [f"vars/{i}" for i in range(4)],
        **{f"encoder/stages/halving_stage{i}/convolution": dense for i in ("", "_1", "_2")},
        "encoder/input_projection": dense, "encoder/input_norm": norm,
        **{f"encoder/blocks/conformer_block/{name}": names for name, names in block.items()},
        # Keras comes upon these by its list of layers before it comes upon their attributes.
        "layers/stateless_predictor/embedding": ["vars/0"], "layers/stateless_predictor/mix": dense,
        "encoder_projection": dense, "layers/dense_1": ["vars/0"],
    }
    expected = {f"{place}/{name}".lstrip("/") for place, names in places.items() for name in names}
    assert set(found) == expected


def layers_within(layer):
    for value in vars(layer).values():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, keras.layers.Layer):
                yield part
                yield from layers_within(part)


def without_width(config):
    return {name: value for name, value in config.items() if name != "joint_width"}
