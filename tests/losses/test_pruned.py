"""The pruned RNN-T loss, its schedule, and the node losses on a band, against loops over the band's nodes."""

import numpy as np
import pytest
import tensorflow as tf
from lattice_batches import joint_batch
from lattice_brute_force import alignments, numeric_gradient
from lattice_pairs import make_pair, value_and_gradient

from tf_rnnt_kd import lattice, losses

SIZES = ((4, 3), (3, 2), (1, 1), (2, 0), (4, 1), (4, 2))
NODE_LOSSES = (
    "collapsed",
    "occupancy_weighted",
    "node_masked",
    "best_path",
    "window_min",
    "best_shift",
    "alignment_cross_entropy",
)


def _banded_pair(seed, *, width=2, sizes=SIZES, dtype=np.float64):
    """A pair on the band of the student's occupancies, and the band's inside [B, T, U+1] without padding."""
    pair = make_pair(seed, sizes=sizes, dtype=dtype)
    band = lattice.pruning_band(lattice.occupancies(pair.student, **pair.lengths), width=width, **pair.lengths)
    banded = pair._replace(teacher=lattice.in_band(pair.teacher, band), student=lattice.in_band(pair.student, band))
    _, frames, positions = pair.student.blank.shape
    inside = lattice.band_mask(band, num_positions=positions)
    inside &= lattice.node_mask(**pair.lengths, num_frames=frames, num_positions=positions)
    return pair, banded, band, inside.numpy()


def _kl_table(pair, inside, i, shift=0):
    """KL(teacher(t, u) || student(t + shift, u)), NaN where either node lies outside the band, by loops."""
    frames, positions = pair.crop(i, pair.teacher.blank).shape
    table = np.full((frames, positions), np.nan)
    for t in range(frames):
        for u in range(positions):
            if inside[i, t, u] and 0 <= t + shift < frames and inside[i, t + shift, u]:
                rows = zip(pair.teacher, pair.student, strict=True)
                logs = [(float(a[i, t, u]), float(b[i, t + shift, u])) for a, b in rows]
                table[t, u] = sum(np.exp(a) * (a - b) for a, b in logs if a > -1e29)
    return table


def _paths_inside(pair, inside, i):
    """Alignments of utterance i that stay in the band, and their scores under teacher and student."""
    tables = [
        {"blank": pair.crop(i, nodes.blank), "label": pair.crop(i, nodes.label)}
        for nodes in (pair.teacher, pair.student)
    ]
    frames, positions = tables[0]["blank"].shape
    paths = [p for p in alignments(frames, positions - 1) if all(inside[i, t, u] for _, t, u in p)]
    return paths, [np.array([sum(table[kind][t, u] for kind, t, u in p) for p in paths]) for table in tables]


def test_pruned_loss_and_its_scales_against_enumeration():
    pair, banded, _, inside = _banded_pair(1)
    simple = pair.teacher  # any full lattice will do
    scales = {"simple_scale": 0.25, "pruned_scale": tf.constant(0.75)}
    total = losses.pruned_rnnt(simple, banded.student, **pair.lengths, **scales)
    log_prob = lattice.full_sum(simple, **pair.lengths)
    same = losses.pruned_rnnt(simple, banded.student, **pair.lengths, simple_log_prob=log_prob)
    for i in range(len(SIZES)):
        student = np.logaddexp.reduce(_paths_inside(pair, inside, i)[1][1])
        np.testing.assert_allclose(total[i], -0.25 * log_prob[i] - 0.75 * student, rtol=1e-9)
        np.testing.assert_allclose(same[i], -0.5 * log_prob[i] - student, rtol=1e-9)
    exact = losses.rnnt(pair.student, **pair.lengths)
    pruned = losses.pruned_rnnt(simple, banded.student, simple_scale=0, **pair.lengths)
    assert np.all(pruned >= exact - 1e-12) and np.any(pruned > exact + 1e-3)


def test_a_band_as_wide_as_the_lattice_gives_the_exact_loss_and_gradient():
    pair, banded, _, _ = _banded_pair(2, width=4)
    results = []
    for nodes in (banded.student, pair.student):
        with tf.GradientTape() as tape:
            tape.watch(nodes)
            loss = losses.pruned_rnnt(pair.teacher, nodes, simple_scale=0.0, **pair.lengths)
        results.append((loss, *tape.gradient(loss, nodes)[:2]))
    np.testing.assert_array_equal(results[0][0], losses.rnnt(pair.student, **pair.lengths))
    for got, want in zip(*results, strict=True):
        np.testing.assert_array_equal(got, want)


