"""Any weighted sum of registered losses from a config."""

import ml_collections
import numpy as np
import pytest
import tensorflow as tf
from lattice_pairs import make_pair

from tf_rnnt_kd import lattice, losses
from tf_rnnt_kd.losses import LossInputs, Objective

SCORES = {"student_log_probs": np.array([[-3.0, -5.0]] * 8), "teacher_log_probs": np.array([[-4.0, -4.5]] * 8)}
_RNG = np.random.default_rng(0)
HIDDEN = {
    "student_hidden": _RNG.normal(size=[8, 4, 3]),
    "teacher_hidden": _RNG.normal(size=[8, 4, 5]),
    "hidden_projection": _RNG.normal(size=[3, 5]),
}


JOINTS = {
    "student_joint": [_RNG.normal(size=shape) for shape in ([8, 4, 3], [8, 4, 3], [3, 4], [4])],
    "teacher_joint": [_RNG.normal(size=shape) for shape in ([8, 4, 2], [8, 4, 2], [2, 4], [4])],
}


def _joints(arrays):
    return {name: lattice.Joint(*x) for name, x in arrays.items()}


def _inputs(pair, **more):
    return LossInputs(pair.student, teacher=pair.teacher, **pair.lengths, **more)


def _all_inputs(pair, **more):
    joints = _joints(JOINTS)
    top_k = lattice.top_k(joints["teacher_joint"], k=2, **pair.lengths)
    given = {**SCORES, **HIDDEN, **joints, "teacher_top_k": top_k, "second_mode": pair.teacher}
    return _inputs(pair, **{**given, **more})


def test_every_registered_loss_runs_with_its_defaults_and_has_a_line_of_help():
    pair = make_pair(1, dtype=np.float32)
    inputs = _all_inputs(pair)
    for name in losses.names():
        value = losses.get(name)(inputs)
        assert value.shape == [8] and np.all(np.isfinite(value)), name
        assert losses.get(name).help
    assert len(losses.describe().splitlines()) == len(losses.names())


def test_weighted_sum_of_the_functions_themselves():
    pair = make_pair(2)
    config = ml_collections.ConfigDict(
        {
            "rnnt": {"weight": 1.0, "fastemit_lambda": 0.5},
            "near": {"loss": "collapsed", "weight": 0.25},
            "late": {"loss": "collapsed", "weight": 0.5, "shift": 1, "adaptive": {"sharpness": 0.1}},
            "window_min": {"weight": 0.1, "shifts": (0, 2)},
        }
    )
    total, terms = Objective(config)(_inputs(pair))
    assert set(terms) == {"rnnt", "near", "late", "window_min"}
    np.testing.assert_array_equal(terms["rnnt"], losses.rnnt(pair.student, **pair.lengths))
    late = losses.collapsed(pair.teacher, pair.student, shift=1, **pair.lengths)
    np.testing.assert_array_equal(terms["late"], late)
    trust = losses.self_adaptive_weight(
        -losses.rnnt(pair.teacher, **pair.lengths), pair.batch.label_lengths, sharpness=0.1
    )
    expected = terms["rnnt"] + 0.25 * terms["near"] + 0.5 * late * tf.cast(trust, tf.float64)
    expected += 0.1 * losses.window_min(pair.teacher, pair.student, shifts=(0, 2), **pair.lengths)
    np.testing.assert_allclose(total, expected, rtol=1e-7)


