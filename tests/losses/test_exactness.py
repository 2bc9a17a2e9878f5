"""Exactness of the whole way from logits to losses: all transcripts of all small lattices, -inf logits, a long lattice,
and what garbage in the padding and other batches may not change, for all losses together."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import Batch, joint_batch
from lattice_brute_force import log_softmax, occupancies, path_log_probs
from lattice_brute_force import node_log_probs as brute_nodes
from lattice_pairs import make_pair

from tf_rnnt_kd import lattice, losses
from tf_rnnt_kd.losses import LossInputs, Objective


def _all_transcripts(num_symbols, blank_index, *, scale=2.0, seed=0):
    """One ragged float64 batch of every transcript of up to 3 labels in every number of frames up to 4."""
    rng = np.random.default_rng(seed)
    symbols = [k for k in range(num_symbols) if k != blank_index % num_symbols]
    texts = [text for size in range(4) for text in itertools.product(symbols, repeat=size)]
    rows = list(itertools.product(range(1, 5), texts))
    labels = np.zeros([len(rows), 3], np.int32)
    for i, (_, text) in enumerate(rows):
        labels[i, : len(text)] = text
    frames, sizes = np.array([(frames, len(text)) for frames, text in rows], np.int32).T
    return Batch(scale * rng.normal(size=[len(rows), 4, 4, num_symbols]), labels, frames, sizes)


def _gradient_of_loss(logits, labels, blank_index, blank_used, label_used):
    """[T, U+1, V]: posterior of the node x softmax, less the posterior of each arc at its symbol."""
    gradient = np.exp(log_softmax(logits)) * (blank_used + label_used)[..., None]
    gradient[..., blank_index] -= blank_used
    for u, symbol in enumerate(labels):
        gradient[:, u, symbol] -= label_used[:, u]
    return gradient


def _loss_and_gradient(batch, blank_index=0):
    logits = tf.constant(batch.logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.rnnt_loss(logits, labels=batch.labels, **batch.lengths, blank_index=blank_index)
    return loss.numpy(), tape.gradient(loss, logits).numpy()


@pytest.mark.parametrize(
    ("num_symbols", "blank_index", "scale"),
    [(1, 0, 2.0), (2, -1, 2.0), (3, 0, 2.0), (3, 1, 2.0), (3, 2, 2.0), (4, 0, 2.0), (4, 2, 2.0),
     (4, -1, 2.0), (4, 0, 1e4)],
)
def test_every_transcript_of_every_small_lattice_against_enumeration(num_symbols, blank_index, scale):
    batch = _all_transcripts(num_symbols, blank_index, scale=scale)
    teacher_batch = batch._replace(logits=_all_transcripts(num_symbols, blank_index, seed=1).logits)
    teacher, student = (
        lattice.node_log_probs_from_logits(b.logits, labels=b.labels, **b.lengths, blank_index=blank_index)
        for b in (teacher_batch, batch)
    )
    loss, gradient = _loss_and_gradient(batch, blank_index)
    got = {
        "rnnt_loss": loss,
        "full_sum": lattice.full_sum(student, **batch.lengths),
        "alignment_kl": losses.alignment_kl(teacher, student, **batch.lengths),
        "alignment_entropy": losses.alignment_entropy(student, **batch.lengths),
        "gradient": gradient,
        **lattice.occupancies(student, **batch.lengths)._asdict(),
    }
    want = {name: np.zeros(value.shape) for name, value in got.items()}  # 0 outside the utterances
    for i, (frames, size) in enumerate(zip(batch.logit_lengths, batch.label_lengths, strict=True)):
        logits, labels = batch.utterance(i)
        arcs = brute_nodes(logits, labels, blank_index)[:2]
        teacher_arcs = brute_nodes(*teacher_batch.utterance(i), blank_index)[:2]
        scores, teacher_scores = (path_log_probs(*x)[1] for x in (arcs, teacher_arcs))
        total = np.logaddexp.reduce(scores)
        want["rnnt_loss"][i], want["full_sum"][i] = -total, total
        posterior, teacher_posterior = (x - np.logaddexp.reduce(x) for x in (scores, teacher_scores))
        want["alignment_kl"][i] = np.sum(np.exp(teacher_posterior) * (teacher_posterior - posterior))
        want["alignment_entropy"][i] = -np.sum(np.exp(posterior) * posterior)
        inside = (i, slice(frames), slice(size + 1))
        want["blank"][inside], want["label"][inside] = used = occupancies(*arcs)
        want["gradient"][inside] = _gradient_of_loss(logits, labels, blank_index, *used)
    for name, value in got.items():
        atol = 1e-12 if scale < 1e4 else 1e-9
        np.testing.assert_allclose(value, want[name], rtol=1e-12, atol=atol, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_infinite_logits_against_enumeration(dtype):
    batch = _all_transcripts(4, 0, seed=2)
    forbidden = np.random.default_rng(3).uniform(size=batch.logits.shape) < 0.25
    forbidden[..., -1] &= ~np.all(forbidden, axis=-1)  # some symbol is always possible
    batch = batch._replace(logits=np.where(forbidden, -np.inf, batch.logits).astype(dtype))
    loss, gradient = _loss_and_gradient(batch)
    nodes = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
    possible = lattice.is_possible(nodes, **batch.lengths).numpy()
    assert np.any(possible) and not np.all(possible)
    want_loss, want_gradient = np.full(loss.shape, np.inf), np.zeros(gradient.shape)
    for i, (frames, size) in enumerate(zip(batch.logit_lengths, batch.label_lengths, strict=True)):
        logits, labels = batch.utterance(i)
        arcs = brute_nodes(logits, labels)[:2]
        scores = path_log_probs(*arcs)[1]
        if np.any(np.isfinite(scores)):
            want_loss[i] = -np.logaddexp.reduce(scores)
            want_gradient[i, :frames, : size + 1] = _gradient_of_loss(logits, labels, 0, *occupancies(*arcs))
    np.testing.assert_array_equal(possible, np.isfinite(want_loss))
    np.testing.assert_allclose(loss, want_loss, rtol=1e-12 if dtype == np.float64 else 2e-6, atol=1e-12)
    tolerance = {np.float64: 1e-12, np.float32: 2e-6, np.float16: 1e-3}[dtype]
    np.testing.assert_allclose(gradient, want_gradient, atol=tolerance)


@pytest.mark.parametrize("blank_index", [0, 2, -1])
def test_the_fused_joint_takes_any_symbol_as_blank(blank_index):
    arrays, labels, lengths = joint_batch(4, dtype=np.float64)
    blank = blank_index % arrays[2].shape[1]
    labels = np.where(labels == blank, 0, labels).astype(np.int32)
    results = []
    for fused in (True, False):
        inputs = [tf.constant(a) for a in arrays]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            if fused:
                nodes = lattice.node_log_probs(*inputs, labels=labels, **lengths, blank_index=blank_index)
                loss = losses.rnnt(nodes, **lengths)
            else:
                logits = tf.tanh(inputs[0][:, :, None] + inputs[1][:, None]) @ inputs[2] + inputs[3]
                loss = losses.rnnt_loss(logits, labels=labels, **lengths, blank_index=blank_index)
        results.append((loss, *tape.gradient(loss, inputs)))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def _row_scan(blank, label):
    """[T, U+1] log-probability of reaching each node, row by row: log-add-exp of running sums within a row."""
    alpha = np.empty_like(blank)
    entering = np.full(blank.shape[1], -np.inf)
    entering[0] = 0.0
    for t in range(len(blank)):
        along = np.concatenate([[0.0], np.cumsum(label[t, :-1])])
        alpha[t] = np.logaddexp.accumulate(entering - along) + along
        entering = alpha[t] + blank[t]
    return alpha


def test_long_lattice_from_float32_logits_against_a_float64_scan():
    frames, size = 2000, 300
    rng = np.random.default_rng(5)
    logits = rng.normal(size=[1, frames, size + 1, 4])
    labels = rng.integers(1, 4, size=[1, size]).astype(np.int32)
    blank, label, _ = brute_nodes(logits[0], labels[0])
    alpha = _row_scan(blank, label)
    # Backwards: the same scan of the lattice turned round, its arcs attached to the nodes that they enter.
    beta = _row_scan(
        np.concatenate([blank[-2::-1, ::-1], np.zeros([1, size + 1])]),
        np.concatenate([label[::-1, -2::-1], np.zeros([frames, 1])], axis=1),
    )[::-1, ::-1] + blank[-1, -1]
    total = alpha[-1, -1] + blank[-1, -1]
    np.testing.assert_allclose(beta[0, 0], total, rtol=1e-12)
    after_blank = np.concatenate([beta[1:], np.where(np.arange(size + 1) == size, 0.0, -np.inf)[None]])
    after_label = np.concatenate([beta[:, 1:], np.full([frames, 1], -np.inf)], axis=1)
    used = np.exp(alpha + blank + after_blank - total), np.exp(alpha + label + after_label - total)

    batch = Batch(logits.astype(np.float32), labels, np.array([frames]), np.array([size]))
    loss, gradient = _loss_and_gradient(batch)
    np.testing.assert_allclose(loss, [-total], rtol=1e-5)
    np.testing.assert_allclose(gradient[0], _gradient_of_loss(logits[0], labels[0], 0, *used), atol=1e-5)


# All that compare nodes, alignments or scores; each with its defaults.
OBJECTIVE = {
    name: {}
    for name in (
        "rnnt", "collapsed", "occupancy_weighted", "node_masked", "best_path", "window_min", "best_shift",
        "alignment_kl", "alignment_kl_semiring", "alignment_cross_entropy", "alignment_entropy", "full_sum",
        "symmetric_consistency",
    )
} | {"fastemit": {"loss": "rnnt", "fastemit_lambda": 0.5}}


def _objective_and_gradient(teacher, student, labels, lengths):
    """{term: [B]} and the gradient of the sum of all terms to the student's logits."""
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        nodes, teacher = (
            lattice.node_log_probs_from_logits(x, labels=labels, **lengths) for x in (student, teacher)
        )
        total, terms = Objective(OBJECTIVE)(LossInputs(nodes, teacher=teacher, second_mode=teacher, **lengths))
    return terms, tape.gradient(total, student).numpy()


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_garbage_in_padding_changes_no_bit_of_any_loss(garbage):
    pair = make_pair(6, dtype=np.float32)
    clean = _objective_and_gradient(pair.teacher_logits, pair.batch.logits, pair.batch.labels, pair.lengths)
    dirty = [pair.teacher_logits.copy(), pair.batch.logits.copy()]
    labels = pair.batch.labels.copy()
    for i, (frames, size) in enumerate(zip(pair.batch.logit_lengths, pair.batch.label_lengths, strict=True)):
        for x in dirty:
            x[i, frames:] = garbage
            x[i, :, size + 1 :] = garbage
        labels[i, size:] = -(10**6)
    terms, gradient = _objective_and_gradient(*dirty, labels, pair.lengths)
    for name, value in clean[0].items():
        np.testing.assert_array_equal(value, terms[name], err_msg=name)
    np.testing.assert_array_equal(clean[1], gradient)


