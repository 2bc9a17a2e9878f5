"""Consistency of two modes against loops over nodes, and who learns from whom."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_pairs import make_pair, value_and_gradient

from tf_rnnt_kd import lattice, losses

SIZES = ((4, 3), (3, 2), (1, 2), (2, 0), (4, 1))


def _loops(pair, i, shift, weights, reduction):
    """Half the sum of both KLs of every pair of nodes (t, u), (t + shift, u), each by its three probabilities."""
    first, second = (np.stack([pair.crop(i, x) for x in nodes]) for nodes in (pair.teacher, pair.student))
    frames, positions = first.shape[1:]
    total, mass = 0.0, 0.0
    for t in range(frames):
        for u in range(positions):
            if 0 <= t + shift < frames:
                a, b = first[:, t, u], second[:, t + shift, u]
                total += weights[t, u] * 0.5 * np.sum((np.exp(a) - np.exp(b)) * (a - b))
                mass += weights[t, u]
    divisor = {"sum": 1.0, "mean": mass, "per_frame": frames}[reduction]
    return total / divisor if divisor else 0.0


@pytest.mark.parametrize("reduction", ["sum", "mean", "per_frame"])
@pytest.mark.parametrize("shift", [0, 1, -2, 9])
def test_against_loops_with_shift_and_weights(shift, reduction):
    pair = make_pair(1, sizes=SIZES)
    weights = np.random.default_rng(0).uniform(size=pair.teacher.blank.shape)
    options = {"shift": shift, "reduction_over_nodes": reduction, **pair.lengths}
    plain = losses.symmetric_consistency(pair.teacher, pair.student, **options)
    weighted = losses.symmetric_consistency(pair.teacher, pair.student, node_weights=weights, **options)
    masked = losses.symmetric_consistency(pair.teacher, pair.student, node_weights=weights > 0.5, **options)
    for i in range(len(SIZES)):
        here = pair.crop(i, weights)
        for got, want in ((plain, np.ones_like(here)), (weighted, here), (masked, here > 0.5)):
            np.testing.assert_allclose(got[i], _loops(pair, i, shift, want, reduction), rtol=1e-9, atol=1e-15)


def test_exchanging_the_modes_exchanges_the_sign_of_the_shift_and_nothing_else():
    pair = make_pair(2)
    for shift in (0, 1, -2):
        one = losses.symmetric_consistency(pair.teacher, pair.student, shift=shift, **pair.lengths)
        other = losses.symmetric_consistency(pair.student, pair.teacher, shift=-shift, **pair.lengths)
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shift", [0, 1])
def test_each_mode_learns_as_a_student_of_the_other(shift):
    pair = make_pair(3)
    _, to_first, to_second = value_and_gradient(
        lambda a, b: losses.symmetric_consistency(a, b, shift=shift, **pair.lengths), pair.teacher, pair.student
    )
    for got, teacher, student, by in (
        (to_second, pair.teacher, pair.student, shift),
        (to_first, pair.student, pair.teacher, -shift),
    ):
        _, _, want = value_and_gradient(
            lambda t, s, by=by: losses.collapsed(t, s, shift=by, **pair.lengths), teacher, student
        )
        for g, w in zip(got, want, strict=True):
            assert np.any(g)
            np.testing.assert_allclose(g, 0.5 * w, rtol=1e-12, atol=1e-15)


def test_zero_at_equality_and_a_late_second_mode_is_forgiven():
    pair = make_pair(4, sizes=((9, 3),))
    logits = tf.constant(pair.batch.logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nodes = lattice.node_log_probs_from_logits(logits, labels=pair.batch.labels, **pair.lengths)
        value = losses.symmetric_consistency(nodes, nodes, **pair.lengths)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_allclose(tape.gradient(value, logits), 0.0, atol=1e-12)
    late = lattice.NodeLogProbs(*(tf.roll(x, 2, axis=1) for x in pair.student))
    assert losses.symmetric_consistency(pair.student, late, shift=2, **pair.lengths)[0] == 0.0
    assert losses.symmetric_consistency(pair.student, late, **pair.lengths)[0] > 0.1


def test_padding_changes_nothing_and_xla_agrees():
    pair = make_pair(5, dtype=np.float32)
    weights = np.random.default_rng(1).uniform(size=pair.teacher.blank.shape).astype(np.float32)

    def step(first, second, weights):
        value, *gradients = value_and_gradient(
            lambda a, b: losses.symmetric_consistency(a, b, shift=1, node_weights=weights, **pair.lengths),
            first,
            second,
        )
        return value, gradients

    eager = step(pair.teacher, pair.student, weights)
    compiled = tf.function(step, jit_compile=True, autograph=False)(pair.teacher, pair.student, weights)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), eager, compiled)
    first, second, weights = tf.nest.map_structure(
        lambda x: tf.pad(x, [[0, 0], [0, 2], [0, 1]], constant_values=np.nan), (pair.teacher, pair.student, weights)
    )
    value, gradients = step(first, second, weights)
    np.testing.assert_allclose(value, eager[0], rtol=1e-6)
    for got, want in zip(tf.nest.flatten(gradients), tf.nest.flatten(eager[1]), strict=True):
        np.testing.assert_allclose(got[:, :-2, :-1], want, rtol=1e-6, atol=1e-7)
        assert not np.any(got[:, -2:]) and not np.any(got[:, :, -1:])