def test_weight_zero_changes_no_bit_even_of_infinite_terms():
    pair = make_pair(3, dtype=np.float32)
    impossible = pair.teacher._replace(label=tf.fill(pair.teacher.label.shape, -np.inf))
    objective = Objective({"rnnt": {}, "alignment_kl": {"weight": 1.0}})

    def step(objective, **weights):
        with tf.GradientTape() as tape:
            tape.watch(pair.student)
            inputs = LossInputs(pair.student, teacher=impossible, **pair.lengths)
            total, terms = objective(inputs, **weights)
        return total, terms, tape.gradient(total, pair.student)

    plain, _, plain_gradient = step(Objective({"rnnt": {}}))
    for weight in (0, 0.0, tf.constant(0.0)):
        total, terms, gradient = step(objective, weights={"alignment_kl": weight})
        np.testing.assert_array_equal(total, plain)
        np.testing.assert_array_equal(gradient.blank, plain_gradient.blank)
        np.testing.assert_array_equal(gradient.label, plain_gradient.label)
        assert ("alignment_kl" in terms) == tf.is_tensor(weight)
    assert np.any(np.isinf(step(objective)[0]))


def test_the_teacher_gets_no_gradient_from_any_loss():
    pair = make_pair(4, dtype=np.float32)
    given = {key: tf.constant(x, tf.float32) for key, x in {**SCORES, **HIDDEN}.items()}
    second_mode = lattice.NodeLogProbs(*(tf.identity(x) for x in pair.teacher))
    arrays = tf.nest.map_structure(lambda x: tf.constant(x, tf.float32), JOINTS)
    with tf.GradientTape() as tape:
        tape.watch([pair.teacher, second_mode, given, arrays])
        joints = _joints(arrays)
        objective = Objective({name: {} for name in losses.names()})
        top_k = lattice.top_k(joints["teacher_joint"], k=2, **pair.lengths)
        total, _ = objective(_all_inputs(pair, second_mode=second_mode, teacher_top_k=top_k, **given, **joints))
    sources = [pair.teacher, second_mode, given, arrays]
    to_teacher, to_second_mode, to_given, to_arrays = tape.gradient(total, sources)
    assert all(g is None for g in [*to_teacher, *to_arrays["teacher_joint"]])
    assert all(np.any(g) for g in to_arrays["student_joint"])
    assert to_given["teacher_log_probs"] is None and to_given["teacher_hidden"] is None
    for gradient in (
        to_given["student_log_probs"], to_given["student_hidden"], to_given["hidden_projection"], *to_second_mode
    ):
        assert np.all(np.isfinite(gradient)) and np.any(gradient)


def test_needs_tell_which_artifacts_training_must_read():
    assert Objective({"rnnt": {}}).needs == set()
    assert Objective({"rnnt": {}, "collapsed": {"weight": 0}}).needs == set()
    assert Objective({"collapsed": {}}).needs == {"teacher"}
    assert Objective({"full_sum": {}}).needs == {"teacher_log_prob"}
    assert Objective({"rnnt": {"adaptive": {}}}).needs == {"teacher_log_prob"}
    assert Objective({"hard_n_best": {}}).needs == {"student_log_probs", "teacher_log_probs"}
    assert Objective({"hidden": {}}).needs == {"student_hidden", "teacher_hidden"}
    assert Objective({"symmetric_consistency": {}}).needs == {"second_mode"}
    assert Objective({"soft": {}}).needs == {"student_joint", "teacher_joint"}
    assert Objective({"top_k": {"weigh_by": "posterior"}}).needs == {"student_joint", "teacher_top_k", "teacher"}


@pytest.mark.parametrize("kind", ["posterior", "live", "best_path"])
def test_losses_over_joints_can_weigh_nodes_by_the_teachers_lattice(kind):
    pair = make_pair(9)
    joints = _joints(JOINTS)
    got, _ = Objective({"soft": {"weigh_by": kind, "threshold": 0.2}})(_inputs(pair, **joints))
    used = lattice.occupancies(pair.teacher, **pair.lengths)
    posterior = used.blank + used.label
    path = lattice.viterbi(pair.teacher, **pair.lengths).nodes
    weights = {"posterior": posterior, "live": posterior > 0.2, "best_path": path}[kind]
    want = losses.soft(joints["teacher_joint"], joints["student_joint"], node_weights=weights, **pair.lengths)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    with pytest.raises(ValueError, match="needs the teacher's nodes"):
        Objective({"soft": {"weigh_by": kind}})(LossInputs(pair.student, **joints, **pair.lengths))


