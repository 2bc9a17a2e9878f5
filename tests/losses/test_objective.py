"""Weights on schedules, terms on some of the utterances, several hidden layers; the rest is in test_registry.py."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_pairs import make_pair

from tf_rnnt_kd import losses
from tf_rnnt_kd.losses import LossInputs, Objective

RAMP = {"kind": "ramp", "from": 0.0, "to": 2.0, "begin": 10, "end": 20}
LABELLED = np.array([True, False, True, True, False, False, True, False])


def test_one_compiled_step_follows_its_schedules():
    pair = make_pair(1, dtype=np.float32)
    objective = Objective(
        {
            "rnnt": {},
            "collapsed": {"weight": RAMP},
            "full_sum": {"weight": {"kind": "step", "from": 1.0, "to": 0.0, "begin": 15}},
        }
    )

    @tf.function(jit_compile=True, autograph=False, input_signature=[tf.TensorSpec([], tf.int32)])
    def step(number):
        with tf.GradientTape() as tape:
            tape.watch(pair.student)
            inputs = LossInputs(pair.student, teacher=pair.teacher, **pair.lengths)
            total, terms = objective(inputs, weights=objective.weights_at(number))
        return total, terms, tape.gradient(total, pair.student)

    for number, collapsed, full_sum in ((0, 0.0, 1.0), (14, 0.8, 1.0), (16, 1.2, 0.0), (20, 2.0, 0.0)):
        total, terms, gradient = step(tf.constant(number))
        want = terms["rnnt"] + collapsed * terms["collapsed"] + full_sum * terms["full_sum"]
        np.testing.assert_allclose(total, want, rtol=1e-5)
        weights = {"rnnt": 1.0, "collapsed": collapsed, "full_sum": full_sum}
        plain = Objective({key: {"weight": weight} for key, weight in weights.items()})
        with tf.GradientTape() as tape:
            tape.watch(pair.student)
            want, _ = plain(LossInputs(pair.student, teacher=pair.teacher, **pair.lengths))
        for got, expected in zip(gradient, tape.gradient(want, pair.student), strict=True):
            expected = np.zeros(got.shape) if expected is None else expected
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_constant_weights_stay_numbers_and_scheduled_ones_must_be_given():
    objective = Objective({"rnnt": {"weight": 2}, "collapsed": {"weight": RAMP}, "full_sum": {"weight": 0}})
    weights = objective.weights_at(15)
    assert weights["rnnt"] == 2.0 and weights["full_sum"] == 0.0 and float(weights["collapsed"]) == 1.0
    assert isinstance(weights["rnnt"], float) and tf.is_tensor(weights["collapsed"])
    pair = make_pair(2)
    with pytest.raises(ValueError, match="'collapsed' changes with the step: call .*weights_at"):
        objective(LossInputs(pair.student, teacher=pair.teacher, **pair.lengths))


def test_terms_that_a_schedule_ever_turns_on_are_needed():
    never = {"kind": "step", "from": 1.0, "to": 0.0, "begin": 0}
    assert Objective({"rnnt": {}, "collapsed": {"weight": RAMP}}).needs == {"teacher"}
    assert Objective({"rnnt": {}, "collapsed": {"weight": never}}).needs == set()
    assert Objective({"rnnt": {"on": "labelled"}}).needs == {"is_labelled"}


def test_labelled_and_unlabelled_utterances_have_their_own_terms():
    pair = make_pair(3, dtype=np.float32)
    terms = {
        "rnnt": {"on": "labelled"},
        "pseudo": {"loss": "rnnt", "weight": 0.25, "on": "unlabelled"},
        "collapsed": {"weight": 0.5, "on": "unlabelled", "adaptive": {"sharpness": 0.1}},
    }
    given = {"teacher": pair.teacher, **pair.lengths}
    plain = LossInputs(pair.student, **given)
    everywhere = Objective({"rnnt": {}})(plain)[0]
    distilled = Objective({"collapsed": {"adaptive": {"sharpness": 0.1}}})(plain)[0]
    for is_labelled in (LABELLED, LABELLED.astype(np.float32)):
        total, values = Objective(terms)(LossInputs(pair.student, is_labelled=is_labelled, **given))
        np.testing.assert_array_equal(values["rnnt"], np.where(LABELLED, everywhere, 0.0))
        np.testing.assert_array_equal(values["pseudo"], np.where(LABELLED, 0.0, everywhere))
        want = np.where(LABELLED, everywhere, 0.25 * everywhere + 0.5 * distilled)
        np.testing.assert_allclose(total, want, rtol=1e-6)
    with pytest.raises(ValueError, match="'rnnt' is on labelled utterances, but nothing says which"):
        Objective(terms)(plain)


def test_what_is_not_asked_for_cannot_harm():
    """An unlabelled utterance whose transcript cannot be reached gives an infinite loss, and no gradient of it."""
    pair = make_pair(4, dtype=np.float32)
    broken = tf.where(LABELLED[:, None, None], pair.student.blank, -1e30)
    with tf.GradientTape() as tape:
        tape.watch(broken)
        student = pair.student._replace(blank=broken)
        inputs = LossInputs(student, is_labelled=LABELLED, **pair.lengths)
        total, _ = Objective({"rnnt": {"on": "labelled"}})(inputs)
    gradient = tape.gradient(total, broken)
    assert np.all(np.isfinite(total)) and np.all(np.isfinite(gradient))
    assert np.any(gradient[LABELLED]) and not np.any(gradient[~LABELLED])
    assert np.all(np.isinf(Objective({"rnnt": {}})(inputs)[0][~LABELLED]))


def test_hidden_terms_choose_their_pair_of_layers():
    random = np.random.default_rng(5)
    lengths = {"logit_lengths": np.array([4, 2]), "label_lengths": np.array([1, 1])}
    student = {"low": random.normal(size=[2, 4, 3]), "high": random.normal(size=[2, 4, 5])}
    teacher = {name: random.normal(size=[2, 4, 5]) for name in student}
    projection = {"low": random.normal(size=[3, 5])}  # the others are of one width
    terms = {
        "low": {"loss": "hidden", "layer": "low"},
        "high": {"loss": "hidden", "layer": "high", "weight": 0.1, "distance": "l1"},
    }
    given = {"student_hidden": student, "teacher_hidden": teacher, "hidden_projection": projection}
    _, values = Objective(terms)(LossInputs(None, **lengths, **given))
    frames = {"logit_lengths": lengths["logit_lengths"]}
    low = losses.hidden(teacher["low"], student["low"], projection=projection["low"], **frames)
    np.testing.assert_array_equal(values["low"], low)
    np.testing.assert_array_equal(
        values["high"], losses.hidden(teacher["high"], student["high"], distance="l1", **frames)
    )
    one = {name: {"low": x["low"]} for name, x in given.items()}
    np.testing.assert_array_equal(Objective({"hidden": {}})(LossInputs(None, **lengths, **one))[0], low)
    with pytest.raises(ValueError, match="teacher_hidden has the layers low, high: name one"):
        Objective({"hidden": {}})(LossInputs(None, **lengths, **given))
    with pytest.raises(ValueError, match="teacher_hidden has no layer 'top'; it has low, high"):
        Objective({"hidden": {"layer": "top"}})(LossInputs(None, **lengths, **given))
    plain = {"student_hidden": student["high"], "teacher_hidden": teacher["high"]}
    with pytest.raises(ValueError, match="layer='low', but teacher_hidden is one tensor"):
        Objective({"hidden": {"layer": "low"}})(LossInputs(None, **lengths, **plain))


def test_an_unknown_share_of_the_utterances_is_refused():
    with pytest.raises(ValueError, match="'rnnt' is on 'pseudo' utterances; there are all, labelled, unlabelled"):
        Objective({"rnnt": {"on": "pseudo"}})
