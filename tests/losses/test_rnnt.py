"""The RNN-T loss against enumeration, finite differences and published values."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import joint_batch, ragged_batch
from lattice_brute_force import alignments, loss_of_logits, numeric_gradient

from tf_rnnt_kd import lattice, losses


def _loss_and_gradient(logits, fastemit_lambda=0.0, **arguments):
    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.rnnt_loss(logits, fastemit_lambda=fastemit_lambda, **arguments)
        total = tf.reduce_sum(tf.where(tf.math.is_finite(loss), loss, tf.zeros_like(loss)))
    return loss.numpy(), tape.gradient(total, logits).numpy()


@pytest.mark.parametrize("blank_index", [0, 1, -1])
def test_every_small_lattice_against_enumeration(blank_index):
    sizes = tuple((t, u) for t in range(1, 5) for u in range(4))
    for num_symbols in (2, 3, 4):
        batch = ragged_batch(num_symbols, num_symbols=num_symbols, sizes=sizes, blank_index=blank_index)
        loss = losses.rnnt_loss(batch.logits, labels=batch.labels, **batch.lengths, blank_index=blank_index)
        expected = [loss_of_logits(*batch.utterance(i), blank_index) for i in range(len(sizes))]
        assert loss.dtype == tf.float32
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 0), (1, 2), (3, 0), (4, 3)])
def test_gradient_to_logits_against_finite_differences(size):
    batch = ragged_batch(2, sizes=(size, (1, 1)), dtype=np.float64)
    _, gradient = _loss_and_gradient(batch.logits, labels=batch.labels, **batch.lengths)
    logits, labels = batch.utterance(0)
    expected = numeric_gradient(lambda x: loss_of_logits(x, labels), logits)
    np.testing.assert_allclose(gradient[0, : size[0], : size[1] + 1], expected, atol=1e-7)
    assert np.all(gradient[0, size[0] :] == 0) and np.all(gradient[0, :, size[1] + 1 :] == 0)


def test_gradient_of_huge_logits_in_float64():
    batch = ragged_batch(3, sizes=((4, 3),), scale=1e4, dtype=np.float64)
    _, gradient = _loss_and_gradient(batch.logits, labels=batch.labels, **batch.lengths)

    with tf.GradientTape() as tape:  # all alignments one by one, by autodiff of log_softmax
        logits = tf.constant(batch.logits)
        tape.watch(logits)
        log_probs = tf.nn.log_softmax(logits)
        scores = []
        for path in alignments(4, 3):
            symbols = [0 if kind == "blank" else batch.labels[0, u] for kind, _, u in path]
            scores.append(tf.add_n([log_probs[0, t, u, k] for (_, t, u), k in zip(path, symbols, strict=True)]))
        loss = -tf.reduce_logsumexp(tf.stack(scores))
    np.testing.assert_allclose(gradient, tape.gradient(loss, logits), atol=1e-9)


def test_fastemit_scales_label_arcs_and_leaves_the_value():
    batch = ragged_batch(4)
    nodes = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
    results = []
    for fastemit_lambda in (0.0, 0.25):
        with tf.GradientTape() as tape:
            tape.watch(nodes)
            loss = losses.rnnt(nodes, **batch.lengths, fastemit_lambda=fastemit_lambda)
        results.append((loss, tape.gradient(loss, nodes)))
    (plain, before), (emit, after) = results
    np.testing.assert_array_equal(plain, emit)
    np.testing.assert_array_equal(before.blank, after.blank)
    np.testing.assert_array_equal(1.25 * before.label.numpy(), after.label)
    assert np.any(before.label)


def test_fastemit_in_logits_is_the_published_formula():
    """The usual gradient plus lambda x (label occupancy) x (P(k) - [k = label])."""
    batch = ragged_batch(5, dtype=np.float64)
    arguments = {"labels": batch.labels, **batch.lengths}
    _, plain = _loss_and_gradient(batch.logits, **arguments)
    _, emit = _loss_and_gradient(batch.logits, fastemit_lambda=0.1, **arguments)
    nodes = lattice.node_log_probs_from_logits(batch.logits, **arguments)
    occupied = lattice.occupancies(nodes, **batch.lengths).label.numpy()[..., None]
    is_label = np.pad(np.eye(4)[batch.labels], [[0, 0], [0, 1], [0, 0]])[:, None]
    np.testing.assert_allclose(emit - plain, 0.1 * occupied * (tf.nn.softmax(batch.logits) - is_label), atol=1e-12)


def test_padding_with_nan_batch_split_and_permutation_change_nothing():
    batch = ragged_batch(6)
    arguments = {"labels": batch.labels, **batch.lengths}
    loss, gradient = _loss_and_gradient(batch.logits, **arguments)

    dirty = np.full(np.array(batch.logits.shape) + [0, 3, 2, 0], np.nan, np.float32)
    for i, (t, u) in enumerate(zip(batch.logit_lengths, batch.label_lengths, strict=True)):
        dirty[i, :t, : u + 1] = batch.logits[i, :t, : u + 1]
    labels = np.pad(batch.labels, [[0, 0], [0, 2]], constant_values=-7)
    dirty_loss, dirty_gradient = _loss_and_gradient(dirty, labels=labels, **batch.lengths)
    np.testing.assert_array_equal(loss, dirty_loss)
    np.testing.assert_array_equal(gradient, dirty_gradient[:, :-3, :-2])
    assert np.all(dirty_gradient[:, -3:] == 0)

    order = np.random.default_rng(0).permutation(len(loss))
    for rows in (order, order[:2], order[2:]):
        part = {key: value[rows] for key, value in arguments.items()}
        part_loss, part_gradient = _loss_and_gradient(batch.logits[rows], **part)
        np.testing.assert_array_equal(part_loss, loss[rows])
        np.testing.assert_array_equal(part_gradient, gradient[rows])


def test_impossible_transcript_is_infinite_with_zero_gradient():
    batch = ragged_batch(7, sizes=((3, 2), (3, 2)))
    logits = batch.logits.copy()
    logits[0, :, 1, batch.labels[0, 1]] = -np.inf
    loss, gradient = _loss_and_gradient(logits, labels=batch.labels, **batch.lengths)
    assert np.isposinf(loss[0]) and np.isfinite(loss[1])
    np.testing.assert_array_equal(gradient[0], 0.0)
    assert np.all(np.isfinite(gradient))


def test_half_precision_logits():
    batch = ragged_batch(8)
    arguments = {"labels": batch.labels, **batch.lengths}
    for dtype in (tf.bfloat16, tf.float16):
        half = tf.cast(batch.logits, dtype)
        loss, gradient = _loss_and_gradient(half, **arguments)
        same_loss, same_gradient = _loss_and_gradient(tf.cast(half, tf.float32), **arguments)
        assert loss.dtype == np.float32 and gradient.dtype == dtype.as_numpy_dtype
        np.testing.assert_array_equal(loss, same_loss)
        np.testing.assert_array_equal(gradient, tf.cast(same_gradient, dtype))


def test_fused_training_step_under_xla_equals_eager_dense():
    arrays, labels, lengths = joint_batch(9)
    inputs = [tf.constant(a) for a in arrays]

    def step(*x, fused):
        with tf.GradientTape() as tape:
            tape.watch(x)
            if fused:
                loss = losses.rnnt(lattice.node_log_probs(*x, labels=labels, **lengths), **lengths)
            else:
                logits = tf.tanh(x[0][:, :, None] + x[1][:, None]) @ x[2] + x[3]
                loss = losses.rnnt_loss(logits, labels=labels, **lengths)
            total = tf.reduce_mean(loss)
        return loss, tape.gradient(total, x)

    compiled = tf.function(lambda *x: step(*x, fused=True), jit_compile=True, autograph=False)
    (loss, gradients), (expected, expected_gradients) = compiled(*inputs), step(*inputs, fused=False)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for got, want in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
