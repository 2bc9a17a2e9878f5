"""Joints that multiply, and those with a factorised blank, against dense float64 with the formulas as published."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import joint_batch, ragged_batch

from tf_rnnt_kd import lattice

FORMS = [("add", True), ("multiply", False), ("multiply", True)]  # (combination, factorised_blank)
ACTIVATIONS = {"tanh": tf.tanh, "relu": tf.nn.relu, "sigmoid": tf.sigmoid, "linear": tf.identity}


def _naive_log_probs(logits, factorised_blank, blank_index=0):
    """[..., V]; the labels' columns are taken out and put back."""
    if not factorised_blank:
        return tf.nn.log_softmax(logits)
    blank = logits[..., blank_index : blank_index + 1]
    others = [k for k in range(logits.shape[-1]) if k != blank_index]
    labels = tf.math.log_sigmoid(-blank) + tf.nn.log_softmax(tf.gather(logits, others, axis=-1))
    return tf.concat([labels[..., :blank_index], tf.math.log_sigmoid(blank), labels[..., blank_index:]], -1)


def _naive_nodes(log_probs, labels, label_lengths, blank_index=0):
    """Three numbers of each node; the rest's by a sum over what is neither blank nor label."""
    num_positions, num_symbols = log_probs.shape[2:]
    label = np.zeros((len(labels), num_positions, num_symbols), bool)
    for b, count in enumerate(label_lengths):
        label[b, np.arange(count), labels[b, :count]] = True
    special = label | (np.arange(num_symbols) == blank_index)
    rest = tf.reduce_logsumexp(tf.where(special[:, None], tf.constant(-1e30, log_probs.dtype), log_probs), -1)
    label_log_prob = tf.reduce_sum(tf.where(label[:, None], log_probs, 0), -1)
    return lattice.NodeLogProbs(log_probs[..., blank_index], label_log_prob, rest)


def _dense(encoder, predictor, kernel, bias, *, combination="add", activation="tanh"):
    combine = {"add": tf.add, "multiply": tf.multiply}[combination]
    hidden = combine(encoder[:, :, None, :], predictor[:, None, :, :])
    return tf.tensordot(ACTIVATIONS[activation](hidden), kernel, 1) + bias


def _scalar(nodes, lengths, band=None):
    """A weighted sum of all nodes that exist, with random weights."""
    weights = np.random.default_rng(3).normal(size=(3, *nodes.blank.shape))
    sizes = {"num_frames": nodes.blank.shape[1], "num_positions": nodes.blank.shape[2]}
    exists, has_label = lattice.node_mask(**lengths, **sizes), lattice.label_arc_mask(**lengths, **sizes)
    inside = True if band is None else lattice.band_mask(band, num_positions=sizes["num_positions"])
    return tf.add_n(
        [
            tf.reduce_sum(tf.where(mask & inside, x, 0) * tf.cast(w, x.dtype))
            for x, w, mask in zip(nodes, weights, (exists, has_label, exists), strict=True)
        ]
    )


def _with_gradients(function, inputs, lengths, band=None):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        nodes = function(*inputs)
        value = _scalar(nodes, lengths, band)
    return (value, *nodes), tape.gradient(value, inputs)


@pytest.mark.parametrize(("combination", "factorised_blank"), FORMS)
@pytest.mark.parametrize(("activation", "blank_index"), [("tanh", 0), ("linear", 4), ("sigmoid", 2)])
def test_values_and_gradients_against_dense_float64(combination, factorised_blank, activation, blank_index):
    arrays, labels, lengths = joint_batch(1, dtype=np.float64)
    labels = np.where(labels == blank_index, 1 if blank_index != 1 else 0, labels)
    inputs = [tf.constant(a) for a in arrays]
    form = {"combination": combination, "activation": activation}
    (got, *nodes), gradients = _with_gradients(
        lambda *x: lattice.node_log_probs(
            *x, labels=labels, **lengths, **form, factorised_blank=factorised_blank, blank_index=blank_index,
            rows_per_slice=10,
        ),
        inputs, lengths,
    )  # fmt: skip
    (want, *_), expected = _with_gradients(
        lambda *x: _naive_nodes(
            _naive_log_probs(_dense(*x, **form), factorised_blank, blank_index), labels, lengths["label_lengths"],
            blank_index,
        ),
        inputs, lengths,
    )  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-10)
    for g, w in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-10)
    exists = lattice.node_mask(**lengths, num_frames=7, num_positions=5)
    np.testing.assert_allclose(sum(np.exp(x) for x in nodes)[exists], 1.0, rtol=1e-12)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("from_logits", [False, True])
