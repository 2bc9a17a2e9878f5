"""The RNN-T loss and its gradient against the numbers in other toolkits' test suites, eager and compiled by XLA."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_brute_force import log_softmax, loss_of_logits, numeric_gradient
from published_cases import DERIVED, PUBLISHED

from tf_rnnt_kd import losses


def _loss_and_gradient(case, dtype, jit_compile):
    logits = tf.constant(case.logits, dtype)
    batch, num_frames, num_positions, _ = logits.shape
    lengths = {
        "logit_lengths": [num_frames] * batch if case.logit_lengths is None else case.logit_lengths,
        "label_lengths": [num_positions - 1] * batch,
    }
    labels = tf.constant(case.labels, tf.int32, shape=[batch, num_positions - 1])

    def step(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = losses.rnnt_loss(logits, labels=labels, blank_index=case.blank_index, **lengths)
        return loss, tape.gradient(loss, logits)

    if jit_compile:
        step = tf.function(step, jit_compile=True, autograph=False)
    return [x.numpy() for x in step(logits)]


def _expected_gradient(case):
    """The published gradient: of the logits, or of the frames' and of the positions' share."""
    if case.gradient_of == "joint":
        return [np.array(x) for x in case.gradient]
    gradient = np.array(case.gradient)
    if case.gradient_of == "log_probs":  # the backward pass of log-softmax
        gradient -= np.exp(log_softmax(case.logits)) * gradient.sum(axis=-1, keepdims=True)
    return [gradient]


@pytest.mark.parametrize(("dtype", "jit_compile"), [(tf.float64, False), (tf.float32, False), (tf.float32, True)])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_costs_and_gradients(name, dtype, jit_compile):
    case = PUBLISHED[name]
    loss, gradient = _loss_and_gradient(case, dtype, jit_compile)
    atol = case.atol if dtype == tf.float64 else max(case.atol, 1e-6)
    np.testing.assert_allclose(loss, case.costs, atol=atol)
    got = [gradient.sum(axis=2), gradient.sum(axis=1)] if case.gradient_of == "joint" else [gradient]
    for g, want in zip(got, _expected_gradient(case), strict=True):
        np.testing.assert_allclose(g, want, atol=atol)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", DERIVED)
def test_inputs_without_published_results_against_enumeration(name, jit_compile):
    case = DERIVED[name]
    loss, gradient = _loss_and_gradient(case, tf.float64, jit_compile)
    logits, labels = np.array(case.logits[0], np.float64), case.labels[0]
    np.testing.assert_allclose(loss, [loss_of_logits(logits, labels, case.blank_index)], rtol=1e-12)
    expected = numeric_gradient(lambda x: loss_of_logits(x, labels, case.blank_index), logits)
    np.testing.assert_allclose(gradient[0], expected, atol=1e-8)
