"""Lines and slopes, against numpy's own fit and against counting."""

import json

import numpy as np
import pytest

from tf_rnnt_kd.evaluation.wer import ErrorCounts
from tf_rnnt_kd.studies.curves import FAILS, HOLDS, OPEN, summarise_curve
from tf_rnnt_kd.studies.jobs import Curve, Point, System

WORDS = np.full(400, 10)


def system(name):
    return System(name, {1: f"training/{name}"})


def pools_of(rates, *, seed=0):
    """Pools of systems whose utterances have errors by chance at given rates; the rates that came out, in per cent."""
    random = np.random.default_rng(seed)
    errors = {name: random.binomial(WORDS, rate) for name, rate in rates.items()}
    zero = np.zeros_like(WORDS)
    counts = {name: ErrorCounts(found, zero, zero, WORDS) for name, found in errors.items()}
    return lambda one, where: counts[one.name], {name: 100 * e.sum() / WORDS.sum() for name, e in errors.items()}


def test_slopes_are_those_of_least_squares():
    teachers = {f"teacher {rate}": rate for rate in (0.1, 0.2, 0.35, 0.5)}
    students = {f"{kind} {rate}": 0.05 + slope * rate for kind, slope in (("hard", 0.9), ("sum", 0.3))
                for rate in teachers.values()}  # fmt: skip
    pools, rates = pools_of(teachers | students)
    lines = {
        kind: [Point(system(name), system(f"{kind} {rate}")) for name, rate in teachers.items()]
        for kind in ("hard", "sum")
    }
    again = {"hard again": lines["hard"]}
    curve = Curve("c", "teacher", lines | again, steeper=(("hard", "sum"), ("sum", "hard"), ("hard", "hard again")))
    found = summarise_curve(curve, pools=pools)
    for line in found["lines"][:2]:
        x = [rates[name] for name in teachers]
        y = [rates[f"{line['name']} {rate}"] for rate in teachers.values()]
        assert line["slope"] == pytest.approx(np.polyfit(x, y, 1)[0])
        low, high = line["slope_interval"]
        assert low < line["slope"] < high and high - low < 0.3
        assert [point["y"] for point in line["points"]] == pytest.approx(y)
    assert [pair["verdict"] for pair in found["steeper"]] == [HOLDS, FAILS, OPEN]
    assert found["steeper"][2]["probability"] == 0.5


def test_intervals_are_those_of_the_binomial():
    pools, _ = pools_of({"a": 0.2})
    (line,) = summarise_curve(Curve("c", "x", {"one": [Point(1, system("a"))]}), pools=pools)["lines"]
    low, high = line["points"][0]["interval"]
    expected = 2 * 1.96 * 100 * np.sqrt(0.2 * 0.8 / WORDS.sum())
    assert high - low == pytest.approx(expected, rel=0.2) and line["slope"] is None


def test_gains_and_bytes(tmp_path):
    pools, rates = pools_of({"plain": 0.4, "taught": 0.3})
    artifacts = {"hard": {"bytes_per_hour": 100.0}, "collapsed": {"bytes_per_hour": 9900.0}}
    (tmp_path / "dataset.json").write_text(json.dumps({"artifacts": artifacts}))
    points = [Point(f"{tmp_path}:a,{tmp_path}:b", system("taught"), against=system("plain"))]
    found = summarise_curve(Curve("c", "bytes", {"gain": points}, logarithmic=True), pools=pools)
    (point,) = found["lines"][0]["points"]
    assert point["x"] == 10_000 and found["y_label"] == "errors saved, %"
    assert point["y"] == pytest.approx(100 * (1 - rates["taught"] / rates["plain"]))


def test_teachers_of_one_rate_have_no_slope():
    pools, _ = pools_of({"teacher": 0.3, "a": 0.2, "b": 0.1})
    points = [Point(system("teacher"), system(name)) for name in "ab"]
    curve = Curve("c", "x", {"one": points, "two": points}, steeper=(("one", "two"),))
    assert [line["slope"] for line in summarise_curve(curve, pools=pools)["lines"]] == [0.0, 0.0]
