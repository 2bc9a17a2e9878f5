"""Sums over alignments against walking every alignment, and their gradients."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import ragged_batch
from lattice_brute_force import full_sum, numeric_gradient, occupancies, path_log_probs

from tf_rnnt_kd import lattice
from tf_rnnt_kd.lattice import diagonals


def _nodes(seed=0, dtype=np.float64, **kwargs):
    batch = ragged_batch(seed, dtype=dtype, **kwargs)
    return batch, lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)


def _crop(batch, i, x):
    return np.asarray(x[i, : batch.logit_lengths[i], : batch.label_lengths[i] + 1], np.float64)


def test_every_small_lattice_against_enumeration():
    sizes = tuple((t, u) for t in range(1, 5) for u in range(4))
    for num_symbols in (2, 3, 4):
        batch, nodes = _nodes(num_symbols, num_symbols=num_symbols, sizes=sizes)
        log_prob, arcs = lattice.forward_backward(nodes, **batch.lengths)
        for i in range(len(sizes)):
            blank, label = _crop(batch, i, nodes.blank), _crop(batch, i, nodes.label)
            np.testing.assert_allclose(log_prob[i], full_sum(blank, label), rtol=1e-12)
            for got, want in zip(arcs, occupancies(blank, label), strict=True):
                np.testing.assert_allclose(_crop(batch, i, got), want, atol=1e-12)
                assert np.isclose(np.sum(got[i]), np.sum(want))  # nothing outside the utterance


def test_occupancies_count_frames_and_labels():
    batch, nodes = _nodes(1, np.float32, sizes=((40, 9), (25, 0), (7, 12)))
    arcs = lattice.occupancies(nodes, **batch.lengths)
    np.testing.assert_allclose(tf.reduce_sum(arcs.blank, [1, 2]), batch.logit_lengths, rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(arcs.label, [1, 2]), batch.label_lengths, rtol=1e-5, atol=1e-6)


def test_gradient_of_the_full_sum_is_the_occupancy_and_the_finite_difference():
    batch, nodes = _nodes(2, sizes=((4, 3), (3, 2), (2, 0)))
    with tf.GradientTape() as tape:
        tape.watch(nodes)
        value = tf.reduce_sum(lattice.full_sum(nodes, **batch.lengths) * tf.constant([1.0, -2.0, 3.0], tf.float64))
    got = tape.gradient(value, nodes)
    arcs = lattice.occupancies(nodes, **batch.lengths)
    for i, weight in enumerate((1.0, -2.0, 3.0)):
        np.testing.assert_allclose(got.blank[i], weight * arcs.blank[i], atol=1e-12)
        np.testing.assert_allclose(got.label[i], weight * arcs.label[i], atol=1e-12)
        blank, label = _crop(batch, i, nodes.blank), _crop(batch, i, nodes.label)
        numeric = numeric_gradient(lambda x, label=label: full_sum(x, label), blank)
        np.testing.assert_allclose(_crop(batch, i, arcs.blank), numeric, atol=1e-7)
    assert got.rest is None


def test_path_expectation_and_its_gradients_against_enumeration():
    batch, nodes = _nodes(3, sizes=((4, 3), (3, 2), (4, 0), (1, 2)))
    rng = np.random.default_rng(0)
    values = [tf.constant(rng.normal(size=nodes.blank.shape)) for _ in range(2)]
    with tf.GradientTape() as tape:
        tape.watch([nodes, values])
        mean = lattice.path_expectation(nodes, *values, **batch.lengths)
        value = tf.reduce_sum(mean)
    to_nodes, to_values = tape.gradient(value, [nodes, values])

    def enumerate_mean(blank, label, blank_value, label_value):
        paths, scores = path_log_probs(blank, label)
        tables = {"blank": blank_value, "label": label_value}
        sums = np.array([sum(tables[kind][t, u] for kind, t, u in path) for path in paths])
        return np.sum(np.exp(scores - np.logaddexp.reduce(scores)) * sums)

    for i in range(4):
        parts = [_crop(batch, i, x) for x in (nodes.blank, nodes.label, *values)]
        np.testing.assert_allclose(mean[i], enumerate_mean(*parts), rtol=1e-10)
        gradients = (to_nodes.blank, to_nodes.label, *to_values)
        for k, got in enumerate(gradients):

            def at(x, k=k, parts=parts):
                return enumerate_mean(*parts[:k], x, *parts[k + 1 :])

            finite = parts[k] > -1e29
            numeric = np.where(finite, numeric_gradient(at, np.where(finite, parts[k], -50.0)), 0.0)
            np.testing.assert_allclose(np.where(finite, _crop(batch, i, got), 0.0), numeric, atol=1e-6)


def test_gradient_of_occupancies_against_enumeration():
    batch, nodes = _nodes(4, sizes=((3, 2),))
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=nodes.blank.shape) for _ in range(2)]
    with tf.GradientTape() as tape:
        tape.watch(nodes)
        arcs = lattice.occupancies(nodes, **batch.lengths)
        value = tf.reduce_sum(arcs.blank * weights[0]) + tf.reduce_sum(arcs.label * weights[1])
    got = tape.gradient(value, nodes)
    blank, label = _crop(batch, 0, nodes.blank), _crop(batch, 0, nodes.label)

    def at(x):
        used = occupancies(x, label)
        return np.sum(used[0] * weights[0][0]) + np.sum(used[1] * weights[1][0])

    np.testing.assert_allclose(got.blank[0], numeric_gradient(at, blank), atol=1e-7)


def test_impossible_transcripts_are_minus_infinity_with_zero_gradient_and_a_flag():
    batch, nodes = _nodes(5, np.float32, sizes=((3, 2), (3, 2), (2, 2)))
    label = nodes.label.numpy()
    label[1, :, 1] = -np.inf  # the second label can never be emitted
    label[2, 0, :] = -np.inf  # only the first frame's labels are impossible
    nodes = nodes._replace(label=tf.constant(label))
    with tf.GradientTape() as tape:
        tape.watch(nodes)
        log_prob = lattice.full_sum(nodes, **batch.lengths)
        value = tf.reduce_sum(log_prob**2)  # hands an infinite gradient down
    gradient = tape.gradient(value, nodes)
    np.testing.assert_array_equal(np.isneginf(log_prob), [False, True, False])
    np.testing.assert_array_equal(lattice.is_possible(nodes, **batch.lengths), [True, False, True])
    for g in (gradient.blank, gradient.label):
        assert np.all(np.isfinite(g))
        np.testing.assert_array_equal(g[1], 0.0)
    np.testing.assert_array_equal(lattice.occupancies(nodes, **batch.lengths).blank[1], 0.0)
    assert np.all(np.abs(gradient.blank[0]).sum() > 0)


def test_more_labels_than_any_frame_could_hold_is_possible_but_no_frames_is_not():
    batch, nodes = _nodes(6, np.float32, sizes=((1, 3), (3, 1), (2, 2)))
    lengths = {"logit_lengths": [1, 0, 0], "label_lengths": [3, 1, 0]}
    log_prob = lattice.full_sum(nodes, **lengths).numpy()
    assert np.isfinite(log_prob[0])
    assert np.isneginf(log_prob[1])
    assert log_prob[2] == 0.0  # a dummy row of a padded batch


def test_padding_and_batch_mates_change_no_bit():
    batch, nodes = _nodes(7, np.float32)
    log_prob, arcs = lattice.forward_backward(nodes, **batch.lengths)
    padded = lattice.NodeLogProbs(*(tf.pad(x, [[0, 0], [0, 3], [0, 2]], constant_values=float("nan")) for x in nodes))
    more_log_prob, more_arcs = lattice.forward_backward(padded, **batch.lengths)
    np.testing.assert_array_equal(log_prob, more_log_prob)
    np.testing.assert_array_equal(arcs.blank, more_arcs.blank[:, :-3, :-2])
    order = np.random.default_rng(0).permutation(len(batch.logit_lengths))
    for rows in (order[:3], order[3:4], order[4:]):
        part = lattice.NodeLogProbs(*(tf.gather(x, rows) for x in nodes))
        lengths = {key: value[rows] for key, value in batch.lengths.items()}
        np.testing.assert_array_equal(lattice.full_sum(part, **lengths), tf.gather(log_prob, rows))


def test_long_lattice_in_float32_against_float64():
    rng = np.random.default_rng(8)
    shape = (1, 2000, 301)
    p = rng.dirichlet([1.0, 1.0, 1.0], size=shape)
    nodes = lattice.NodeLogProbs(*np.log(p.transpose(3, 0, 1, 2)))
    lengths = {"logit_lengths": [2000], "label_lengths": [300]}
    exact, exact_arcs = lattice.forward_backward(nodes, **lengths)
    single = lattice.NodeLogProbs(*(x.astype(np.float32) for x in nodes))
    log_prob, arcs = lattice.forward_backward(single, **lengths)
    assert log_prob.dtype == tf.float32 and exact.dtype == tf.float64
    np.testing.assert_allclose(log_prob, exact, rtol=1e-5)
    np.testing.assert_allclose(arcs.label, exact_arcs.label, atol=1e-4)


def test_xla_graph_and_eager_agree():
    batch, nodes = _nodes(9, np.float32)
    rng = np.random.default_rng(0)
    values = [tf.constant(rng.normal(size=nodes.blank.shape), tf.float32) for _ in range(2)]

    def step(nodes):
        with tf.GradientTape() as tape:
            tape.watch(nodes)
            log_prob = lattice.full_sum(nodes, **batch.lengths)
            mean = lattice.path_expectation(nodes, *values, **batch.lengths)
            value = tf.reduce_sum(log_prob + 0.5 * mean)
        gradient = tape.gradient(value, nodes)
        return log_prob, mean, gradient.blank, gradient.label

    eager = step(nodes)
    for jit_compile in (False, True):
        for got, want in zip(tf.function(step, jit_compile=jit_compile, autograph=False)(nodes), eager, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_skew_lays_diagonals_into_rows():
    x = np.arange(24.0).reshape(2, 4, 3)
    skewed = diagonals.skew(tf.constant(x)).numpy()
    for t in range(4):
        for u in range(3):
            np.testing.assert_array_equal(skewed[t + u, :, u], x[:, t, u])
    np.testing.assert_array_equal(diagonals.unskew(tf.constant(skewed)), x)


def test_one_trace_serves_all_shapes():
    for seed, size in enumerate([(2, 1), (5, 3), (9, 4), (3, 0)]):
        batch, nodes = _nodes(seed, np.float32, sizes=(size, (1, 0)))
        lattice.full_sum(nodes, **batch.lengths)
    assert diagonals._alpha_scan.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("bad", [(3, 4), (3, 4, 5, 6)])
def test_nodes_of_the_wrong_rank_are_refused(bad):
    with pytest.raises(ValueError, match=r"\[B, T, U\+1\]"):
        lattice.full_sum(lattice.NodeLogProbs(*[np.zeros(bad)] * 3), logit_lengths=[1], label_lengths=[1])
