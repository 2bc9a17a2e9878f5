"""The simple joiner's nodes against dense logits am + lm and against the published smoothing, in numpy float64."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import SIZES
from lattice_brute_force import log_softmax, numeric_gradient
from lattice_brute_force import node_log_probs as brute_nodes

from tf_rnnt_kd import lattice

SMOOTHING = [(0.0, 0.0), (0.25, 0.0), (0.0, 0.3), (0.2, 0.1), (0.6, 0.4)]


def _inputs(seed=0, *, num_symbols=5, scale=2.0, blank_index=0, dtype=np.float64):
    """am, lm and the keyword arguments of a ragged batch."""
    rng = np.random.default_rng(seed)
    frames, labels = np.array(SIZES, np.int32).T
    am = (scale * rng.normal(size=(len(SIZES), frames.max(), num_symbols))).astype(dtype)
    lm = (scale * rng.normal(size=(len(SIZES), labels.max() + 1, num_symbols))).astype(dtype)
    symbols = [k for k in range(num_symbols) if k != blank_index % num_symbols]
    labels_ = rng.choice(symbols, size=(len(SIZES), labels.max())).astype(np.int32)
    return am, lm, {"labels": labels_, "logit_lengths": frames, "label_lengths": labels}


def _lengths(arguments):
    return {key: arguments[key] for key in ("logit_lengths", "label_lengths")}


def _smoothed(am, lm, arguments, i, blank_index, lm_only_scale, am_only_scale):
    """blank and label [T_b, U_b+1] of utterance i as published: three models, each from its dense log-softmax."""
    positions = [log_softmax(lm[j, : u + 1]) for j, u in enumerate(arguments["label_lengths"])]
    unigram = np.log(np.mean(np.exp(np.concatenate(positions)), axis=0))
    frames, labels = arguments["logit_lengths"][i], arguments["label_lengths"][i]
    am, lm = am[i, :frames, None], lm[i, None, : labels + 1]
    both, lm_only, am_only = (log_softmax(x) for x in (am + lm, 0.0 * am + lm, am + unigram + 0.0 * lm))
    mean = (1 - lm_only_scale - am_only_scale) * both + lm_only_scale * lm_only + am_only_scale * am_only
    label = np.full(mean.shape[:2], -np.inf)
    for u in range(labels):
        label[:, u] = mean[:, u, arguments["labels"][i, u]]
    return mean[:, :, blank_index], label


@pytest.mark.parametrize("blank_index", [0, 2, -1])
def test_nodes_against_dense_logits(blank_index):
    for num_symbols in (3, 4, 7):
        am, lm, arguments = _inputs(num_symbols, num_symbols=num_symbols, blank_index=blank_index)
        nodes = lattice.simple_nodes(am, lm, blank_index=blank_index, **arguments)
        for i, (frames, labels) in enumerate(SIZES):
            dense = am[i, :frames, None] + lm[i, None, : labels + 1]
            expected = brute_nodes(dense, arguments["labels"][i, :labels], blank_index)
            for got, want in zip(nodes, expected, strict=True):
                want = np.maximum(want, lattice.NEGATIVE_INFINITY)
                np.testing.assert_allclose(got[i, :frames, : labels + 1], want, rtol=1e-12, atol=1e-13)
                assert np.all(got[i, frames:] == lattice.NEGATIVE_INFINITY)
                assert np.all(got[i, :, labels + 1 :] == lattice.NEGATIVE_INFINITY)


@pytest.mark.parametrize(("lm_only_scale", "am_only_scale"), SMOOTHING)
def test_smoothing_against_the_published_formula_and_masses_of_one(lm_only_scale, am_only_scale):
    scales = {"lm_only_scale": lm_only_scale, "am_only_scale": am_only_scale}
    for blank_index in (0, -1):
        am, lm, arguments = _inputs(1, blank_index=blank_index)
        nodes = lattice.simple_nodes(am, lm, blank_index=blank_index, **arguments, **scales)
        for i, (frames, labels) in enumerate(SIZES):
            blank, label = _smoothed(am, lm, arguments, i, blank_index, **scales)
            rest = np.log(1 - np.exp(blank) - np.exp(label))
            for got, want in zip(nodes, (blank, label, rest), strict=True):
                want = np.maximum(want, lattice.NEGATIVE_INFINITY)
                np.testing.assert_allclose(got[i, :frames, : labels + 1], want, rtol=1e-9, atol=1e-12)

    am, lm, arguments = _inputs(2, scale=6.0, dtype=np.float32)
    nodes = lattice.simple_nodes(am, lm, **arguments, **scales)
    exists = lattice.node_mask(**_lengths(arguments), num_frames=4, num_positions=4).numpy()
    assert all(x.dtype == tf.float32 and np.all(x >= np.float32(lattice.NEGATIVE_INFINITY)) for x in nodes)
    total = sum(np.exp(np.asarray(x, np.float64)) for x in nodes)
    np.testing.assert_allclose(total[exists], 1.0, rtol=2e-6)


def test_rest_of_a_confident_joiner_is_not_rounded_away():
    am, lm = np.zeros((1, 1, 5), np.float32), np.zeros((1, 1, 5), np.float32)
    am[..., 0], lm[..., 0] = 40.0, 20.0
    arguments = {"labels": np.zeros((1, 0), np.int32), "logit_lengths": [1], "label_lengths": [0]}
    nodes = lattice.simple_nodes(am, lm, **arguments)
    np.testing.assert_allclose(nodes.rest.numpy(), np.log(4.0) - 60.0, rtol=1e-6)
    smoothed = lattice.simple_nodes(am, lm, lm_only_scale=0.25, **arguments)
    blank = 0.75 * 4 * np.exp(-60.0) + 0.25 * np.log1p(4 * np.exp(-20.0))
    np.testing.assert_allclose(smoothed.rest.numpy(), np.log(blank), rtol=1e-6)


def test_symbols_of_probability_zero_and_two_symbols_leave_finite_nodes_and_gradients():
    am, lm, arguments = _inputs(3, dtype=np.float32)
    am[:, 0, 3:], lm[:, 1, 1:3], am[:, 1, 0] = -np.inf, -np.inf, -np.inf
    two_am, two_lm, two = _inputs(4, num_symbols=2, dtype=np.float32)
    for am_, lm_, arguments_ in ((am, lm, arguments), (two_am, two_lm, two)):
        inputs = [tf.constant(am_), tf.constant(lm_)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            nodes = lattice.simple_nodes(*inputs, **arguments_)
            value = sum(tf.reduce_sum(tf.exp(x) * y) for x, y in zip(nodes, (1.0, 2.0, 3.0), strict=True))
        assert all(np.all(np.isfinite(x)) for x in (*nodes, *tape.gradient(value, inputs)))
        for i, (frames, labels) in enumerate(SIZES):
            dense = np.maximum(am_, -1e30)[i, :frames, None] + np.maximum(lm_, -1e30)[i, None, : labels + 1]
            expected = brute_nodes(dense, arguments_["labels"][i, :labels])
            for got, want in zip(nodes, expected, strict=True):
                np.testing.assert_allclose(np.exp(got[i, :frames, : labels + 1]), np.exp(want), atol=1e-6)


@pytest.mark.parametrize(("lm_only_scale", "am_only_scale"), SMOOTHING)
def test_gradients_against_finite_differences(lm_only_scale, am_only_scale):
    """Of every node's three log-probabilities at random weights, equal logits of blank and label among them."""
    scales = {"lm_only_scale": lm_only_scale, "am_only_scale": am_only_scale}
    am, lm, arguments = _inputs(5, num_symbols=4)
    am[4, :, :] = lm[4, :, :] = 0.0
    lengths = _lengths(arguments)
    weights = np.random.default_rng(0).normal(size=(3, len(SIZES), 4, 4))
    masks = [f(**lengths, num_frames=4, num_positions=4).numpy() for f in (lattice.node_mask, lattice.label_arc_mask)]

    def naive(am, lm):
        total = 0.0
        for i, (frames, labels) in enumerate(SIZES):
            blank, label = _smoothed(am, lm, arguments, i, 0, **scales)
            rest = np.log(1 - np.exp(blank) - np.exp(label))
            for x, w in zip((blank, label, rest), weights[:, i, :frames, : labels + 1], strict=True):
                total += np.sum(np.where(np.isfinite(x), x, 0.0) * w)
        return total

    inputs = [tf.constant(am), tf.constant(lm)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        nodes = lattice.simple_nodes(*inputs, **arguments, **scales)
        parts = zip(nodes, (masks[0], masks[1], masks[0]), weights, strict=True)
        value = tf.add_n([tf.reduce_sum(tf.where(mask, x, 0.0) * w) for x, mask, w in parts])
    np.testing.assert_allclose(value, naive(am, lm), rtol=1e-9)
    to_am, to_lm = tape.gradient(value, inputs)
    np.testing.assert_allclose(to_am, numeric_gradient(lambda x: naive(x, lm), am), atol=1e-6)
    np.testing.assert_allclose(to_lm, numeric_gradient(lambda x: naive(am, x), lm), atol=1e-6)


@pytest.mark.parametrize(("lm_only_scale", "am_only_scale"), [(0.0, 0.0), (0.2, 0.1)])
def test_nan_in_padding_changes_no_bit_and_xla_agrees(lm_only_scale, am_only_scale):
    am, lm, arguments = _inputs(6, dtype=np.float32)
    dirty_am = np.full((len(SIZES), 7, 5), np.nan, np.float32)
    dirty_lm = np.full((len(SIZES), 6, 5), np.nan, np.float32)
    dirty_labels = np.full((len(SIZES), 5), -7, np.int32)
    for i, (frames, labels) in enumerate(SIZES):
        dirty_am[i, :frames], dirty_lm[i, : labels + 1] = am[i, :frames], lm[i, : labels + 1]
        dirty_labels[i, :labels] = arguments["labels"][i, :labels]
    lengths = _lengths(arguments)

    def step(am, lm, labels):
        with tf.GradientTape() as tape:
            tape.watch([am, lm])
            nodes = lattice.simple_nodes(
                am, lm, labels=labels, lm_only_scale=lm_only_scale, am_only_scale=am_only_scale, **lengths
            )
            value = lattice.full_sum(nodes, **lengths) + tf.reduce_sum(tf.exp(nodes.rest), axis=[1, 2])
        return (*nodes, *tape.gradient(value, [am, lm]))

    clean = step(*map(tf.constant, (am, lm, arguments["labels"])))
    dirty = step(*map(tf.constant, (dirty_am, dirty_lm, dirty_labels)))
    for got, want in zip(dirty[:3], clean[:3], strict=True):
        np.testing.assert_allclose(got[:, :4, :4], want, rtol=1e-6, atol=1e-7)
        assert np.all(got[:, 4:] == np.float32(-1e30)) and np.all(got[:, :, 4:] == np.float32(-1e30))
    for got, want in zip(dirty[3:], clean[3:], strict=True):
        np.testing.assert_allclose(got[:, :4], want, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(got[:, 4:], 0.0)
    compiled = tf.function(step, jit_compile=True, autograph=False)(*map(tf.constant, (am, lm, arguments["labels"])))
    for got, want in zip(compiled, clean, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_half_precision_is_computed_in_float32():
    am, lm, arguments = _inputs(7, dtype=np.float32)
    halves = [tf.cast(x, tf.bfloat16) for x in (am, lm)]
    nodes = lattice.simple_nodes(*halves, **arguments)
    same = lattice.simple_nodes(*(tf.cast(x, tf.float32) for x in halves), **arguments)
    for got, want in zip(nodes, same, strict=True):
        assert got.dtype == tf.float32
        np.testing.assert_array_equal(got, want)


def test_errors_name_shapes_and_scales():
    am, lm, arguments = _inputs(8)
    with pytest.raises(ValueError, match=r"lm \[B, U\+1, V\]"):
        lattice.simple_nodes(am, lm[:, :, :-1], **arguments)
    with pytest.raises(ValueError, match="label positions"):
        lattice.simple_nodes(am, lm[:, :-1], **arguments)
    with pytest.raises(ValueError, match="lm_only_scale=0.8 and am_only_scale=0.3"):
        lattice.simple_nodes(am, lm, lm_only_scale=0.8, am_only_scale=0.3, **arguments)
    with pytest.raises(ValueError, match="lm_only_scale=-0.1"):
        lattice.simple_nodes(am, lm, lm_only_scale=-0.1, **arguments)