def test_float32_compiled_and_inside_a_band(jit_compile, from_logits):
    arrays, labels, lengths = joint_batch(2)
    band = lattice.Band(np.tile(np.clip(np.arange(7) - 3, 0, 3), (3, 1)).astype(np.int32), 2)
    form = {"combination": "multiply", "factorised_blank": True}

    def step(*inputs):
        if from_logits:
            return _with_gradients(
                lambda *x: lattice.node_log_probs_from_logits(
                    _dense(*x, combination="multiply"), labels=labels, **lengths, factorised_blank=True
                ),
                inputs, lengths, band,
            )  # fmt: skip
        return _with_gradients(
            lambda *x: lattice.node_log_probs(*x, labels=labels, band=band, **lengths, **form), inputs, lengths, band
        )

    inputs = [tf.constant(a) for a in arrays]
    (got, *nodes), gradients = tf.function(step, jit_compile=jit_compile, autograph=False)(*inputs)
    (want, *_), expected = _with_gradients(
        lambda *x: _naive_nodes(
            _naive_log_probs(_dense(*x, combination="multiply"), True), labels, lengths["label_lengths"]
        ),
        [tf.cast(x, tf.float64) for x in inputs], lengths, band,
    )  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for g, w in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=2e-6)
    if not from_logits:
        outside = ~lattice.band_mask(band, num_positions=5).numpy()
        assert all(np.all(x.numpy()[outside] <= -1e29) for x in nodes)


def test_it_is_a_softmax_whose_blank_is_weighed_against_all_labels():
    batch = ragged_batch(4, num_symbols=5, dtype=np.float64)
    got = lattice.node_log_probs_from_logits(
        batch.logits, labels=batch.labels, **batch.lengths, factorised_blank=True
    )
    logits = batch.logits.copy()
    logits[..., 0] += np.log(np.sum(np.exp(logits[..., 1:]), axis=-1))
    want = lattice.node_log_probs_from_logits(logits, labels=batch.labels, **batch.lengths)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-12)
    plain = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
    assert not np.allclose(got.blank, plain.blank)


