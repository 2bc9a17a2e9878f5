"""The benchmark of the lattice: its float64 reference is right, and its figures are there. No time is asserted."""

import itertools
import math

import numpy as np
import pytest

from benchmarks import (
    lattice_calls,
    lattice_checks,
    lattice_exact,
    lattice_inputs,
    lattice_measurements,
    lattice_rows,
    lattice_shape,
    lattice_table,
    measure,
    tensorflow_scan,
)

_SMALL = lattice_inputs.Shape(2, 4, 3, 5, 4)
_ABOUT = {"processor": "a processor", "tensorflow": "2", "repetitions": 1, "mode": "graph"}
_FIGURES = ("ratio", "floor_ratio", "memory_first", "memory", "error", "error64", "live", "first_call")


def _batch(seed=0):
    return lattice_inputs.batch(_SMALL, seed=seed)._replace(
        logit_lengths=np.array([4, 2], np.int32), label_lengths=np.array([2, 3], np.int32)
    )


def _paths(nodes, frames, labels):
    """(log-probability, visited arcs) of every alignment, by enumeration."""
    for emitted in itertools.combinations(range(frames + labels - 1), labels):
        t = u = 0
        score, arcs = 0.0, []
        for step in range(frames + labels):
            kind = "label" if step in emitted else "blank"
            score += getattr(nodes, kind)[t, u]
            arcs.append((kind, t, u))
            t, u = (t, u + 1) if kind == "label" else (t + 1, u)
        yield score, arcs


def test_sums_of_the_reference_are_those_of_enumerated_paths():
    batch = _batch()
    nodes = lattice_exact.node_log_probs(batch)
    sums = lattice_exact.sums(nodes, batch)
    for b, (frames, labels) in enumerate(zip(batch.logit_lengths, batch.label_lengths, strict=True)):
        paths = list(_paths(lattice_exact.Nodes(*(x[b] for x in nodes)), frames, labels))
        total = sum(math.exp(score) for score, _ in paths)
        assert sums.log_prob[b] == pytest.approx(math.log(total), rel=1e-12)
        expected = {kind: np.zeros(sums.blank.shape[1:]) for kind in ("blank", "label")}
        for score, arcs in paths:
            for kind, t, u in arcs:
                expected[kind][t, u] += math.exp(score) / total
        np.testing.assert_allclose(sums.blank[b], expected["blank"], atol=1e-12)
        np.testing.assert_allclose(sums.label[b], expected["label"], atol=1e-12)


def _rnnt_and_collapsed(batch, teacher):
    nodes = lattice_exact.node_log_probs(batch)
    exists = np.isfinite(nodes.blank)
    pairs = zip(lattice_exact.node_log_probs(teacher), nodes, strict=True)
    kl = sum(np.sum(np.exp(t[m]) * (t[m] - s[m])) for t, s in pairs for m in [exists & np.isfinite(t)])
    return kl - lattice_exact.sums(nodes, batch).log_prob.sum()


def _soft(batch, teacher):
    value = 0.0
    for (_, _, _, t, _), (_, _, _, s, _) in zip(*(lattice_exact._slices(x) for x in (teacher, batch)), strict=True):
        value += np.sum(np.exp(t) * (t - s))
    return value


def _top_2(batch, teacher):
    symbols, _, _ = lattice_exact.top_k(teacher, 2)
    value = 0.0
    for (index, _, _, t, _), (_, _, _, s, _) in zip(*(lattice_exact._slices(x) for x in (teacher, batch)), strict=True):
        for at in np.ndindex(*t.shape[:2]):
            chosen = symbols[index][at]
            others = np.setdiff1d(np.arange(t.shape[2]), chosen)
            for group in ([k] for k in chosen):
                value += np.exp(t[at][group]).sum() * (t[at][group] - s[at][group]).sum()
            t_rest, s_rest = (np.log(np.exp(x[at][others]).sum()) for x in (t, s))
            value += np.exp(t_rest) * (t_rest - s_rest)
    return value


@pytest.mark.parametrize("value", [_rnnt_and_collapsed, _soft, _top_2])
def test_gradients_of_the_reference_are_finite_differences(value):
    batch, teacher = _batch(), _batch(seed=1)._replace(labels=_batch().labels)
    batch = batch._replace(**{name: getattr(batch, name).astype(np.float64) for name in batch._fields[:4]})
    if value is _rnnt_and_collapsed:
        taught = lattice_exact.node_log_probs(teacher)
        sums = lattice_exact.sums(lattice_exact.node_log_probs(batch), batch)
        parts = [lattice_checks.UPSTREAM[term](sums, taught, None) for term in ("rnnt", "collapsed")]
        to_logits = lattice_exact.from_nodes(lattice_exact.Nodes(*(x + y for x, y in zip(*parts, strict=True))))
    elif value is _soft:
        to_logits = lattice_exact.from_distribution(teacher)
    else:
        to_logits = lattice_exact.from_top_k(*lattice_exact.top_k(teacher, 2))
    found = lattice_exact.gradients(batch, to_logits)
    rng = np.random.default_rng(0)
    for name, gradient in zip(batch._fields[:4], found, strict=True):
        direction = rng.normal(size=gradient.shape)
        step = 1e-6 * direction
        difference = value(batch._replace(**{name: getattr(batch, name) + step}), teacher)
        difference -= value(batch._replace(**{name: getattr(batch, name) - step}), teacher)
        assert np.sum(gradient * direction) == pytest.approx(difference / 2e-6, rel=1e-5, abs=1e-6), name


