"""Losses over whole distributions (soft, top_k, peak_alignment) against dense numpy and dense autodiff in float64."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import joint_batch
from lattice_brute_force import log_softmax

from tf_rnnt_kd import lattice, losses
from tf_rnnt_kd.losses import smoothing

SYMBOLS = 5


def _joints(seed=0, *, dtype=np.float64, **kwargs):
    """Teacher and student of different width over one ragged batch: (teacher, student, labels, lengths)."""
    arrays, labels, lengths = joint_batch(seed, dtype=dtype, num_symbols=SYMBOLS, **kwargs)
    others, _, _ = joint_batch(seed + 50, dtype=dtype, num_symbols=SYMBOLS, width=4, **kwargs)
    student, teacher = (lattice.Joint(*(tf.constant(a) for a in x)) for x in (arrays, others))
    return teacher, student, labels, lengths


def _dense(joint):
    hidden = tf.tanh(joint.encoder[:, :, None, :] + joint.predictor[:, None, :, :])
    return tf.tensordot(hidden, joint.kernel, 1) + joint.bias


def _weights(lengths, shift, frames=7, positions=5):
    """[B, T, U+1] 1 where the teacher's node and its partner exist, by loops."""
    weights = np.zeros((len(lengths["logit_lengths"]), frames, positions))
    for b, (t_b, u_b) in enumerate(zip(*lengths.values(), strict=True)):
        for t in range(t_b):
            if 0 <= t + shift < t_b:
                weights[b, t, : u_b + 1] = 1.0
    return weights


def _naive(teacher_log_probs, student_logits, weights, shift, temperature=1.0):
    """sum of weights x KL by dense tensors; [B]."""
    student = tf.nn.log_softmax(student_logits / temperature)
    rolled = tf.roll(student, -shift, axis=1)
    kl = tf.reduce_sum(tf.exp(teacher_log_probs) * (teacher_log_probs - rolled), axis=-1)
    return tf.reduce_sum(weights * kl, axis=[1, 2])


def _gradients(function, joint, upstream):
    with tf.GradientTape() as tape:
        tape.watch(joint[:4])
        value = function(joint)
        total = tf.reduce_sum(value * tf.constant(upstream, value.dtype))
    return value, tape.gradient(total, joint[:4])