def test_permutation_split_and_more_padding_change_no_loss():
    pair = make_pair(7)
    arrays = pair.teacher_logits, pair.batch.logits, pair.batch.labels
    terms, gradient = _objective_and_gradient(*arrays, pair.lengths)
    order = np.random.default_rng(0).permutation(8)
    for rows in (order, order[:3], order[3:]):
        part = {key: value[rows] for key, value in pair.lengths.items()}
        part_terms, part_gradient = _objective_and_gradient(*(x[rows] for x in arrays), part)
        for name, value in terms.items():
            np.testing.assert_allclose(part_terms[name], value.numpy()[rows], rtol=1e-10, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(part_gradient, gradient[rows], atol=1e-10)
    padded = [np.pad(x, [[0, 0], [0, 2], [0, 3], [0, 0]][: x.ndim], constant_values=1) for x in arrays[:2]]
    padded_terms, padded_gradient = _objective_and_gradient(
        *padded, np.pad(arrays[2], [[0, 0], [0, 3]]), pair.lengths
    )
    for name, value in terms.items():
        np.testing.assert_allclose(padded_terms[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(padded_gradient[:, :-2, :-3], gradient, atol=1e-10)
    assert not np.any(padded_gradient[:, -2:]) and not np.any(padded_gradient[:, :, -3:])