def test_the_stored_teacher_score_is_preferred_to_the_summed_one():
    pair = make_pair(5)
    stored = -np.arange(1.0, 9.0)
    value, _ = Objective({"full_sum": {}})(_inputs(pair, teacher_log_prob=stored))
    np.testing.assert_allclose(value, np.abs(-losses.rnnt(pair.student, **pair.lengths) - stored), rtol=1e-9)
    summed, _ = Objective({"full_sum": {}})(_inputs(pair))
    assert not np.allclose(value, summed)


def test_hidden_and_consistency_take_what_they_need_and_nothing_else():
    pair = make_pair(8, dtype=np.float32)
    alone = LossInputs(None, **pair.lengths, **HIDDEN)  # stage 1: no lattice at all
    got, _ = Objective({"hidden": {"distance": "l1", "shift": 1}})(alone)
    projected = HIDDEN["student_hidden"] @ HIDDEN["hidden_projection"]
    for i, frames in enumerate(pair.batch.logit_lengths):
        difference = np.abs(projected[i, 1:frames] - HIDDEN["teacher_hidden"][i, : frames - 1])
        np.testing.assert_allclose(got[i], difference.mean() if frames > 1 else 0.0, rtol=1e-9)
    weightless = np.zeros(pair.student.blank.shape)  # no utterance has a teacher; consistency needs none
    inputs = LossInputs(pair.student, second_mode=pair.teacher, node_weights=weightless, **pair.lengths)
    got, _ = Objective({"symmetric_consistency": {"shift": 1}})(inputs)
    want = losses.symmetric_consistency(pair.student, pair.teacher, shift=1, **pair.lengths)
    np.testing.assert_array_equal(got, want)
    assert np.any(want)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"rnn-t": {}}, "no loss is called 'rnn-t'; registered are alignment_cross_entropy"),
        ({"collapsed": {"shfit": 1}}, "has no option shfit; it has reduction_over_nodes, shift"),
        ({"rnnt": {"weight": float("nan")}}, "finite number"),
        ({"rnnt": 1.0}, "must be a mapping"),
        ({"rnnt": {"adaptive": {"power": 2}}}, "has no option power"),
        ({}, "no loss term given"),
    ],
)
def test_bad_configs_are_refused_when_the_objective_is_made(terms, message):
    with pytest.raises(ValueError, match=message):
        Objective(terms)


def test_missing_tensors_and_wrong_weights_are_named():
    pair = make_pair(6)
    alone = LossInputs(pair.student, **pair.lengths)
    with pytest.raises(ValueError, match="'collapsed' needs teacher"):
        Objective({"collapsed": {}})(alone)
    with pytest.raises(ValueError, match="`adaptive` weight needs teacher_log_prob"):
        Objective({"rnnt": {"adaptive": {}}})(alone)
    with pytest.raises(ValueError, match="weights for kd, but the terms are rnnt"):
        Objective({"rnnt": {}})(alone, weights={"kd": 1.0})
    with pytest.raises(ValueError, match="all weights are 0"):
        Objective({"rnnt": {"weight": 0.0}})(alone)


def test_an_objective_inside_a_compiled_step_equals_eager():
    pair = make_pair(7, dtype=np.float32)
    objective = Objective({"rnnt": {}, "collapsed": {"weight": 0.1}, "alignment_kl": {"weight": 0.2}, "full_sum": {}})

    def step(student, teacher, weight):
        with tf.GradientTape() as tape:
            tape.watch(student)
            inputs = LossInputs(student, teacher=teacher, **pair.lengths)
            total, _ = objective(inputs, weights={"collapsed": weight})
        return total, tape.gradient(total, student)

    arguments = pair.student, pair.teacher, tf.constant(0.3)
    eager = step(*arguments)
    compiled = tf.function(step, jit_compile=True, autograph=False)(*arguments)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), eager, compiled)