def test_the_plain_tensorflow_peer_agrees_with_the_reference():
    batch = _batch()
    values, gradients = tensorflow_scan.call(batch)()
    sums = lattice_exact.sums(lattice_exact.node_log_probs(batch), batch)
    np.testing.assert_allclose(values, -sums.log_prob, rtol=1e-5)
    to_logits = lattice_exact.from_nodes(lattice_checks.UPSTREAM["rnnt"](sums, None, None))
    assert lattice_exact.relative_error(gradients, lattice_exact.gradients(batch, to_logits)) < 1e-5


def _in_process(function, **arguments):
    return getattr(lattice_measurements, function.partition(":")[2])(**arguments)


def test_figures_of_a_tiny_shape_are_there_and_finite(monkeypatch):
    monkeypatch.setattr(measure, "in_child", _in_process)
    lines = []
    figures = lattice_shape.measured(
        "tiny", bars=["1"], rows=["rnnt_peaked"], repetitions=1, mode="graph", exact="12345",
        report=lambda line, _: lines.append(line),
    )  # fmt: skip
    found = figures["rows"]["rnnt_peaked"]
    for name in _FIGURES:
        assert math.isfinite(found[name]), name
    assert found["error"] < 1e-5
    assert found["error64"] < 1e-5
    assert 0 < found["live"] <= 1
    assert len(lines) == 2
    text, good = lattice_table.table("tiny", figures, about=_ABOUT)
    assert good, "without bars nothing is missed"
    assert any("RNN-T, logits x 8" in line for line in text)


def test_a_row_that_cannot_be_measured_is_named_and_the_others_go_on(monkeypatch):
    def child(function, **arguments):
        if arguments.get("name") == "rnnt_random":
            raise RuntimeError("no such thing")
        return {"floor_slices": {"all": [1.0]}}.get(function.partition(":")[2], {"ratio": 1.0})

    monkeypatch.setattr(measure, "in_child", child)
    found = lattice_shape.measured("tiny", bars=["1"], rows=[], repetitions=1, mode="graph", exact="")["rows"]
    assert found == {"rnnt_random": {"failed": "no such thing"}, "rnnt_peaked": {"ratio": 1.0}}


@pytest.mark.parametrize(
    "change, verdict",
    [({}, "PASS"), ({"ratio": 0.73}, "FAIL"), ({"memory": 0.11}, "FAIL"), ({"memory_first": 0.11}, "FAIL"),
     ({"error": 2e-6}, "FAIL"), ({"error": None}, "FAIL")],
)  # fmt: skip
def test_every_bar_of_a_row_is_judged(change, verdict):
    found = {"ratio": 0.72, "floor_ratio": 0.72, "memory_first": 0.1, "memory": 0.1, "error": 1e-6, "error64": 1e-6}
    found |= {"live": 0.3, "yardstick_spread": 0.01} | change
    figures = {"rows": {"rnnt_random": found}, "bar_7": {}, "floor": {"rows": "all", "seconds": {"all": [4.1]}}}
    for markdown in (False, True):
        text, good = lattice_table.table("large", figures, about=_ABOUT, markdown=markdown)
        line = next(line for line in text if "random initialisation" in line)
        assert line.rstrip(" |").endswith(verdict)
        assert good == (verdict == "PASS")


@pytest.mark.parametrize("family", sorted({row.family for row in lattice_rows.ROWS.values()}))
def test_a_row_of_each_family_runs(family):
    name = next(name for name, row in lattice_rows.ROWS.items() if row.family == family)
    values, gradients = lattice_calls.problem(name, lattice_inputs.SHAPES["tiny"]).call()
    for x in (values, *gradients):
        assert np.isfinite(x).all() and np.any(x)


def test_rows_refer_to_what_exists():
    for name, row in lattice_rows.ROWS.items():
        assert row.yardstick in {"floor", "soft_floor", "copy", *lattice_rows.ROWS}, name
        assert set(row.limits) <= set(lattice_inputs.SHAPES), name
        assert row.bar in range(1, 7), name
    assert len(lattice_table.listing()) == len(lattice_rows.ROWS) + 3


def test_calls_take_turns_with_the_yardstick():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in ("floor", "a", "b")}
    ticks = itertools.count()
    seconds = measure.interleaved(calls, repetitions=2, clock=lambda: next(ticks))
    assert order[3:] == ["floor", *["a", "floor", "b", "floor"] * 2], "after one untimed call each"
    assert {name: len(values) for name, values in seconds.items()} == {"floor": 5, "a": 2, "b": 2}


def test_peak_memory_is_what_the_call_takes():
    megabytes = 64

    def call():
        passing = np.ones(megabytes * 2**17)
        return passing[:1].copy()

    for peak in measure.peak_memory(call):
        assert peak == pytest.approx(megabytes * 2**20, rel=0.1)


def test_a_child_answers_or_says_why_not():
    assert measure.in_child("benchmarks.measure:median", values=[3.0, 1.0, 2.0]) == 2.0
    with pytest.raises(RuntimeError, match="IndexError"):
        measure.in_child("benchmarks.measure:median", values=[])
