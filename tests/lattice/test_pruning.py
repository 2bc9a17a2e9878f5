"""Bands of label positions: where they may lie, and sums over the alignments that stay inside."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import joint_batch, ragged_batch
from lattice_brute_force import alignments

from tf_rnnt_kd import lattice


def _random_occupancies(rng, *, batch, frames, labels):
    """Occupancies of random peaked lattices with ragged lengths, some with more labels than a band could reach."""
    lengths = {
        "logit_lengths": rng.integers(1, frames + 1, size=batch).astype(np.int32),
        "label_lengths": rng.integers(0, labels + 1, size=batch).astype(np.int32),
    }
    logits = rng.choice([0.3, 2.0, 8.0]) * rng.normal(size=(batch, frames, labels + 1, 3))
    nodes = lattice.node_log_probs_from_logits(logits, labels=np.ones((batch, labels), np.int32), **lengths)
    return lattice.occupancies(nodes, **lengths), lengths


def _expected_first(blank, label, width, frames, labels):
    """The choice and the corrections of one utterance's windows, [T_b] by loops."""
    positions = blank.shape[1]
    last = max(labels + 1 - width, 0)
    first = []
    for t in range(frames):
        mean = sum(u * blank[t, u] for u in range(positions))
        scores = []
        for p in range(positions):
            kept = blank[t, p : p + width].sum() - (label[t, p - 1] if p else 0.0)
            scores.append(kept - 5e-4 * min(abs(p + (width - 1) / 2 - mean), width))
        first.append(min(int(np.argmax(scores)), last))
    first[-1] = last
    for t in reversed(range(frames - 1)):  # never falling, by going down
        first[t] = min(first[t], first[t + 1])
    for t in reversed(range(frames - 1)):  # near enough to the next, by going up
        first[t] = max(first[t], first[t + 1] - (width - 1))
    first[0] = 0
    for t in range(1, frames):  # what starts at 0 climbs no faster
        first[t] = min(first[t], first[t - 1] + width - 1)
    return first


@pytest.mark.parametrize("seed", range(6))
def test_windows_against_loops_and_their_promises(seed):
    rng = np.random.default_rng(seed)
    frames, labels = int(rng.integers(2, 24)), int(rng.integers(1, 14))
    arcs, lengths = _random_occupancies(rng, batch=32, frames=frames, labels=labels)
    unreachable = 0
    for width in (2, 3, 5, labels + 1, labels + 4):
        band = lattice.pruning_band(arcs, width=width, **lengths)
        first = band.first.numpy()
        assert band.width == width and band.first.dtype == tf.int32 and first.shape == (32, frames)
        steps = np.diff(first, axis=1)
        assert np.all(first[:, 0] == 0) and np.all(steps >= 0) and np.all(steps <= width - 1)
        highest = np.maximum(lengths["label_lengths"] + 1 - width, 0)
        assert np.all(first <= highest[:, None])
        for i, (t, u) in enumerate(zip(*lengths.values(), strict=True)):
            np.testing.assert_array_equal(first[i, :t], _expected_first(*(x[i].numpy() for x in arcs), width, t, u))
            if u <= t * (width - 1):
                assert first[i, t - 1] == highest[i]
            else:
                unreachable += 1
                assert first[i, t - 1] + width <= u
    assert unreachable > 0 or frames > labels


@pytest.mark.parametrize("width", [2, 3, 4])
def test_a_path_stays_in_the_band_exactly_if_the_labels_can_be_reached(width):
    rng = np.random.default_rng(width)
    arcs, lengths = _random_occupancies(rng, batch=64, frames=5, labels=14)
    band = lattice.pruning_band(arcs, width=width, **lengths)
    zeros = tf.zeros(arcs.blank.shape)
    nodes = lattice.in_band(lattice.NodeLogProbs(zeros, zeros, zeros), band)
    reachable = lengths["label_lengths"] <= lengths["logit_lengths"] * (width - 1)
    assert np.any(reachable) and not np.all(reachable)
    np.testing.assert_array_equal(lattice.is_possible(nodes, **lengths), reachable)
    assert np.all(np.isfinite(lattice.occupancies(nodes, **lengths).blank))


def test_occupancies_of_an_impossible_transcript_give_a_legal_band():
    zeros = tf.zeros([2, 6, 9])
    lengths = {"logit_lengths": [6, 0], "label_lengths": [8, 3]}
    band = lattice.pruning_band(lattice.Occupancies(zeros, zeros), width=4, **lengths)
    first = band.first.numpy()
    assert np.all(first[:, 0] == 0) and first[0, 5] == 5 and np.all(first <= [[5], [0]])
    assert np.all((np.diff(first) >= 0) & (np.diff(first) <= 3))