def test_the_blank_keeps_its_precision_beside_logits_of_1e4():
    batch = ragged_batch(5, scale=1e4)
    logits = batch.logits.copy()
    logits[..., 0] *= 2e-3  # -40..40: a sum with 1e4 would keep three digits behind the point
    nodes = lattice.node_log_probs_from_logits(logits, labels=batch.labels, **batch.lengths, factorised_blank=True)
    exact = _naive_nodes(_naive_log_probs(tf.constant(logits, tf.float64), True), batch.labels, batch.label_lengths)
    sizes = {"num_frames": 4, "num_positions": 4}
    masks = lattice.node_mask(**batch.lengths, **sizes), lattice.label_arc_mask(**batch.lengths, **sizes)
    for got, want, mask in zip(nodes, exact, (masks[0], masks[1], masks[0]), strict=True):
        got, want = got.numpy()[mask], want.numpy()[mask]
        np.testing.assert_allclose(got, np.maximum(want, lattice.NEGATIVE_INFINITY), rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("blank", [-200.0, 200.0])
def test_a_certain_blank_leaves_the_labels_their_gradient(blank):
    """1 - P(blank) is 0 in float32; which label comes in that case is known nevertheless."""
    logits = tf.constant([[[[blank, 1.0, -2.0, 0.5]], [[blank, -1.0, 3.0, 0.25]]]])  # [1, 2, 1, 4]
    given = {"labels": np.array([[2]]), "logit_lengths": [2], "label_lengths": [1]}
    logits = tf.tile(logits, [1, 1, 2, 1])
    got, want = [], []
    for dtype, results in ((tf.float32, got), (tf.float64, want)):
        x = tf.cast(logits, dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            if dtype == tf.float32:
                nodes = lattice.node_log_probs_from_logits(x, **given, factorised_blank=True)
            else:
                nodes = _naive_nodes(_naive_log_probs(x, True), given["labels"], given["label_lengths"])
            value = tf.reduce_sum(nodes.label[:, :, 0] + 2.0 * nodes.rest[:, :, 0])
        results += [value, tape.gradient(value, x)]
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=1e-7)
    assert np.any(np.abs(want[1][..., 1:]) > 0.1)


def test_infinite_logits_give_finite_nodes_and_gradients():
    batch = ragged_batch(6)
    logits = batch.logits.copy()
    logits[:, ::2, :, 0] = -np.inf
    logits[:, :, ::2, 2:] = -np.inf
    nodes, gradient = _with_gradients(
        lambda z: lattice.node_log_probs_from_logits(z, labels=batch.labels, **batch.lengths, factorised_blank=True),
        [tf.constant(logits)], batch.lengths,
    )  # fmt: skip
    assert all(np.all(np.isfinite(x)) for x in nodes) and np.all(np.isfinite(gradient[0]))
    assert np.all(nodes[1].numpy()[:, ::2] <= -1e29)


@pytest.mark.parametrize(("combination", "factorised_blank"), FORMS)
def test_half_precision_padding_and_nan(combination, factorised_blank):
    arrays, labels, lengths = joint_batch(3)
    form = {"labels": labels, "combination": combination, "factorised_blank": factorised_blank, **lengths}
    halves = [tf.cast(a, tf.bfloat16) for a in arrays]
    dirty = [a.numpy() for a in halves]
    for i, (frames, count) in enumerate(zip(*lengths.values(), strict=True)):
        dirty[0][i, frames:] = np.nan
        dirty[1][i, count + 1 :] = np.inf
    results = []
    for inputs in (halves, [tf.constant(a) for a in dirty], [tf.cast(h, tf.float32) for h in halves]):
        nodes, gradients = _with_gradients(lambda *x: lattice.node_log_probs(*x, **form), inputs, lengths)
        results.append((*nodes, *(tf.cast(g, tf.bfloat16) for g in gradients)))
    for got in results[:2]:
        for g, w in zip(got, results[2], strict=True):
            np.testing.assert_array_equal(g, w)
    for broken in (0, 3):
        bad = [a.copy() for a in arrays]
        bad[broken].flat[0] = np.nan

        def value(*x):
            return lattice.full_sum(lattice.node_log_probs(*x, **form), **lengths)

        got = tf.function(value, jit_compile=True, autograph=False)(*map(tf.constant, bad))
        np.testing.assert_array_equal(np.isnan(got), [True, broken == 3, broken == 3])


def test_top_k_and_log_probs_of_a_factorised_joint():
    arrays, _, lengths = joint_batch(4, dtype=np.float64)
    for blank_index in (0, 3):
        joint = lattice.Joint(*arrays, combination="multiply", factorised_blank=True, blank_index=blank_index)
        logits = _dense(*map(tf.constant, arrays), combination="multiply")
        want = _naive_log_probs(logits, True, blank_index)
        got = lattice.factorised_log_probs(logits, blank_index=blank_index)
        np.testing.assert_allclose(got, want, rtol=1e-12)
        np.testing.assert_allclose(lattice.dense_log_probs(joint), want, rtol=1e-12)
        best = lattice.top_k(joint, k=3, **lengths)
        exists = lattice.node_mask(**lengths, num_frames=7, num_positions=5).numpy()
        np.testing.assert_allclose(
            best.log_probs.numpy()[exists], np.sort(want.numpy())[exists][:, ::-1][:, :3], rtol=1e-10
        )
        np.testing.assert_allclose(
            np.exp(best.rest.numpy()[exists]) + np.exp(best.log_probs.numpy()[exists]).sum(-1), 1.0, rtol=1e-10
        )


def test_log_probs_are_differentiable_at_any_precision():
    logits = np.random.default_rng(5).normal(size=[4, 3, 6])
    weights = tf.constant(np.random.default_rng(6).normal(size=logits.shape))
    gradients = []
    for function in (lattice.factorised_log_probs, lambda x: _naive_log_probs(x, True)):
        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(weights * function(x))
        gradients.append(tape.gradient(value, x))
    np.testing.assert_allclose(*gradients, rtol=1e-10, atol=1e-12)
    assert lattice.factorised_log_probs(tf.cast(logits, tf.bfloat16)).dtype == tf.float32


def test_settings_from_the_description_of_an_export():
    old = {"width": 64, "vocab_size": 10, "activation": "relu"}
    assert lattice.joint_settings(old) == {"activation": "relu", "combination": "add", "factorised_blank": False}
    new = {**old, "combination": "multiply", "factorised_blank": True}
    joint = lattice.Joint(*joint_batch()[0], **lattice.joint_settings(new))
    assert joint[4:] == ("relu", "multiply", True, 0)
    with pytest.raises(ValueError, match="activation='gelu' is not one of"):
        lattice.joint_settings({"activation": "gelu"})


def test_errors_name_the_setting():
    arrays, labels, lengths = joint_batch(0)
    with pytest.raises(ValueError, match="combination='mul' is not one of add, multiply"):
        lattice.node_log_probs(*arrays, labels=labels, **lengths, combination="mul")
    with pytest.raises(ValueError, match="factorised_blank='yes' must be True or False"):
        lattice.node_log_probs(*arrays, labels=labels, **lengths, factorised_blank="yes")
    with pytest.raises(ValueError, match="blank_index=7"):
        lattice.top_k(lattice.Joint(*arrays, factorised_blank=True, blank_index=7), k=2, **lengths)