def test_gradients_to_the_projections_and_to_the_joint_against_finite_differences():
    """Through simple nodes, band and banded nodes; the band itself does not move within the differences' step."""
    rng = np.random.default_rng(3)
    am, lm, logits = rng.normal(size=(1, 3, 3)), rng.normal(size=(1, 3, 3)), rng.normal(size=(1, 3, 3, 3))
    arguments = {"labels": [[1, 2]], "logit_lengths": [3], "label_lengths": [2]}
    lengths = {key: arguments[key] for key in ("logit_lengths", "label_lengths")}

    def loss(am, lm, logits):
        simple = lattice.simple_nodes(am, lm, lm_only_scale=0.25, **arguments)
        band = lattice.pruning_band(lattice.occupancies(simple, **lengths), width=2, **lengths)
        nodes = lattice.in_band(lattice.node_log_probs_from_logits(logits, **arguments), band)
        return losses.pruned_rnnt(simple, nodes, **lengths)

    inputs = [tf.constant(x) for x in (am, lm, logits)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = loss(*inputs)
    traced = tf.function(loss, autograph=False)
    assert np.isfinite(value)
    for k, got in enumerate(tape.gradient(value, inputs)):

        def at(x, k=k):
            return float(traced(*[tf.constant(x) if j == k else y for j, y in enumerate(inputs)])[0])

        np.testing.assert_allclose(got, numeric_gradient(at, inputs[k].numpy()), atol=1e-7)
        assert np.any(np.abs(got) > 1e-3)


def test_an_utterance_too_long_for_the_band_is_infinite_without_any_gradient_unless_its_scale_is_zero():
    pair, banded, _, _ = _banded_pair(4, sizes=((1, 3), (3, 3)), dtype=np.float32)
    for pruned_scale in (1.0, 0.0, tf.constant(0.0)):
        with tf.GradientTape() as tape:
            tape.watch([pair.teacher, banded.student])
            loss = losses.pruned_rnnt(pair.teacher, banded.student, pruned_scale=pruned_scale, **pair.lengths)
        to_simple, to_nodes = tape.gradient(loss, [pair.teacher, banded.student])
        weighed = not tf.is_tensor(pruned_scale) and pruned_scale > 0
        np.testing.assert_array_equal(np.isposinf(loss), [weighed, False])
        assert np.any(to_simple.blank[0]) == (not weighed) and np.any(to_simple.blank[1])
        assert np.any(to_nodes.blank[1]) == weighed
        np.testing.assert_array_equal(to_nodes.blank[0], 0.0)
        assert all(np.all(np.isfinite(x)) for x in (*to_simple[:2], *to_nodes[:2]))


def test_published_schedule():
    for step, simple, pruned in ((0, 1.0, 0.1), (500, 0.875, 0.325), (2000, 0.5, 1.0), (10**6, 0.5, 1.0)):
        for given in (step, tf.constant(step, tf.int64), tf.constant(step, tf.float32)):
            scales = losses.pruning_scales(given, warm_up_steps=2000)
            np.testing.assert_allclose(scales, [simple, pruned], rtol=1e-6)
    np.testing.assert_allclose(losses.pruning_scales(0, warm_up_steps=0, simple_loss_scale=0.3), [0.3, 1.0], rtol=1e-6)
    with pytest.raises(ValueError, match="warm_up_steps=-1"):
        losses.pruning_scales(0, warm_up_steps=-1)


@pytest.mark.parametrize("reduction", ["sum", "mean", "per_frame"])
@pytest.mark.parametrize("shift", [0, 1, -1])
@pytest.mark.parametrize("teacher_in_band", [True, False])
def test_collapsed_on_the_band_against_loops(teacher_in_band, shift, reduction):
    """A teacher without a band is compared wherever the student, shifted, has a node."""
    pair, banded, _, inside = _banded_pair(5)
    teacher = banded.teacher if teacher_in_band else pair.teacher
    weights = np.random.default_rng(0).uniform(size=inside.shape)
    options = {"shift": shift, "reduction_over_nodes": reduction, "node_weights": weights, **pair.lengths}
    got = losses.collapsed(teacher, banded.student, **options)
    for i, (frames, labels) in enumerate(SIZES):
        total, count = 0.0, 0.0
        for t in range(frames):
            for u in range(labels + 1):
                has_partner = 0 <= t + shift < frames and inside[i, t + shift, u]
                if has_partner and (inside[i, t, u] or not teacher_in_band):
                    nodes = zip(pair.teacher, pair.student, strict=True)
                    logs = [(float(a[i, t, u]), float(b[i, t + shift, u])) for a, b in nodes]
                    total += weights[i, t, u] * sum(np.exp(a) * (a - b) for a, b in logs if a > -1e29)
                    count += weights[i, t, u]
        divisor = {"sum": 1.0, "mean": count, "per_frame": frames}[reduction]
        np.testing.assert_allclose(got[i], total / divisor if divisor else 0.0, rtol=1e-6)


def test_weighted_masked_and_shifted_losses_on_the_band_against_loops():
    pair, banded, _, inside = _banded_pair(6)
    shifts = (0, 1, -2)
    arguments = (banded.teacher, banded.student)
    got = {
        "occupancy_weighted": losses.occupancy_weighted(*arguments, **pair.lengths),
        "node_masked": losses.node_masked(*arguments, threshold=0.2, reduction_over_nodes="mean", **pair.lengths),
        "best_path": losses.best_path(*arguments, reduction_over_nodes="mean", **pair.lengths),
        "window_min": losses.window_min(*arguments, shifts=shifts, reduction_over_nodes="mean", **pair.lengths),
        "best_shift": losses.best_shift(*arguments, shifts=shifts, **pair.lengths),
    }
    for i in range(len(SIZES)):
        table = _kl_table(pair, inside, i)
        paths, (scores, _) = _paths_inside(pair, inside, i)
        posterior = np.zeros_like(table)
        for path, p in zip(paths, np.exp(scores - np.logaddexp.reduce(scores)), strict=True):
            for _, t, u in path:
                posterior[t, u] += p
        live = posterior > 0.2
        tables = np.array([_kl_table(pair, inside, i, shift) for shift in shifts])
        counts = np.sum(~np.isnan(tables), axis=(1, 2))
        means = [np.nansum(x) / n if n else np.inf for x, n in zip(tables, counts, strict=True)]
        expected = {
            "occupancy_weighted": np.nansum(posterior * table),
            "node_masked": np.mean(table[live]),
            "best_path": np.mean([table[t, u] for _, t, u in paths[np.argmax(scores)]]),
            "window_min": np.mean(np.nanmin(tables[:, ~np.all(np.isnan(tables), axis=0)], axis=0)),
            "best_shift": np.nansum(tables[np.argmin(means)]),
        }
        for name, want in expected.items():
            np.testing.assert_allclose(got[name][i], want, rtol=1e-6, err_msg=name)


def test_alignment_losses_on_the_band_against_the_alignments_inside():
    pair, banded, _, inside = _banded_pair(7)
    arguments = (banded.teacher, banded.student)
    normalised = losses.alignment_kl(*arguments, **pair.lengths)
    semiring = losses.alignment_kl_semiring(*arguments, **pair.lengths)
    cross_entropy = losses.alignment_cross_entropy(*arguments, reduction_over_nodes="mean", **pair.lengths)
    entropy = losses.alignment_entropy(banded.student, **pair.lengths)
    for i, (frames, labels) in enumerate(SIZES):
        teacher, student = _paths_inside(pair, inside, i)[1]
        log_p, log_q = (x - np.logaddexp.reduce(x) for x in (teacher, student))
        np.testing.assert_allclose(normalised[i], np.sum(np.exp(log_p) * (log_p - log_q)), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(semiring[i], np.sum(np.exp(teacher) * (teacher - student)), rtol=1e-9, atol=1e-15)
        expected = -np.sum(np.exp(log_p) * student) / (frames + labels)
        np.testing.assert_allclose(cross_entropy[i], expected, rtol=1e-9)
        np.testing.assert_allclose(entropy[i], -np.sum(np.exp(log_q) * log_q), atol=1e-11)
    # What a teacher without a band does outside the student's cannot be had at any price.
    assert np.any(losses.alignment_kl(pair.teacher, banded.student, **pair.lengths) > 1e20)


@pytest.mark.parametrize("name", [*NODE_LOSSES, "alignment_kl"])
def test_zero_at_equality_and_no_gradient_outside_the_band(name):
    loss = getattr(losses, name)
    pair, banded, band, inside = _banded_pair(8)
    value, _, gradient = value_and_gradient(
        lambda t, s: loss(t, lattice.in_band(s, band), **pair.lengths), banded.teacher, pair.student
    )
    assert np.all(np.isfinite(value)) and np.any(np.abs(value) > 1e-3)
    for g in gradient:
        assert g is None or np.all(g.numpy()[~inside] == 0)
    if name != "alignment_cross_entropy":
        np.testing.assert_allclose(loss(banded.student, banded.student, **pair.lengths), 0.0, atol=1e-12)


def test_nan_in_a_node_of_the_band_is_not_taken_for_a_missing_node():
    pair, banded, _, inside = _banded_pair(9, dtype=np.float32)
    assert inside[1, 0, 0]
    broken = lattice.NodeLogProbs(*(tf.tensor_scatter_nd_update(x, [[1, 0, 0]], [np.nan]) for x in banded.student))
    value = losses.collapsed(banded.teacher, broken, **pair.lengths).numpy()
    np.testing.assert_array_equal(np.isnan(value), np.arange(len(SIZES)) == 1)


def _step(names, pair, teacher, student, band):
    """Value and gradients of the named losses and of pruned_rnnt on the band."""

    def on_band(loss):
        return lambda t, s: loss(lattice.in_band(t, band), lattice.in_band(s, band), **pair.lengths)

    results = {}
    for name in names:
        value, _, gradient = value_and_gradient(on_band(getattr(losses, name)), teacher, student)
        results[name] = (value, gradient.blank, gradient.label)
    value, to_simple, to_nodes = value_and_gradient(on_band(losses.pruned_rnnt), teacher, student)
    return results | {"pruned_rnnt": (value, to_simple.blank, to_nodes.label)}


def test_padding_with_nan_changes_nothing():
    pair, _, band, _ = _banded_pair(10, dtype=np.float32)
    names = (*NODE_LOSSES, "alignment_kl")
    dirty = [
        lattice.NodeLogProbs(*(tf.pad(x, [[0, 0], [0, 2], [0, 1]], constant_values=np.nan) for x in nodes))
        for nodes in (pair.teacher, pair.student)
    ]
    wider = lattice.Band(tf.pad(band.first, [[0, 0], [0, 2]], constant_values=1), band.width)
    padded = _step(names, pair, *dirty, wider)
    for name, (value, *gradients) in _step(names, pair, pair.teacher, pair.student, band).items():
        np.testing.assert_allclose(padded[name][0], value, rtol=1e-6, err_msg=name)
        for got, want in zip(padded[name][1:], gradients, strict=True):
            np.testing.assert_allclose(got[:, :-2, :-1], want, rtol=1e-5, atol=1e-6, err_msg=name)
            assert np.all(got[:, -2:].numpy() == 0) and np.all(got[:, :, -1:].numpy() == 0)


def test_the_documented_step_under_xla_equals_eager_on_a_dense_joint():
    """Projections, band, fused joint on the band, pruned loss and distillation from stored nodes, in one program."""
    arrays, labels, lengths = joint_batch(11)
    rng = np.random.default_rng(11)
    projections = [rng.normal(size=(6, 5)).astype(np.float32) for _ in range(2)]
    teacher_logits = rng.normal(size=(3, 7, 5, 5)).astype(np.float32)
    teacher = lattice.node_log_probs_from_logits(teacher_logits, labels=labels, **lengths)

    def step(*inputs, fused):
        encoder, predictor, kernel, bias, to_am, to_lm = inputs
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            am, lm = tf.einsum("bth,hv->btv", encoder, to_am), tf.einsum("buh,hv->buv", predictor, to_lm)
            simple = lattice.simple_nodes(am, lm, labels=labels, lm_only_scale=0.25, **lengths)
            simple_log_prob, occupancies = lattice.forward_backward(simple, **lengths)
            band = lattice.pruning_band(occupancies, width=3, **lengths)
            if fused:
                student = lattice.node_log_probs(*inputs[:4], labels=labels, band=band, **lengths)
            else:
                logits = tf.tanh(encoder[:, :, None] + predictor[:, None]) @ kernel + bias
                dense = lattice.node_log_probs_from_logits(logits, labels=labels, **lengths)
                student = lattice.in_band(dense, band)
            scales = losses.pruning_scales(100, warm_up_steps=400)._asdict()
            loss = losses.pruned_rnnt(simple, student, simple_log_prob=simple_log_prob, **scales, **lengths)
            distilled = losses.alignment_kl(lattice.in_band(teacher, band), student, **lengths)
            distilled += losses.window_min(lattice.in_band(teacher, band), student, **lengths)
            total = tf.reduce_sum(loss + 0.1 * distilled)
        return (loss, distilled, *tape.gradient(total, inputs))

    inputs = [tf.constant(x) for x in (*arrays, *projections)]
    compiled = tf.function(lambda *x: step(*x, fused=True), jit_compile=True, autograph=False)
    for got, want in zip(compiled(*inputs), step(*inputs, fused=False), strict=True):
        assert np.all(np.isfinite(want))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5)