def test_the_best_window_is_kept_where_the_promises_allow_it():
    """Every frame of a smoothly climbing lattice keeps the most that a window could, to what centring may cost."""
    rng = np.random.default_rng(0)
    frames, labels, width = 60, 12, 4
    logits = rng.normal(size=(1, frames, labels + 1, 3))
    logits[..., 0] += 3.0 * (np.arange(frames)[:, None] < (np.arange(labels + 1) + 1) * frames / (labels + 1))
    lengths = {"logit_lengths": [frames], "label_lengths": [labels]}
    nodes = lattice.node_log_probs_from_logits(logits, labels=np.ones((1, labels), np.int32), **lengths)
    arcs = lattice.occupancies(nodes, **lengths)
    band = lattice.pruning_band(arcs, width=width, **lengths)
    inside = lattice.band_mask(band, num_positions=labels + 1)
    kept = np.sum(np.where(inside, arcs.blank, 0.0), axis=2)[0]
    best = np.max([np.sum(arcs.blank[0, :, p : p + width], axis=1) for p in range(labels + 2 - width)], axis=0)
    assert np.mean(kept) > 0.85 and np.mean(best - kept) < 0.03


def test_full_sum_in_the_band_against_the_alignments_that_stay_inside():
    sizes = ((4, 3), (5, 4), (3, 4), (2, 3), (1, 1), (4, 0), (3, 5))
    for seed in range(4):
        batch = ragged_batch(seed, sizes=sizes, dtype=np.float64)
        nodes = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
        band = lattice.pruning_band(lattice.occupancies(nodes, **batch.lengths), width=2 + seed % 2, **batch.lengths)
        banded = lattice.in_band(nodes, band)
        log_prob, arcs = lattice.forward_backward(banded, **batch.lengths)
        first = band.first.numpy()
        for i, (frames, labels) in enumerate(sizes):
            scores, used = [], np.zeros_like(arcs.blank[i])
            tables = {"blank": nodes.blank[i].numpy(), "label": nodes.label[i].numpy()}
            for path in alignments(frames, labels):
                if all(first[i, t] <= u < first[i, t] + band.width for _, t, u in path):
                    scores.append(sum(tables[kind][t, u] for kind, t, u in path))
                    for kind, t, u in path:
                        if kind == "blank":
                            used[t, u] += np.exp(scores[-1])
            np.testing.assert_allclose(log_prob[i], np.logaddexp.reduce(scores) if scores else -np.inf, rtol=1e-12)
            np.testing.assert_allclose(arcs.blank[i], used / max(np.exp(scores).sum(), 1e-300), atol=1e-12)
        assert np.any(np.isinf(log_prob)) == (band.width == 2)  # (2, 3), (3, 4) and (3, 5) do not fit then
        assert np.any(log_prob < lattice.full_sum(nodes, **batch.lengths) - 1e-6)


def test_a_band_as_wide_as_the_lattice_changes_nothing_and_outside_there_is_no_gradient():
    batch = ragged_batch(5)
    nodes = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
    arcs = lattice.occupancies(nodes, **batch.lengths)
    wide = lattice.pruning_band(arcs, width=4, **batch.lengths)
    np.testing.assert_array_equal(wide.first, 0)
    for got, want in zip(lattice.in_band(nodes, wide), nodes, strict=True):
        np.testing.assert_array_equal(got, want)

    band = lattice.pruning_band(arcs, width=2, **batch.lengths)
    inside = lattice.band_mask(band, num_positions=4).numpy()
    with tf.GradientTape() as tape:
        tape.watch(nodes)
        banded = lattice.in_band(nodes, band)
        value = tf.add_n([tf.reduce_sum(x) for x in banded])
    for got, gradient in zip(banded, tape.gradient(value, nodes), strict=True):
        assert np.all(got.numpy()[~inside] == np.float32(lattice.NEGATIVE_INFINITY))
        np.testing.assert_array_equal(gradient, inside.astype(np.float32))


