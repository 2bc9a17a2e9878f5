"""Hidden layers of student and teacher: the loss by hand, projections that are trained but no part of the model."""

import numpy as np
import pytest
import tensorflow as tf
from small_student import small_batch, small_forward

from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.training.hidden_layers import build_hidden_layers, hidden_pairs, stored_widths

WIDTHS = {"low": 8, "high": 5}
LOSSES = {
    "rnnt": {"weight": 1.0},
    "hidden": {"weight": 0.5, "layer": "block_1:high"},
    "lower": {"loss": "hidden", "weight": 0.25, "layer": "block_0:low", "distance": "l1"},
}


def make(losses=LOSSES):
    return small_forward(
        losses, hidden_of=lambda objective, model: build_hidden_layers(objective, model=model, teacher_widths=WIDTHS)
    )


def taught_batch():
    rng = np.random.default_rng(7)
    layers = {
        f"teacher_hidden/{name}": tf.constant(rng.normal(size=[2, 4, width]), tf.float32)
        for name, width in WIDTHS.items()
    }
    return {**small_batch(), **layers, "has_teacher": tf.constant([1.0, 0.0])}


def test_the_terms_are_the_distances_of_the_named_layers():
    forward, model = make()
    batch = taught_batch()
    found = forward(batch, tf.constant(0))
    layers, lengths = model.encoder_layers(batch["features"], batch["num_frames"])
    projection = forward.trainable_variables[-1].numpy()
    count = int(lengths[0])
    high = layers["block_1"][0, :count].numpy() @ projection - batch["teacher_hidden/high"][0, :count].numpy()
    low = layers["block_0"][0, :count].numpy() - batch["teacher_hidden/low"][0, :count].numpy()
    # The second utterance has no teacher.
    np.testing.assert_allclose(found["hidden"], [np.mean(high**2), 0], rtol=1e-5)
    np.testing.assert_allclose(found["lower"], [np.mean(np.abs(low)), 0], rtol=1e-5)
    want = found["rnnt"] + 0.5 * found["hidden"] + 0.25 * found["lower"]
    np.testing.assert_allclose(found["loss"], want, rtol=1e-6)


def test_what_goes_to_the_joint_is_the_same_with_hidden_layers_and_without():
    with_hidden, _ = make()
    without, _ = small_forward({"rnnt": {"weight": 1.0}})
    batch = taught_batch()
    losses = [forward(batch, tf.constant(0))["rnnt"] for forward in (with_hidden, without)]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_the_projection_learns_and_the_model_does_not_hold_it():
    forward, model = make()
    projection = forward.trainable_variables[-1]
    assert projection.path == "hidden_layers/block_1_to_high" and projection.shape == (8, 5)
    # Layers of one width need none.
    assert len(forward.trainable_variables) == len(model.trainable_variables) + 1
    assert all("hidden_layers" not in variable.path for variable in model.variables)
    batch = taught_batch()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(forward(batch, tf.constant(0))["hidden"])
    gradient = tape.gradient(loss, projection.value)
    projection.assign_sub(1e-2 * gradient)
    change = float(tf.reduce_mean(forward(batch, tf.constant(0))["hidden"]) - loss)
    np.testing.assert_allclose(change, -1e-2 * np.sum(gradient.numpy() ** 2), rtol=0.05)


def test_layers_that_are_not_there_are_refused():
    _, model = small_forward({"rnnt": {"weight": 1.0}})
    for layer, message in (
        (None, "losses.hidden.layer is '': name a layer"), ("block_1", "'block_1': name a layer"),
        ("block_7:high", "the student has no layer 'block_7', it has block_0, block_1"),
        ("block_1:top", "the teacher has no layer 'top', it has low, high"),
    ):
        with pytest.raises(ValueError, match=message):
            build_hidden_layers(Objective({"hidden": {"layer": layer}}), model=model, teacher_widths=WIDTHS)
    assert hidden_pairs(Objective({"rnnt": {}, "hidden": {"weight": 0.0}})) == []
    spec = {"teacher_hidden/low": tf.TensorSpec([None, None, 8]), "tokens": tf.TensorSpec([None, None], tf.int32)}
    assert stored_widths(spec) == {"low": 8}
