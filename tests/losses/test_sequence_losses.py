"""Losses on scores of whole sequences, against formulas in numpy and against the RNN-T gradient."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import ragged_batch

from tf_rnnt_kd import lattice, losses


def _gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return value.numpy(), tape.gradient(value, x).numpy()


def test_full_sum_distances_and_gradients():
    teacher, student = np.array([-3.0, -10.0, -5.0, -4.0]), np.array([-5.0, -9.5, -5.0, -4.0 - 1e-3])
    d = student - teacher
    for kind, value, gradient in (
        ("l1", np.abs(d), np.sign(d)),
        ("l2", d**2 / 2, d),
        ("huber", np.where(np.abs(d) < 1, d**2 / 2, np.abs(d) - 0.5), np.clip(d, -1, 1)),
    ):
        got = _gradient(
            lambda s, kind=kind: losses.full_sum(teacher, s, label_lengths=[1] * 4, distance_kind=kind), student
        )
        np.testing.assert_allclose(got[0], value, rtol=1e-9)
        np.testing.assert_allclose(got[1], gradient, rtol=1e-9)
    per_label = losses.full_sum(teacher, student, label_lengths=[2, 0, 1, 4], distance_kind="l2", per_label=True)
    np.testing.assert_allclose(per_label, (d / [2, 1, 1, 4]) ** 2 / 2, rtol=1e-9)


def test_full_sum_l2_gradient_is_the_difference_times_the_rnnt_gradient():
    batch = ragged_batch(1, dtype=np.float64)
    teacher = -np.linspace(1.0, 20.0, len(batch.logit_lengths))

    def log_prob(logits):
        nodes = lattice.node_log_probs_from_logits(logits, labels=batch.labels, **batch.lengths)
        return lattice.full_sum(nodes, **batch.lengths)

    score, of_score = _gradient(log_prob, batch.logits)
    _, got = _gradient(
        lambda x: losses.full_sum(teacher, log_prob(x), label_lengths=batch.label_lengths, distance_kind="l2"),
        batch.logits,
    )
    np.testing.assert_allclose(got, (score - teacher)[:, None, None, None] * of_score, atol=1e-10)


def test_full_sum_of_impossible_scores():
    teacher, student = np.array([-np.inf, -1.0, -np.inf, -1.0]), np.array([-1.0, -np.inf, -np.inf, -2.0])
    for kind in ("l1", "l2", "huber"):
        value, gradient = _gradient(
            lambda s, kind=kind: losses.full_sum(teacher, s, label_lengths=[1] * 4, distance_kind=kind), student
        )
        np.testing.assert_array_equal(np.isposinf(value), [True, True, True, False])
        np.testing.assert_array_equal(gradient[:3], 0.0)
    with pytest.raises(ValueError, match="distance='cosine'"):
        losses.full_sum(teacher, student, label_lengths=[1] * 4, distance_kind="cosine")


TEACHER = np.array([[-1.0, -2.0, -4.0], [-3.0, -2.5, np.nan], [np.nan] * 3])
STUDENT = np.array([[-2.0, -1.0, -6.0], [-1.0, -7.0, np.nan], [np.nan] * 3])
EXISTS = np.array([[True, True, True], [True, True, False], [False] * 3])


def _softmax(x):
    return np.exp(x) / np.sum(np.exp(x))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_n_best_losses_against_numpy(scale):
    options = {"hypothesis_mask": EXISTS, "scale": scale}
    hard, hard_gradient = _gradient(lambda s: losses.hard_n_best(TEACHER, s, **options), STUDENT)
    lengths = np.array([[2, 1, 3], [1, 4, 0], [0, 0, 0]])
    l2, _ = _gradient(
        lambda s: losses.full_sum_n_best(
            TEACHER, s, hypothesis_lengths=lengths, distance_kind="l2", per_label=True, **options
        ),
        STUDENT,
    )
    for i, n in enumerate((3, 2)):
        weights = _softmax(scale * TEACHER[i, :n])
        np.testing.assert_allclose(hard[i], -np.sum(weights * STUDENT[i, :n]), rtol=1e-9)
        np.testing.assert_allclose(hard_gradient[i, :n], -weights, rtol=1e-9)
        d = (STUDENT[i, :n] - TEACHER[i, :n]) / lengths[i, :n]
        np.testing.assert_allclose(l2[i], np.sum(weights * d**2 / 2), rtol=1e-9)
    assert hard[2] == 0 and l2[2] == 0
    np.testing.assert_array_equal(hard_gradient[~EXISTS], 0.0)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_sequence_discriminative_losses_against_numpy(scale):
    options = {"hypothesis_mask": EXISTS, "scale": scale}
    kl, gradient = _gradient(lambda s: losses.sequence_posterior(TEACHER, s, **options), STUDENT)
    margin, _ = _gradient(lambda s: losses.sequence_margin(TEACHER, s, distance_kind="l2", **options), STUDENT)
    for i, n in enumerate((3, 2)):
        q_teacher, q_student = (_softmax(scale * x[i, :n]) for x in (TEACHER, STUDENT))
        np.testing.assert_allclose(kl[i], np.sum(q_teacher * np.log(q_teacher / q_student)), rtol=1e-9)
        np.testing.assert_allclose(gradient[i, :n], scale * (q_student - q_teacher), rtol=1e-9)
        np.testing.assert_allclose(margin[i], np.log(q_student[0] / q_teacher[0]) ** 2 / 2, rtol=1e-9)
    assert kl[2] == 0 and margin[2] == 0
    np.testing.assert_array_equal(gradient[~EXISTS], 0.0)


@pytest.mark.parametrize("name", ["full_sum_n_best", "sequence_posterior", "sequence_margin"])
def test_zero_value_and_gradient_at_equality(name):
    options = {"distance_kind": "l2"} if name != "sequence_posterior" else {}
    scores = np.array([[-1.0, -3.0], [-50.0, -20.0]], np.float32)
    value, gradient = _gradient(lambda s: getattr(losses, name)(scores, s, **options), scores)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-7)


@pytest.mark.parametrize("name", ["sequence_posterior", "sequence_margin"])
def test_impossible_hypotheses_are_infinite_without_gradient(name):
    student = np.array([[-1.0, -np.inf], [-1.0, -2.0]])
    value, gradient = _gradient(lambda s: getattr(losses, name)(np.array([[-1.0, -2.0], [-3.0, -4.0]]), s), student)
    assert np.isposinf(value[0]) and np.isfinite(value[1])
    np.testing.assert_array_equal(gradient[0], 0.0)


def test_one_hypothesis_says_nothing_about_ranking():
    scores = np.array([[-3.0], [-700.0]])
    assert np.all(losses.sequence_posterior(scores, scores - 5.0).numpy() == 0)
    assert np.all(losses.sequence_margin(scores, scores - 5.0).numpy() == 0)


def test_self_adaptive_weight():
    weight = losses.self_adaptive_weight(tf.constant([0.0, -4.0, -np.inf, -4.0, -3.0]), [3, 4, 2, 2, 0], sharpness=0.5)
    np.testing.assert_allclose(weight, [1.0, np.exp(-0.5), 0.0, np.exp(-1.0), np.exp(-1.5)], rtol=1e-6)
    with pytest.raises(ValueError, match="sharpness=-1"):
        losses.self_adaptive_weight([0.0], [1], sharpness=-1)
