"""Node log-probabilities and their gradients, from logits and from the fused joint."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import joint_batch, ragged_batch
from lattice_brute_force import node_log_probs as brute_nodes

from tf_rnnt_kd import lattice


def _probe(shape, seed=3):
    """Fixed random weights: a scalar function of all nodes whose gradient has no symmetry to hide behind."""
    return tf.constant(np.random.default_rng(seed).normal(size=(3, *shape)))


def _scalar(nodes, probe, lengths):
    shape = probe.shape
    exists = lattice.node_mask(**lengths, num_frames=shape[2], num_positions=shape[3])
    has_label = lattice.label_arc_mask(**lengths, num_frames=shape[2], num_positions=shape[3])
    parts = [
        tf.where(mask, x, 0.0) * tf.cast(w, x.dtype)
        for x, w, mask in zip(nodes, tf.unstack(probe), (exists, has_label, exists), strict=True)
    ]
    return tf.reduce_sum(tf.add_n(parts))


def _dense(encoder, predictor, kernel, bias):
    return tf.tanh(encoder[:, :, None, :] + predictor[:, None, :, :]) @ kernel + bias


@pytest.mark.parametrize("blank_index", [0, 2, -1])
def test_logits_against_numpy(blank_index):
    batch = ragged_batch(1, num_symbols=4, blank_index=blank_index)
    nodes = lattice.node_log_probs_from_logits(
        batch.logits, labels=batch.labels, **batch.lengths, blank_index=blank_index
    )
    for i, (frames, labels) in enumerate(zip(batch.logit_lengths, batch.label_lengths, strict=True)):
        expected = brute_nodes(*batch.utterance(i), blank_index)
        for got, want in zip(nodes, expected, strict=True):
            want = np.maximum(want, lattice.NEGATIVE_INFINITY)
            np.testing.assert_allclose(got[i, :frames, : labels + 1], want, rtol=2e-6, atol=2e-6)
            assert np.all(got[i, frames:] == np.float32(lattice.NEGATIVE_INFINITY))
            assert np.all(got[i, :, labels + 1 :] == np.float32(lattice.NEGATIVE_INFINITY))


def test_two_symbols_leave_no_rest_beside_a_label():
    batch = ragged_batch(2, num_symbols=2)
    nodes = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
    total = sum(np.exp(np.asarray(x, np.float64)) for x in nodes)
    exists = lattice.node_mask(**batch.lengths, num_frames=4, num_positions=4).numpy()
    np.testing.assert_allclose(total[exists], 1.0, rtol=1e-6)
    has_label = lattice.label_arc_mask(**batch.lengths, num_frames=4, num_positions=4).numpy()
    assert np.all(nodes.rest.numpy()[has_label] < -1e29)


def test_rest_of_a_confident_model_is_not_rounded_away():
    logits = np.zeros((1, 1, 1, 5), np.float32)
    logits[..., 0] = 60.0  # 1 - p(blank) is 0 in float32
    nodes = lattice.node_log_probs_from_logits(
        logits, labels=np.zeros((1, 0), np.int32), logit_lengths=[1], label_lengths=[0]
    )
    np.testing.assert_allclose(nodes.rest.numpy(), np.log(4.0) - 60.0, rtol=1e-6)
    np.testing.assert_allclose(nodes.blank.numpy(), -4.0 * np.exp(-60.0), rtol=1e-5)


def test_huge_logits_keep_relative_precision():
    batch = ragged_batch(4, scale=1e4, dtype=np.float32)
    nodes = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
    for i, (frames, labels) in enumerate(zip(batch.logit_lengths, batch.label_lengths, strict=True)):
        for got, want in zip(nodes, brute_nodes(*batch.utterance(i)), strict=True):
            want = np.maximum(want, lattice.NEGATIVE_INFINITY)
            np.testing.assert_allclose(got[i, :frames, : labels + 1], want, rtol=1e-6, atol=1e-30)


def test_infinite_logits_give_finite_nodes_and_gradients():
    batch = ragged_batch(5)
    logits = batch.logits.copy()
    logits[..., 0] = -np.inf
    logits[:, 0, :, 2:] = -np.inf
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        nodes = lattice.node_log_probs_from_logits(x, labels=batch.labels, **batch.lengths)
        value = _scalar(nodes._replace(blank=tf.zeros_like(nodes.blank)), _probe(nodes.blank.shape), batch.lengths)
    assert all(np.all(np.isfinite(n)) and np.all(n.numpy() <= 0) for n in nodes)
    assert np.all(nodes.blank.numpy() <= -1e29)
    assert np.all(np.isfinite(tape.gradient(value, x)))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradient_of_logits_against_autodiff_in_float64(scale):
    batch = ragged_batch(6, scale=scale, dtype=np.float64)
    logits = tf.constant(batch.logits)
    probe = _probe(batch.logits.shape[:3])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nodes = lattice.node_log_probs_from_logits(logits, labels=batch.labels, **batch.lengths)
        value = _scalar(nodes, probe, batch.lengths)
    got = tape.gradient(value, logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = _scalar(_naive_nodes(logits, batch.labels, batch.label_lengths), probe, batch.lengths)
    np.testing.assert_allclose(got, tape.gradient(value, logits), atol=1e-10)


def _naive_nodes(logits, labels, label_lengths):
    """log_softmax, one-hot, log-sum-exp; padding is masked by the caller."""
    log_probs = tf.nn.log_softmax(logits)
    num_symbols = logits.shape[-1]
    label = tf.one_hot(labels, num_symbols, dtype=logits.dtype)
    label *= tf.sequence_mask(label_lengths, labels.shape[1], dtype=logits.dtype)[..., None]
    label = tf.pad(label, [[0, 0], [0, 1], [0, 0]])[:, None]
    is_special = tf.maximum(label, tf.one_hot(0, num_symbols, dtype=logits.dtype))
    rest = tf.reduce_logsumexp(tf.where(is_special > 0, tf.constant(-1e30, logits.dtype), log_probs), -1)
    return lattice.NodeLogProbs(log_probs[..., 0], tf.reduce_sum(log_probs * label, -1), rest)


@pytest.mark.parametrize("rows_per_slice", [1, 16, None])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fused_joint_against_dense_joint(rows_per_slice, jit_compile):
    arrays, labels, lengths = joint_batch(0)
    probe = _probe((3, 7, 5))

    def fused(*x):
        return lattice.node_log_probs(*x, labels=labels, **lengths, rows_per_slice=rows_per_slice)

    def dense(*x):
        return lattice.node_log_probs_from_logits(_dense(*x), labels=labels, **lengths)

    results = {}
    for name, function in (("fused", fused), ("dense", dense)):

        def step(*x, function=function):
            with tf.GradientTape() as tape:
                tape.watch(x)
                nodes = function(*x)
                value = _scalar(nodes, probe, lengths)
            return (*nodes, *tape.gradient(value, x))

        results[name] = tf.function(step, jit_compile=jit_compile, autograph=False)(*map(tf.constant, arrays))
    for got, want in zip(results["fused"], results["dense"], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "linear"])
def test_activations_in_float64_against_autodiff(activation):
    arrays, labels, lengths = joint_batch(1, dtype=np.float64)
    inputs = [tf.constant(a) for a in arrays]
    function = {"tanh": tf.tanh, "relu": tf.nn.relu, "sigmoid": tf.sigmoid, "linear": tf.identity}[activation]
    probe = _probe((3, 7, 5))
    gradients = []
    for fused in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            if fused:
                nodes = lattice.node_log_probs(
                    *inputs, labels=labels, **lengths, activation=activation, rows_per_slice=10
                )
            else:
                hidden = function(inputs[0][:, :, None, :] + inputs[1][:, None, :, :])
                nodes = _naive_nodes(hidden @ inputs[2] + inputs[3], labels, lengths["label_lengths"])
            value = _scalar(nodes, probe, lengths)
        gradients.append(tape.gradient(value, inputs))
    for got, want in zip(*gradients, strict=True):
        assert got.dtype == tf.float64
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype):
    arrays, labels, lengths = joint_batch(2)
    halves = [tf.cast(a, dtype) for a in arrays]
    gradients = []
    for inputs in (halves, [tf.cast(h, tf.float32) for h in halves]):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            nodes = lattice.node_log_probs(*inputs, labels=labels, **lengths)
            value = _scalar(nodes, _probe((3, 7, 5)), lengths)
        gradients.append((nodes, tape.gradient(value, inputs)))
    (got_nodes, got), (want_nodes, want) = gradients
    for g, w in zip(got_nodes, want_nodes, strict=True):
        assert g.dtype == tf.float32
        np.testing.assert_array_equal(g, w)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == dtype
        np.testing.assert_array_equal(g, tf.cast(w, dtype))


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_garbage_in_padding_reaches_neither_value_nor_gradient(garbage):
    arrays, labels, lengths = joint_batch(3)
    dirty = [a.copy() for a in arrays]
    dirty_labels = labels.copy()
    for i, (frames, count) in enumerate(zip(*lengths.values(), strict=True)):
        dirty[0][i, frames:] = garbage
        dirty[1][i, count + 1 :] = garbage
        dirty_labels[i, count:] = 10**6
    results = []
    for inputs, symbols in ((arrays, labels), (dirty, dirty_labels)):
        inputs = [tf.constant(a) for a in inputs]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            nodes = lattice.node_log_probs(*inputs, labels=symbols, **lengths, rows_per_slice=10)
            value = _scalar(nodes, _probe((3, 7, 5)), lengths)
        results.append((*nodes, *tape.gradient(value, inputs)))
    for clean, got in zip(*results, strict=True):
        np.testing.assert_array_equal(clean, got)


def test_short_batches_skip_trailing_slices_exactly():
    arrays, labels, lengths = joint_batch(4, frames=12)
    lengths = lengths | {"logit_lengths": np.array([5, 3, 1], np.int32)}
    results = []
    for frames in (12, 5):
        inputs = [tf.constant(a) for a in (arrays[0][:, :frames], *arrays[1:])]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            nodes = lattice.node_log_probs(*inputs, labels=labels, **lengths, rows_per_slice=20)
            value = _scalar(nodes, _probe((3, 12, 5))[:, :, :frames], lengths)
        results.append(([n[:, :5] for n in nodes], tape.gradient(value, inputs)))
    for long, short in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(long, short, rtol=1e-6)
    np.testing.assert_array_equal(results[0][1][0][:, 5:], 0.0)
    np.testing.assert_allclose(results[0][1][0][:, :5], results[1][1][0], rtol=1e-4, atol=1e-6)
    for long, short in zip(results[0][1][1:], results[1][1][1:], strict=True):
        np.testing.assert_allclose(long, short, rtol=1e-4, atol=1e-5)


def test_one_trace_serves_all_shapes():
    from tf_rnnt_kd.lattice import fused

    settings = ("tanh", "add", False, 0)
    forward, backward = fused._make_once(settings, fused.DEFAULT_LIVE_THRESHOLD, None, tf.float32)
    for frames in range(3, 9):
        arrays, labels, lengths = joint_batch(frames, frames=frames, labels=frames // 2)
        inputs = [tf.constant(a) for a in arrays]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = tf.reduce_sum(lattice.node_log_probs(*inputs, labels=labels, **lengths).blank)
        tape.gradient(value, inputs)
    assert forward.experimental_get_tracing_count() == 1
    assert backward.experimental_get_tracing_count() == 1


def test_errors_name_the_shapes():
    arrays, labels, lengths = joint_batch(0)
    with pytest.raises(ValueError, match="label positions"):
        lattice.node_log_probs(*arrays, labels=labels[:, :2], **lengths)
    with pytest.raises(ValueError, match=r"kernel \[H, V\]"):
        lattice.node_log_probs(arrays[0], arrays[1], arrays[2].T, arrays[3], labels=labels, **lengths)
    with pytest.raises(ValueError, match="blank_index=9"):
        lattice.node_log_probs(*arrays, labels=labels, **lengths, blank_index=9)
    with pytest.raises(ValueError, match="activation='gelu'"):
        lattice.node_log_probs(*arrays, labels=labels, **lengths, activation="gelu")
    with pytest.raises(ValueError, match="logits must be"):
        lattice.node_log_probs_from_logits(arrays[0], labels=labels, **lengths)


def test_nan_logits_are_seen():
    for compiled in (False, True):
        arrays, labels, lengths = joint_batch(5)
        arrays[3][2] = np.nan

        def value(*x, labels=labels, lengths=lengths):
            return lattice.full_sum(lattice.node_log_probs(*x, labels=labels, **lengths), **lengths)

        assert np.all(np.isnan(tf.function(value, jit_compile=compiled)(*map(tf.constant, arrays))))
        batch = ragged_batch(5)
        logits = batch.logits.copy()
        logits[2, 0, 0, 3] = np.nan

        def given(z, batch=batch):
            nodes = lattice.node_log_probs_from_logits(z, labels=batch.labels, **batch.lengths)
            return lattice.full_sum(nodes, **batch.lengths)

        got = tf.function(given, jit_compile=compiled)(tf.constant(logits)).numpy()
        np.testing.assert_array_equal(np.isnan(got), np.arange(len(got)) == 2)