@pytest.mark.parametrize("upstream", [(1.0, 1.0, 1.0), (0.5, -2.0, 0.0)])
@pytest.mark.parametrize("shift", [0, 2, -1])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_soft_against_dense_autodiff(temperature, shift, upstream):
    teacher, student, _, lengths = _joints(1)
    weights = _weights(lengths, shift) * np.random.default_rng(0).uniform(size=(3, 7, 5))
    teacher_log_probs = tf.nn.log_softmax(_dense(teacher) / temperature)
    got, got_gradients = _gradients(
        lambda s: losses.soft(
            teacher, s, **lengths, temperature=temperature, shift=shift, node_weights=weights
        ),
        student,
        upstream,
    )
    want, want_gradients = _gradients(
        lambda s: _naive(teacher_log_probs, _dense(s), weights, shift, temperature), student, upstream
    )
    np.testing.assert_allclose(got, want, rtol=1e-9)
    for g, w in zip(got_gradients, want_gradients, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("reduction", ["sum", "mean", "per_frame"])
def test_reductions_and_dense_teacher(reduction):
    teacher, student, _, lengths = _joints(2)
    weights = np.random.default_rng(1).uniform(size=(3, 7, 5))
    options = {"reduction_over_nodes": reduction, "node_weights": weights, **lengths}
    got = losses.soft(teacher, student, **options)
    dense = losses.soft(_dense(teacher), student, **options)
    weights = _weights(lengths, 0) * weights
    total = _naive(tf.nn.log_softmax(_dense(teacher)), _dense(student), weights, 0)
    divisor = {"sum": 1.0, "mean": weights.sum(axis=(1, 2)), "per_frame": lengths["logit_lengths"]}[reduction]
    np.testing.assert_allclose(got, total / divisor, rtol=1e-9)
    np.testing.assert_allclose(dense, got, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_top_k_against_loops(k):
    teacher, student, _, lengths = _joints(3)
    target = lattice.top_k(teacher, k=k, **lengths)
    got, gradients = _gradients(lambda s: losses.top_k(target, s, **lengths), student, (1.0, 2.0, -1.0))
    full = losses.soft(teacher, student, **lengths)
    teacher_p, student_p = (np.exp(log_softmax(_dense(x).numpy())) for x in (teacher, student))
    targets = student_p.copy()  # the distribution that the student is drawn to
    for b, (frames, labels) in enumerate(zip(*lengths.values(), strict=True)):
        total = 0.0
        for t in range(frames):
            for u in range(labels + 1):
                p, q = teacher_p[b, t, u], student_p[b, t, u]
                best = np.argsort(-p)[:k]
                others = np.setdiff1d(np.arange(SYMBOLS), best)
                np.testing.assert_array_equal(target.symbols[b, t, u], best)
                total += np.sum(p[best] * np.log(p[best] / q[best]))
                targets[b, t, u, best] = p[best]
                if len(others):
                    total += p[others].sum() * np.log(p[others].sum() / q[others].sum())
                    targets[b, t, u, others] = p[others].sum() * q[others] / q[others].sum()
        np.testing.assert_allclose(got[b], total, rtol=1e-9)
        assert got[b] <= full[b] + 1e-12
    if k == SYMBOLS:
        np.testing.assert_allclose(got, full, rtol=1e-9)
    # The gradient is that of the cross entropy with the constant targets.
    exists = _weights(lengths, 0) * np.array([1.0, 2.0, -1.0])[:, None, None]
    with tf.GradientTape() as tape:
        tape.watch(student[:4])
        loss = -tf.reduce_sum(exists[..., None] * targets * tf.nn.log_softmax(_dense(student)))
    for g, w in zip(gradients, tape.gradient(loss, student[:4]), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-8, atol=1e-11)


def test_peak_alignment_against_loops():
    teacher, student, _, lengths = _joints(4)
    got, gradients = _gradients(lambda s: losses.peak_alignment(teacher, s, **lengths), student, (1.0, 1.0, 1.0))
    best = np.argmax(_dense(teacher), axis=-1)
    exists = _weights(lengths, 0)

    def dense(s):
        log_probs = tf.nn.log_softmax(_dense(s))
        return -tf.reduce_sum(exists * tf.gather(log_probs, best, batch_dims=3), axis=[1, 2])

    want, want_gradients = _gradients(dense, student, (1.0, 1.0, 1.0))
    np.testing.assert_allclose(got, want, rtol=1e-9)
    for g, w in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-8, atol=1e-11)


def test_zero_value_and_gradient_at_equality_and_no_gradient_for_the_teacher():
    teacher, student, _, lengths = _joints(5)
    top = lattice.top_k(student, k=2, **lengths)
    for loss, target in ((losses.soft, student), (losses.top_k, top)):
        value, gradients = _gradients(lambda s, f=loss, t=target: f(t, s, **lengths), student, (1.0, 2.0, 3.0))
        np.testing.assert_allclose(value, 0.0, atol=1e-12)
        for g in gradients:
            np.testing.assert_allclose(g, 0.0, atol=1e-12)
    with tf.GradientTape() as tape:
        tape.watch(teacher[:4])
        value = tf.reduce_sum(losses.soft(teacher, student, **lengths))
    assert value > 0.1
    assert all(g is None for g in tape.gradient(value, teacher[:4]))


@pytest.mark.parametrize("rows_per_slice", [1, 16])
def test_slice_sizes_xla_and_padding_agree(rows_per_slice, monkeypatch):
    from tf_rnnt_kd.lattice import rows

    teacher, student, _, lengths = _joints(6, dtype=np.float32)
    weights = np.random.default_rng(2).uniform(size=(3, 7, 5)) > 0.4

    def step(teacher, student, weights):
        return _gradients(
            lambda s: losses.soft(teacher, s, **lengths, node_weights=weights), student, (1.0, 0.5, 2.0)
        )

    want = step(teacher, student, weights)
    monkeypatch.setattr(rows, "default_size", lambda kernel, **_: rows_per_slice)
    for jit_compile in (False, True):
        function = tf.function(
            lambda t, s, w: step(lattice.Joint(*t), lattice.Joint(*s), w), jit_compile=jit_compile, autograph=False
        )
        got = function(teacher[:4], student[:4], weights)
        tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), got, want)

    def pad(joint):
        encoder, predictor = (
            np.pad(x, ((0, 0), (0, 2), (0, 0)), constant_values=np.nan) for x in (joint.encoder, joint.predictor)
        )
        for b, (frames, labels) in enumerate(zip(*lengths.values(), strict=True)):
            encoder[b, frames:], predictor[b, labels + 1 :] = np.nan, np.nan
        return joint._replace(encoder=tf.constant(encoder), predictor=tf.constant(predictor))

    value, gradients = step(pad(teacher), pad(student), np.pad(weights, ((0, 0), (0, 2), (0, 2))))
    np.testing.assert_allclose(value, want[0], rtol=1e-5)
    for g, w in zip(gradients, want[1], strict=True):
        w = np.pad(w, ((0, 0), (0, 2), (0, 0))) if g.shape.rank == 3 else w
        np.testing.assert_allclose(g, w, rtol=2e-4, atol=2e-5)


