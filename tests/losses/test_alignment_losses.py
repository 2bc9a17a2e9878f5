"""Losses on the distribution over alignments, against walking every alignment."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_brute_force import alignments, path_log_probs
from lattice_pairs import make_pair, value_and_gradient

from tf_rnnt_kd import lattice, losses

SIZES = tuple((t, u) for t in range(1, 5) for u in range(4))


def _path_scores(pair, i):
    """Log-probabilities of all alignments under teacher and student, [paths] each."""
    return [
        path_log_probs(pair.crop(i, nodes.blank), pair.crop(i, nodes.label))[1]
        for nodes in (pair.teacher, pair.student)
    ]


def test_values_against_enumeration():
    pair = make_pair(1, sizes=SIZES)
    normalised = losses.alignment_kl(pair.teacher, pair.student, **pair.lengths)
    semiring = losses.alignment_kl_semiring(pair.teacher, pair.student, **pair.lengths)
    cross_entropy = losses.alignment_cross_entropy(pair.teacher, pair.student, **pair.lengths)
    entropy = losses.alignment_entropy(pair.student, **pair.lengths)
    for i in range(len(SIZES)):
        teacher, student = _path_scores(pair, i)
        teacher_posterior, student_posterior = (x - np.logaddexp.reduce(x) for x in (teacher, student))
        p = np.exp(teacher_posterior)
        np.testing.assert_allclose(normalised[i], np.sum(p * (teacher_posterior - student_posterior)), atol=1e-12)
        np.testing.assert_allclose(semiring[i], np.sum(np.exp(teacher) * (teacher - student)), rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(cross_entropy[i], -np.sum(p * student), rtol=1e-12)
        expected = -np.sum(np.exp(student_posterior) * student_posterior)
        np.testing.assert_allclose(entropy[i], expected, atol=1e-11)


def test_gradient_of_the_kl_is_the_difference_of_occupancies():
    pair = make_pair(2, sizes=SIZES)
    value, to_teacher, to_student = value_and_gradient(
        lambda t, s: losses.alignment_kl(t, s, **pair.lengths), pair.teacher, pair.student
    )
    assert all(g is None for g in to_teacher)
    teacher, student = (lattice.occupancies(n, **pair.lengths) for n in (pair.teacher, pair.student))
    weights = np.arange(1, len(SIZES) + 1)[:, None, None]
    np.testing.assert_allclose(to_student.blank, weights * (student.blank - teacher.blank), atol=1e-10)
    np.testing.assert_allclose(to_student.label, weights * (student.label - teacher.label), atol=1e-10)


def test_gradient_of_the_entropy_against_autodiff_over_all_paths():
    pair = make_pair(3, sizes=((3, 3),))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(pair.student)
        value = losses.alignment_entropy(pair.student, **pair.lengths)
        tables = {"blank": pair.student.blank, "label": pair.student.label}
        scores = tf.stack([tf.add_n([tables[kind][0, t, u] for kind, t, u in path]) for path in alignments(3, 3)])
        posterior = tf.nn.log_softmax(scores)
        expected = -tf.reduce_sum(tf.exp(posterior) * posterior)
    np.testing.assert_allclose(value[0], expected, rtol=1e-12)
    for arc in ("blank", "label"):
        got, want = (tape.gradient(x, getattr(pair.student, arc)) for x in (value, expected))
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_semiring_value_is_the_weighted_normalised_one():
    pair = make_pair(4, sizes=SIZES)
    teacher, student = (lattice.full_sum(n, **pair.lengths) for n in (pair.teacher, pair.student))
    normalised = losses.alignment_kl(pair.teacher, pair.student, **pair.lengths)
    semiring = losses.alignment_kl_semiring(pair.teacher, pair.student, **pair.lengths)
    np.testing.assert_allclose(semiring, tf.exp(teacher) * (normalised + teacher - student), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ["alignment_kl", "alignment_kl_semiring"])
def test_zero_at_equality(name):
    pair = make_pair(5, dtype=np.float32)
    loss = getattr(losses, name)
    value, _, _ = value_and_gradient(lambda t, s: loss(t, s, **pair.lengths), pair.student, pair.student)
    np.testing.assert_array_equal(value, 0.0)
    logits = tf.constant(pair.batch.logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nodes = lattice.node_log_probs_from_logits(logits, labels=pair.batch.labels, **pair.lengths)
        value = loss(pair.student, nodes, **pair.lengths)
    if name == "alignment_kl":  # the semiring form's gradient is P_T(y|x) (-g_T): y's own likelihood is pushed up
        np.testing.assert_allclose(tape.gradient(value, logits), 0.0, atol=1e-6)


def test_cross_entropy_shift_and_weights_against_loops():
    pair = make_pair(6, sizes=((4, 2), (3, 3)))
    weights = np.random.default_rng(0).uniform(size=pair.teacher.blank.shape)
    got = losses.alignment_cross_entropy(pair.teacher, pair.student, shift=1, node_weights=weights, **pair.lengths)
    used = lattice.occupancies(pair.teacher, **pair.lengths)
    for i, (frames, labels) in enumerate(((4, 2), (3, 3))):
        total = 0.0
        for t in range(frames - 1):
            for u in range(labels + 1):
                label = used.label[i, t, u] * pair.student.label[i, t + 1, u] if u < labels else 0.0
                total -= weights[i, t, u] * (used.blank[i, t, u] * pair.student.blank[i, t + 1, u] + label)
        np.testing.assert_allclose(got[i], total, rtol=1e-9)


def test_reductions_divide_by_arcs_or_frames():
    pair = make_pair(7, sizes=((4, 3), (3, 1)))
    for loss in (losses.alignment_kl, losses.alignment_kl_semiring, losses.alignment_cross_entropy):
        values = {
            kind: loss(pair.teacher, pair.student, reduction_over_nodes=kind, **pair.lengths).numpy()
            for kind in ("sum", "mean", "per_frame")
        }
        np.testing.assert_allclose(values["mean"], values["sum"] / [7, 4], rtol=1e-9)
        np.testing.assert_allclose(values["per_frame"], values["sum"] / [4, 3], rtol=1e-9)


def test_impossible_transcripts_and_padding():
    pair = make_pair(8, dtype=np.float32, sizes=((3, 2), (3, 2), (3, 2)))
    label = pair.teacher.label.numpy(), pair.student.label.numpy()
    label[0][0, :, 1] = -np.inf
    label[1][1, :, 1] = -np.inf
    teacher, student = (
        n._replace(label=tf.constant(x)) for n, x in zip((pair.teacher, pair.student), label, strict=True)
    )
    value, _, gradient = value_and_gradient(lambda t, s: losses.alignment_kl(t, s, **pair.lengths), teacher, student)
    np.testing.assert_array_equal(np.isposinf(value), [True, True, False])
    assert not np.any(np.isnan(value))
    np.testing.assert_array_equal(gradient.blank[:2], 0.0)
    np.testing.assert_array_equal(gradient.label[:2], 0.0)
    assert np.all(np.isfinite(gradient.blank)) and np.any(gradient.blank[2])
    entropy = losses.alignment_entropy(student, **pair.lengths)
    np.testing.assert_array_equal(np.isposinf(entropy), [False, True, False])
    padded = [
        lattice.NodeLogProbs(*(tf.pad(x, [[0, 0], [0, 2], [0, 1]], constant_values=np.nan) for x in nodes))
        for nodes in (teacher, student)
    ]
    np.testing.assert_allclose(losses.alignment_kl(*padded, **pair.lengths), value, rtol=1e-5)
    np.testing.assert_allclose(losses.alignment_entropy(padded[1], **pair.lengths), entropy, rtol=1e-5)


def test_xla_agrees_with_eager():
    pair = make_pair(9, dtype=np.float32)

    def step(teacher, student):
        results = []
        for loss in (
            losses.alignment_kl,
            losses.alignment_kl_semiring,
            losses.alignment_cross_entropy,
            lambda _, s, **lengths: losses.alignment_entropy(s, **lengths),
        ):
            value, _, gradient = value_and_gradient(lambda t, s, f=loss: f(t, s, **pair.lengths), teacher, student)
            results.append((value, gradient.blank, gradient.label))
        return results

    eager = step(pair.teacher, pair.student)
    compiled = tf.function(step, jit_compile=True, autograph=False)(pair.teacher, pair.student)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), eager, compiled)
