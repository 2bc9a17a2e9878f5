"""Norms of the terms' gradients against each term's own gradient, and that measuring leaves no trace."""

import keras
import numpy as np
import tensorflow as tf
from small_student import small_batch, small_forward, small_spec

from tf_rnnt_kd.training.objective_gradients import ObjectiveGradients

LOSSES = {
    "rnnt": {"weight": 1.0},
    "alignment_entropy": {"weight": {"kind": "step", "from": -0.5, "to": 0.0, "begin": 5}},
    "never": {"loss": "rnnt", "weight": 0.0},
}


def test_each_norm_is_that_of_what_the_term_adds_and_measuring_changes_nothing():
    forward, model = small_forward(LOSSES, num_layers=1, dropout=0.3)
    batch = small_batch()
    norms = ObjectiveGradients(forward, variables=forward.trainable_variables, batch_spec=small_spec())
    before = [variable.numpy() for variable in model.variables]
    # The same states of dropout as for the norms, and as these they do not move.
    with tf.GradientTape(persistent=True) as tape, keras.StatelessScope():
        means = {name: tf.reduce_mean(value) for name, value in forward(batch, tf.constant(0)).items()}
    values = [variable.value for variable in model.trainable_variables]
    own = {}
    for name in ("rnnt", "alignment_entropy"):
        gradients = [g for g in tape.gradient(means[name], values) if g is not None]
        own[name] = float(tf.linalg.global_norm(gradients))
    for step, weights in ((0, {"rnnt": 1, "alignment_entropy": 0.5}), (5, {"alignment_entropy": 0})):
        found = norms(batch, tf.constant(step))
        assert set(found) == set(own)
        for name, weight in weights.items():
            # The lattice leaves out the gradients of nodes where they are negligible.
            np.testing.assert_allclose(found[name], weight * own[name], rtol=1e-3, err_msg=name)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy(), err_msg=variable.path)
    assert norms.compiled.experimental_get_tracing_count() == 1
    forward(batch, tf.constant(0))
    # A step's forward part does move them.
    assert any(np.any(old != variable.numpy()) for old, variable in zip(before, model.variables, strict=True))
