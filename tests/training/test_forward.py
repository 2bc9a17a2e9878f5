"""From a batch to losses: weights that change, terms on some utterances, masks, and gradients that stay finite."""

import numpy as np
import pytest
import tensorflow as tf
from small_student import small_batch, small_forward

from tf_rnnt_kd.training.batching import DRAW


def test_weights_follow_their_schedules_and_terms_their_utterances():
    ramp = {"kind": "ramp", "from": 1.0, "to": 0.0, "begin": 2, "end": 6}
    forward, _ = small_forward(
        {"rnnt": {"weight": ramp}, "pseudo": {"loss": "rnnt", "weight": 0.3, "on": "unlabelled"}}
    )
    batch = {**small_batch(), "is_labelled": tf.constant([True, False])}
    for step, weight in ((0, 1.0), (4, 0.5), (9, 0.0)):
        found = {name: values.numpy() for name, values in forward(batch, tf.constant(step)).items()}
        assert found["pseudo"][0] == 0
        np.testing.assert_allclose(found["pseudo"][1], found["rnnt"][1])
        np.testing.assert_allclose(found["loss"], weight * found["rnnt"] + 0.3 * found["pseudo"], rtol=1e-6)


def test_masks_follow_seed_step_and_draw_and_are_for_training_only():
    forward, _ = small_forward({"rnnt": {"weight": 1.0}}, masks=True)
    batch = small_batch(num_frames=64)

    def loss(step, **more):
        training = more.pop("training", True)
        return forward({**batch, **more}, tf.constant(step), training=training)["loss"].numpy()

    np.testing.assert_array_equal(loss(3), loss(3))
    draws = [loss(3), loss(4), loss(3, **{DRAW: tf.constant(0)}), loss(3, **{DRAW: tf.constant(1)})]
    for index, one in enumerate(draws):
        assert all(np.abs(one - other).max() > 1e-4 for other in draws[:index])
    np.testing.assert_array_equal(loss(3, training=False), loss(4, training=False))


@pytest.mark.parametrize(
    "encoder", [None, {"type": "lstm", "width": 8, "num_layers": 3}], ids=["conformer", "lstm"]
)
def test_a_mask_over_the_first_frames_of_a_causal_encoder_leaves_gradients_small(encoder):
    """All that such a frame sees is zeros; a norm's gradient there would be 1 / sqrt(epsilon), three blocks' 1e37."""
    forward, model = small_forward({"rnnt": {"weight": 1.0}}, encoder=encoder, left_context=4, num_layers=3)
    batch, norms = small_batch(num_frames=64), []
    for masked in (0, 24):
        begins = tf.range(64)[None, :, None] >= masked
        with tf.GradientTape() as tape:
            masked_batch = {**batch, "features": tf.where(begins, batch["features"], 0.0)}
            loss = tf.reduce_mean(forward(masked_batch, tf.constant(0))["loss"])
        norms.append(float(tf.linalg.global_norm(tape.gradient(loss, [v.value for v in model.trainable_variables]))))
    assert norms[1] < 20 * norms[0]