def test_band_restricts_the_nodes():
    teacher, student, _, lengths = _joints(7)
    band = lattice.Band(tf.constant(np.minimum(np.arange(7) // 2, 3)[None].repeat(3, 0), tf.int32), 2)
    inside = lattice.band_mask(band, num_positions=5)
    got = losses.soft(teacher, student, **lengths, band=band)
    want = losses.soft(teacher, student, **lengths, node_weights=inside)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert np.all(got < losses.soft(teacher, student, **lengths))


def test_symbols_that_the_teacher_excludes_cost_nothing():
    teacher, student, _, lengths = _joints(8)
    teacher = teacher._replace(bias=tf.constant([0.0, -np.inf, 0.0, 0.0, -np.inf], tf.float64))
    value, gradients = _gradients(lambda s: losses.soft(teacher, s, **lengths), student, (1.0, 1.0, 1.0))
    log_probs = log_softmax(_dense(teacher).numpy()[..., [0, 2, 3]])
    student_log_probs = log_softmax(_dense(student).numpy())[..., [0, 2, 3]]
    kl = np.sum(np.exp(log_probs) * (log_probs - student_log_probs), axis=-1)
    np.testing.assert_allclose(value, np.sum(_weights(lengths, 0) * kl, axis=(1, 2)), rtol=1e-9)
    assert all(np.all(np.isfinite(g)) for g in gradients)
    target = lattice.top_k(teacher, k=3, **lengths)
    np.testing.assert_allclose(losses.top_k(target, student, **lengths), value, rtol=1e-9)


def test_power_transform_is_a_temperature_and_rules_reach_their_aims():
    logits = np.random.default_rng(3).normal(size=(50, 6)) * 4
    log_probs = log_softmax(logits)
    np.testing.assert_allclose(smoothing.power(log_probs, exponent=0.25), log_softmax(logits / 4), rtol=1e-12)

    smooth = smoothing.max_prob(tf.constant(log_probs), at_most=0.6, steps=40).numpy()
    top, was = np.exp(smooth.max(axis=1)), np.exp(log_probs.max(axis=1))
    np.testing.assert_allclose(top[was > 0.6], 0.6, rtol=1e-6)
    np.testing.assert_array_equal(smooth[was <= 0.6], log_probs[was <= 0.6])
    assert np.any(was <= 0.6) and np.any(was > 0.6)

    def entropy(x):
        return -np.sum(np.exp(x) * x, axis=1)

    smooth = smoothing.entropy(tf.constant(log_probs), nats=1.0, steps=40).numpy()
    low = entropy(log_probs) < 1.0
    assert np.any(low) and not np.all(low)
    np.testing.assert_allclose(entropy(smooth)[low], 1.0, rtol=1e-6)
    np.testing.assert_array_equal(smooth[~low], log_probs[~low])
    np.testing.assert_array_equal(smooth.argmax(axis=1), log_probs.argmax(axis=1))

    smooth = smoothing.peak(tf.constant(log_probs), threshold=0.9, exponent=0.5).numpy()
    sharp = was > 0.9
    np.testing.assert_allclose(smooth[sharp], log_softmax(logits / 2)[sharp], rtol=1e-12)
    np.testing.assert_array_equal(smooth[~sharp], log_probs[~sharp])


def test_smoothing_in_the_loss():
    teacher, student, _, lengths = _joints(9)
    got = losses.soft(teacher, student, **lengths, smoothing={"rule": "power", "exponent": 0.5})
    log_probs = tf.nn.log_softmax(_dense(teacher) / 2)
    np.testing.assert_allclose(got, _naive(log_probs, _dense(student), _weights(lengths, 0), 0), rtol=1e-9)
    own = losses.soft(teacher, student, **lengths, smoothing=lambda log_probs: tf.nn.log_softmax(log_probs * 0.5))
    np.testing.assert_allclose(own, got, rtol=1e-12)


def test_bad_arguments():
    teacher, student, _, lengths = _joints(10)
    with pytest.raises(ValueError, match="rule 'sharp'"):
        losses.soft(teacher, student, **lengths, smoothing={"rule": "sharp"})
    with pytest.raises(ValueError, match="rule 'power'"):
        losses.soft(teacher, student, **lengths, smoothing={"rule": "power", "nats": 1.0})
    with pytest.raises(ValueError, match="temperature=0"):
        losses.soft(teacher, student, **lengths, temperature=0)
    with pytest.raises(ValueError, match="full-sum losses need the labels only"):
        losses.soft(teacher._replace(encoder=teacher.encoder[:, :-1]), student, **lengths)
    with pytest.raises(ValueError, match="k=6 is not"):
        lattice.top_k(teacher, k=6, **lengths)