def test_band_around_holds_its_alignment():
    batch = ragged_batch(6, sizes=((30, 11), (25, 11), (30, 0), (12, 9), (1, 2)), dtype=np.float64)
    nodes = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
    best = lattice.viterbi(nodes, **batch.lengths)
    for width in (2, 3, 4, 5, 12, 20):
        band = lattice.band_around(best.token_frames, width=width, num_frames=30, **batch.lengths)
        first, inside = band.first.numpy(), lattice.band_mask(band, num_positions=12).numpy()
        highest = np.maximum(batch.label_lengths + 1 - width, 0)[:, None]
        steps = np.diff(first, axis=1)
        assert np.all(first[:, 0] == 0) and np.all(first <= highest) and np.all((steps >= 0) & (steps < width))
        for i, (frames, labels) in enumerate(zip(*batch.lengths.values(), strict=True)):
            emitted = np.bincount(best.token_frames[i, :labels], minlength=30)
            if emitted.max() < width:
                assert np.all(inside[i][best.nodes[i].numpy()])
                on_path = [np.flatnonzero(row) for row in best.nodes[i, : frames - 1].numpy()]
                off_centre = [(u[0] + u[-1] - 2 * f - width + 1) / 2 for u, f in zip(on_path, first[i], strict=False)]
                free = (first[i, : frames - 1] > 0) & (first[i, : frames - 1] < highest[i])
                assert np.all(np.abs(np.array(off_centre)[free]) <= 0.5)
    nowhere = lattice.band_around(np.full((5, 11), -1), width=5, num_frames=30, **batch.lengths).first.numpy()
    assert nowhere[0, 29] == 7 and nowhere[0, 27] == 0


def test_padding_batch_mates_and_xla_change_no_window():
    rng = np.random.default_rng(7)
    arcs, lengths = _random_occupancies(rng, batch=12, frames=9, labels=6)
    first = lattice.pruning_band(arcs, width=3, **lengths).first.numpy()

    padded = lattice.Occupancies(*(tf.pad(x, [[0, 0], [0, 7], [0, 4]]) for x in arcs))
    more = lattice.pruning_band(padded, width=3, **lengths).first.numpy()
    rows = rng.permutation(12)[:5]
    part = lattice.Occupancies(*(tf.gather(x, rows) for x in arcs))
    few = lattice.pruning_band(part, width=3, **{key: x[rows] for key, x in lengths.items()}).first.numpy()
    for i, frames in enumerate(lengths["logit_lengths"]):
        np.testing.assert_array_equal(more[i, :frames], first[i, :frames])
    np.testing.assert_array_equal(few, first[rows])

    def windows(blank, label, logit_lengths, label_lengths):
        lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
        return lattice.pruning_band(lattice.Occupancies(blank, label), width=3, **lengths).first

    arguments = [*arcs, *(tf.constant(x) for x in lengths.values())]
    unknown = [tf.TensorSpec([None] * x.shape.rank, x.dtype) for x in arguments]
    np.testing.assert_array_equal(tf.function(windows, jit_compile=True, autograph=False)(*arguments), first)
    np.testing.assert_array_equal(tf.function(windows, input_signature=unknown, autograph=False)(*arguments), first)


def test_a_band_carries_no_gradient():
    batch = ragged_batch(8)
    logits = tf.constant(batch.logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nodes = lattice.node_log_probs_from_logits(logits, labels=batch.labels, **batch.lengths)
        band = lattice.pruning_band(lattice.occupancies(nodes, **batch.lengths), width=2, **batch.lengths)
        value = tf.reduce_sum(tf.cast(band.first, tf.float32))
    assert tape.gradient(value, logits) is None


@pytest.mark.parametrize("width", [2, 3, 9])
def test_the_fused_joint_on_a_band_is_the_dense_joint_in_the_band(width):
    arrays, labels, lengths = joint_batch(9)
    inputs = [tf.constant(a) for a in arrays]
    probe = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 7, 5)), tf.float32)
    results = []
    for fused in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            logits = tf.tanh(inputs[0][:, :, None] + inputs[1][:, None]) @ inputs[2] + inputs[3]
            dense = lattice.node_log_probs_from_logits(logits, labels=labels, **lengths)
            band = lattice.pruning_band(lattice.occupancies(dense, **lengths), width=width, **lengths)
            nodes = lattice.in_band(dense, band)
            if fused:
                nodes = lattice.node_log_probs(*inputs, labels=labels, band=band, **lengths)
            finite = tf.stack([tf.where(x > -1e29, x, tf.zeros_like(x)) for x in nodes])
            value = tf.reduce_sum(finite * probe)
        results.append((*nodes, *tape.gradient(value, inputs)))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_errors_say_what_to_do():
    zeros = tf.zeros([2, 4, 3])
    lengths = {"logit_lengths": [4, 4], "label_lengths": [2, 2]}
    with pytest.raises(ValueError, match="width=1"):
        lattice.pruning_band(lattice.Occupancies(zeros, zeros), width=1, **lengths)
    with pytest.raises(ValueError, match="width=0"):
        lattice.band_around(np.zeros((2, 2)), width=0, num_frames=4, **lengths)
    band = lattice.Band(tf.zeros([2, 5], tf.int32), 2)
    with pytest.raises(ValueError, match=r"band of \(2, 5\)"):
        lattice.in_band(lattice.NodeLogProbs(zeros, zeros, zeros), band)
