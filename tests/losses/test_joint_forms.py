"""Losses over whole distributions between joints that multiply or have a factorised blank, against dense autodiff."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import joint_batch

from tf_rnnt_kd import lattice, losses

SYMBOLS = 5


def _pair(teacher_form, student_form, dtype=np.float64):
    """(teacher, student, lengths, labels); the teacher is narrower."""
    arrays, labels, lengths = joint_batch(1, dtype=dtype, num_symbols=SYMBOLS)
    others, _, _ = joint_batch(51, dtype=dtype, num_symbols=SYMBOLS, width=4)
    teacher = lattice.Joint(*map(tf.constant, others), **teacher_form)
    return teacher, lattice.Joint(*map(tf.constant, arrays), **student_form), lengths, labels


def _dense(joint):
    """Log-probabilities [B, T, U+1, V] by the formulas as published."""
    combine = tf.multiply if joint.combination == "multiply" else tf.add
    logits = tf.tensordot(
        tf.tanh(combine(joint.encoder[:, :, None], joint.predictor[:, None])), joint.kernel, 1
    ) + joint.bias  # fmt: skip
    if not joint.factorised_blank:
        return tf.nn.log_softmax(logits)
    order = [joint.blank_index, *(k for k in range(SYMBOLS) if k != joint.blank_index)]
    blank, labels = tf.split(tf.gather(logits, order, axis=-1), [1, SYMBOLS - 1], axis=-1)
    labels = tf.math.log_sigmoid(-blank) + tf.nn.log_softmax(labels)
    return tf.gather(tf.concat([tf.math.log_sigmoid(blank), labels], -1), np.argsort(order), axis=-1)


def _kl(teacher, student):
    return tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)


def _soft(teacher, student):
    return _kl(*(tf.nn.log_softmax(x / 2.0) for x in (teacher, student)))


def _peak(teacher, student):
    return -tf.gather(student, tf.argmax(teacher, axis=-1), batch_dims=3)


def _two_best(teacher, student):
    best = tf.math.top_k(teacher, 2).indices
    grouped = []
    for log_probs in (teacher, student):
        others = tf.reduce_sum(tf.one_hot(best, SYMBOLS, dtype=log_probs.dtype), axis=-2) == 0
        rest = tf.reduce_logsumexp(tf.where(others, log_probs, tf.constant(-1e30, log_probs.dtype)), -1)
        grouped.append(tf.concat([tf.gather(log_probs, best, batch_dims=3), rest[..., None]], -1))
    return _kl(*grouped)


LOSSES = {  # of (teacher, student joint, lengths), and of dense log-probabilities
    "soft": (lambda t, s, n: losses.soft(t, s, **n, temperature=2.0), _soft),
    "peak_alignment": (lambda t, s, n: losses.peak_alignment(t, s, **n), _peak),
    "top_k": (lambda t, s, n: losses.top_k(lattice.top_k(t, k=2, **n), s, **n), _two_best),
}
HAT = {"factorised_blank": True}
PRODUCT = {"combination": "multiply"}
BOTH = {**HAT, **PRODUCT, "blank_index": 2}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("teacher_form", "student_form"), [({}, HAT), (BOTH, PRODUCT), (BOTH, BOTH)])
def test_values_and_gradients_against_dense_autodiff(name, teacher_form, student_form):
    teacher, student, lengths, _ = _pair(teacher_form, student_form)
    loss, dense = LOSSES[name]
    exists = lattice.node_mask(**lengths, num_frames=7, num_positions=5)
    upstream = np.array([1.0, -2.0, 0.5])  # unlike, so that the backward pass makes the gradient once more
    results = []
    for fused in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(student[:4])
            if fused:
                value = loss(teacher, student, lengths)
            else:
                nodes = tf.where(exists, dense(_dense(teacher), _dense(student)), 0.0)
                value = tf.reduce_sum(nodes, axis=[1, 2])
            total = tf.reduce_sum(value * upstream)
        results.append((value, *tape.gradient(total, student[:4])))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)


def test_a_joint_is_its_own_best_student_and_dense_log_probs_are_the_same_teacher():
    teacher, _, lengths, _ = _pair(BOTH, BOTH)
    np.testing.assert_allclose(losses.soft(teacher, teacher, **lengths), 0.0, atol=1e-12)
    other = teacher._replace(combination="add")
    from_joint, from_dense = (losses.soft(x, other, **lengths) for x in (teacher, _dense(teacher)))
    np.testing.assert_allclose(from_joint, from_dense, rtol=1e-12)
    assert np.all(from_joint > 0.01)


def test_a_whole_objective_compiled_in_float32():
    """Every part of an objective sees the same distribution: the collapsed KL is below that over all symbols."""
    teacher, student, lengths, labels = _pair(BOTH, BOTH, np.float32)
    objective = losses.Objective({"rnnt": {}, "collapsed": {}, "soft": {"weight": 0.5}})

    def step(*inputs):
        joint = student._replace(**dict(zip(lattice.Joint._fields, inputs, strict=False)))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            nodes, taught = (
                lattice.node_log_probs(**x._asdict(), labels=labels, **lengths) for x in (joint, teacher)
            )
            given = losses.LossInputs(
                nodes, student_joint=joint, teacher=taught, teacher_joint=teacher, **lengths
            )
            total, terms = objective(given)
        return total, terms, tape.gradient(total, inputs)

    labels = np.where(labels == 2, 1, labels)  # 2 is the blank
    results = [tf.function(step, jit_compile=x, autograph=False)(*student[:4]) for x in (False, True)]
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *results)
    _, terms, gradients = results[0]
    assert np.all(terms["collapsed"] <= terms["soft"] + 1e-5) and np.all(terms["collapsed"] > 0)
    assert all(np.all(np.isfinite(g)) and np.any(g) for g in gradients)
