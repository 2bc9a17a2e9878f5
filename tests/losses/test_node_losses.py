"""Losses that compare teacher and student node by node, against plain loops in numpy float64."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_brute_force import log_softmax, occupancies, path_log_probs
from lattice_pairs import make_pair, value_and_gradient

from tf_rnnt_kd import lattice, losses

NODE_LOSSES = {
    "collapsed": losses.collapsed,
    "occupancy_weighted": losses.occupancy_weighted,
    "node_masked": losses.node_masked,
    "best_path": losses.best_path,
    "window_min": losses.window_min,
    "best_shift": losses.best_shift,
}
SIZES = ((4, 3), (3, 2), (1, 2), (2, 0), (4, 1))


def _kl_table(pair, i, shift=0):
    """KL(teacher(t, u) || student(t + shift, u)) [T_b, U_b+1] of utterance i, NaN where there is no partner."""
    teacher = np.exp([pair.crop(i, x) for x in pair.teacher])
    logs = [np.stack([pair.crop(i, x) for x in nodes]) for nodes in (pair.teacher, pair.student)]
    table = np.full(teacher.shape[1:], np.nan)
    for t in range(table.shape[0]):
        if 0 <= t + shift < table.shape[0]:
            table[t] = np.sum(teacher[:, t] * (logs[0][:, t] - logs[1][:, t + shift]), axis=0)
    return table


def _reduce(table, reduction, frames, weights=None):
    weights = np.where(np.isnan(table), 0.0, np.ones_like(table) if weights is None else weights)
    total = np.sum(weights * np.nan_to_num(table))
    divisor = {"sum": 1.0, "mean": np.sum(weights), "per_frame": frames}[reduction]
    return total / divisor if divisor else 0.0


@pytest.mark.parametrize("reduction", ["sum", "mean", "per_frame"])
@pytest.mark.parametrize("shift", [0, 2, -1, 9])
def test_collapsed_with_shift_and_weights(shift, reduction):
    pair = make_pair(1, sizes=SIZES)
    weights = np.random.default_rng(0).uniform(size=pair.teacher.blank.shape)
    options = {"shift": shift, "reduction_over_nodes": reduction, **pair.lengths}
    plain = losses.collapsed(pair.teacher, pair.student, **options)
    weighted = losses.collapsed(pair.teacher, pair.student, node_weights=weights, **options)
    for i, (frames, _) in enumerate(SIZES):
        table = _kl_table(pair, i, shift)
        np.testing.assert_allclose(plain[i], _reduce(table, reduction, frames), rtol=1e-9)
        expected = _reduce(table, reduction, frames, pair.crop(i, weights))
        np.testing.assert_allclose(weighted[i], expected, rtol=1e-6)


def test_collapsed_is_below_the_full_kl_and_equal_for_three_symbols():
    for num_symbols in (3, 4, 6):
        pair = make_pair(num_symbols, num_symbols=num_symbols, sizes=((4, 3), (3, 3)))
        collapsed = losses.collapsed(pair.teacher, pair.student, **pair.lengths)
        node_weights = lattice.label_arc_mask(**pair.lengths, num_frames=4, num_positions=4)
        with_label = losses.collapsed(pair.teacher, pair.student, node_weights=node_weights, **pair.lengths)
        for i in range(2):
            teacher, student = (log_softmax(pair.crop(i, x)) for x in (pair.teacher_logits, pair.batch.logits))
            full = np.sum(np.exp(teacher) * (teacher - student), axis=-1)
            assert collapsed[i] <= full.sum() + 1e-12
            if num_symbols == 3:
                np.testing.assert_allclose(with_label[i], full[:, :-1].sum(), rtol=1e-12)
            else:
                assert with_label[i] < full[:, :-1].sum()


def test_collapsed_gradient_to_logits_spreads_the_rest_in_the_students_proportions():
    pair = make_pair(2, sizes=((3, 2),))
    logits = tf.constant(pair.batch.logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nodes = lattice.node_log_probs_from_logits(logits, labels=pair.batch.labels, **pair.lengths)
        value = losses.collapsed(pair.teacher, nodes, **pair.lengths)
    got = tape.gradient(value, logits).numpy()[0]
    student = np.exp(log_softmax(pair.batch.logits[0]))
    blank, label, rest = (np.exp(pair.crop(0, x)) for x in pair.teacher)
    for t in range(3):
        for u in range(3):
            special = [0] + ([pair.batch.labels[0, u]] if u < 2 else [])
            target = student[t, u] * rest[t, u] / np.delete(student[t, u], special).sum()
            target[0] = blank[t, u]
            if u < 2:
                target[special[1]] = label[t, u]
            np.testing.assert_allclose(got[t, u], student[t, u] - target, atol=1e-12)


def test_occupancy_weighted_and_masked_and_best_path_against_loops():
    pair = make_pair(3, sizes=SIZES)
    weighted = losses.occupancy_weighted(pair.teacher, pair.student, **pair.lengths)
    masked = losses.node_masked(pair.teacher, pair.student, threshold=0.2, **pair.lengths)
    path = losses.best_path(pair.teacher, pair.student, reduction_over_nodes="mean", **pair.lengths)
    for i, (frames, labels) in enumerate(SIZES):
        table = _kl_table(pair, i)
        blank, label = pair.crop(i, pair.teacher.blank), pair.crop(i, pair.teacher.label)
        posterior = np.sum(occupancies(blank, label), axis=0)
        np.testing.assert_allclose(weighted[i], np.sum(posterior * table), rtol=1e-9)
        np.testing.assert_allclose(masked[i], np.sum(table[posterior > 0.2]), rtol=1e-6)
        paths, scores = path_log_probs(blank, label)
        on_path = [table[t, u] for _, t, u in paths[np.argmax(scores)]]
        assert len(on_path) == frames + labels
        np.testing.assert_allclose(path[i], np.mean(on_path), rtol=1e-6)


def test_window_min_and_best_shift_against_loops():
    pair = make_pair(4, sizes=SIZES)
    shifts = (0, 1, -2)
    window = losses.window_min(pair.teacher, pair.student, shifts=shifts, **pair.lengths)
    best = losses.best_shift(pair.teacher, pair.student, shifts=shifts, **pair.lengths)
    chosen = set()
    for i in range(len(SIZES)):
        tables = np.array([_kl_table(pair, i, shift) for shift in shifts])
        np.testing.assert_allclose(window[i], np.nanmin(tables, axis=0).sum(), rtol=1e-9)
        counts = [np.sum(~np.isnan(table)) for table in tables]
        means = [np.nansum(table) / n if n else np.inf for table, n in zip(tables, counts, strict=True)]
        chosen.add(int(np.argmin(means)))
        np.testing.assert_allclose(best[i], np.nansum(tables[np.argmin(means)]), rtol=1e-9)
    assert len(chosen) > 1  # the batch exercises the choice


def test_best_shift_recovers_a_delayed_student():
    pair = make_pair(5, sizes=((9, 3),))
    late = lattice.NodeLogProbs(*(tf.roll(x, 2, axis=1) for x in pair.teacher))
    assert losses.best_shift(pair.teacher, late, shifts=(0, 1, 2, 3), **pair.lengths)[0] == 0.0
    assert losses.collapsed(pair.teacher, late, **pair.lengths)[0] > 0.1


@pytest.mark.parametrize("name", NODE_LOSSES)
def test_zero_value_and_gradient_at_equality_and_no_gradient_for_the_teacher(name):
    pair = make_pair(6)
    value, to_teacher, to_student = value_and_gradient(
        lambda t, s: NODE_LOSSES[name](t, s, **pair.lengths), pair.teacher, pair.student
    )
    assert all(g is None for g in to_teacher)
    assert np.any(value.numpy() > 0) and np.any(np.abs(to_student.blank) > 0)
    logits = tf.constant(pair.batch.logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nodes = lattice.node_log_probs_from_logits(logits, labels=pair.batch.labels, **pair.lengths)
        value = NODE_LOSSES[name](pair.student, nodes, **pair.lengths)
    np.testing.assert_allclose(value, 0.0, atol=1e-12)
    np.testing.assert_allclose(tape.gradient(value, logits), 0.0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean", "per_frame"])
@pytest.mark.parametrize("name", [*NODE_LOSSES, "alignment_cross_entropy"])
def test_padding_and_batch_split_change_nothing(name, reduction):
    loss = getattr(losses, name)
    pair = make_pair(7, dtype=np.float32)
    options = {"reduction_over_nodes": reduction}
    value, _, gradient = value_and_gradient(
        lambda t, s: loss(t, s, **pair.lengths, **options), pair.teacher, pair.student
    )
    teacher, student = (
        lattice.NodeLogProbs(*(tf.pad(x, [[0, 0], [0, 2], [0, 1]], constant_values=np.nan) for x in nodes))
        for nodes in (pair.teacher, pair.student)
    )
    padded, _, padded_gradient = value_and_gradient(
        lambda t, s: loss(t, s, **pair.lengths, **options), teacher, student
    )
    np.testing.assert_allclose(value, padded, rtol=1e-6)
    for got, want in zip(padded_gradient, gradient, strict=True):
        if want is not None:
            np.testing.assert_allclose(got[:, :-2, :-1], want, rtol=1e-6, atol=1e-7)
            assert np.all(got[:, -2:].numpy() == 0) and np.all(got[:, :, -1:].numpy() == 0)
    for rows in (slice(0, 3), slice(3, 4), slice(4, None)):
        part = [lattice.NodeLogProbs(*(x[rows] for x in nodes)) for nodes in (pair.teacher, pair.student)]
        lengths = {key: x[rows] for key, x in pair.lengths.items()}
        np.testing.assert_allclose(loss(*part, **lengths, **options), value[rows], rtol=1e-6)


def test_all_node_losses_agree_under_xla_in_one_program():
    pair = make_pair(8, dtype=np.float32)

    def step(teacher, student):
        results = {}
        for name, loss in NODE_LOSSES.items():
            value, _, gradient = value_and_gradient(lambda t, s, f=loss: f(t, s, **pair.lengths), teacher, student)
            results[name] = (value, *gradient)
        return results

    eager = step(pair.teacher, pair.student)
    compiled = tf.function(step, jit_compile=True, autograph=False)(pair.teacher, pair.student)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), eager, compiled)


def test_infinite_teacher_probabilities_and_bad_arguments():
    pair = make_pair(9, dtype=np.float32)
    teacher = pair.teacher._replace(rest=tf.fill(pair.teacher.rest.shape, -np.inf))
    value, _, gradient = value_and_gradient(lambda t, s: losses.collapsed(t, s, **pair.lengths), teacher, pair.student)
    assert np.all(np.isfinite(value)) and all(np.all(np.isfinite(g)) for g in gradient)
    with pytest.raises(ValueError, match="reduction_over_nodes='max'"):
        losses.collapsed(pair.teacher, pair.student, reduction_over_nodes="max", **pair.lengths)
    other = lattice.NodeLogProbs(*(x[:, :-1] for x in pair.student))
    with pytest.raises(ValueError, match="same frame rate"):
        losses.collapsed(pair.teacher, other, **pair.lengths)
    with pytest.raises(ValueError, match="shifts is empty"):
        losses.window_min(pair.teacher, pair.student, shifts=(), **pair.lengths)
    with pytest.raises(ValueError, match="threshold=1.5"):
        losses.node_masked(pair.teacher, pair.student, threshold=1.5, **pair.lengths)
