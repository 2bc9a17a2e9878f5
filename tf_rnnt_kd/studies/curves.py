"""What the lines of a study's pictures say, with intervals of points and slopes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tf_rnnt_kd.evaluation import wer
from tf_rnnt_kd.studies.jobs import Curve, Point, System
from tf_rnnt_kd.studies.outcomes import stored_bytes

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"
_SURE = 0.95
_DRAWS = 2000

Pools = Callable[[System, str], wer.ErrorCounts]
"""(system, where) -> errors of all its seeds."""


def verdict(probability: float) -> str:
    """Of a claim whose probability is at least 0.95, at most 0.05, or between."""
    return HOLDS if probability >= _SURE else FAILS if probability <= 1 - _SURE else OPEN


def summarise_curve(curve: Curve, *, pools: Pools, seed: int = 0) -> dict[str, Any]:
    """A curve in numbers. All rates are in per cent.

    Intervals hold 95 %, of a bootstrap over utterances in which all points of the curve see the same draws, so that
    slopes are compared on the same utterances.

    Args:
      curve: a Curve whose systems are measured.
      pools: gives their errors.
      seed: of the bootstrap.

    Returns:
      {title, x_label, y_label, logarithmic, lines: [{name, points: [{system, x, y, interval}], slope, slope_interval}],
      steeper: [{first, second, probability, verdict}]}; slopes are None where none are asked for.
    """
    draws = _Draws(pools, seed=seed)
    lines, slopes = [], {}
    for name, points in curve.lines.items():
        places = [draws.place(point) for point in points]
        slope = interval = None
        if curve.steeper and len(points) > 1:
            x, y = (np.stack([place[axis] for place in places], axis=1) for axis in (0, 1))
            slopes[name] = _slopes(x, y)
            slope, interval = float(slopes[name][0]), _interval(slopes[name])
        rows = [
            {"system": point.system.name, "x": float(x[0]), "y": float(y[0]), "interval": _interval(y)}
            for point, (x, y) in zip(points, places, strict=True)
        ]
        lines.append({"name": name, "points": rows, "slope": slope, "slope_interval": interval})
    return {
        "title": curve.title,
        "x_label": curve.x_label,
        "y_label": "errors saved, %" if curve.is_gain else "word error rate, %",
        "logarithmic": curve.logarithmic,
        "lines": lines,
        "steeper": [_steeper(first, second, slopes) for first, second in curve.steeper],
    }


class _Draws:
    """Rates of systems: the first number is the rate itself, the others are those of the draws."""

    def __init__(self, pools: Pools, *, seed: int):
        self._pools, self._seed = pools, seed
        self._weights: dict[int, np.ndarray] = {}
        self._rates: dict[tuple[str, str], np.ndarray] = {}

    def place(self, point: Point) -> tuple[np.ndarray, np.ndarray]:
        """x and y, [1 + draws] each."""
        y = 100 * self._rate(point.system, point.where)
        if point.against is not None:
            worse = 100 * self._rate(point.against, point.where)
            y = 100 * (1 - y / np.maximum(worse, 1e-9))
        if isinstance(point.x, System):
            return 100 * self._rate(point.x, point.where), y
        x = stored_bytes(point.x) if isinstance(point.x, str) else float(point.x)
        return np.full_like(y, x), y

    def _rate(self, system, where):
        if (system.name, where) not in self._rates:
            counts = self._pools(system, where)
            size = len(counts)
            if size not in self._weights:
                random = np.random.default_rng(self._seed).multinomial(size, np.full(size, 1 / size), _DRAWS)
                self._weights[size] = np.concatenate([np.ones([1, size]), random])
            weights = self._weights[size]
            self._rates[system.name, where] = (weights @ counts.errors) / np.maximum(weights @ counts.words, 1)
        return self._rates[system.name, where]


def _slopes(x, y):
    """Of least squares, [draws, points] -> [draws]; 0 where all x are one."""
    x = x - x.mean(axis=1, keepdims=True)
    spread = (x**2).sum(axis=1)
    return np.where(spread > 0, (x * y).sum(axis=1) / np.where(spread > 0, spread, 1), 0.0)


def _interval(values):
    return [float(bound) for bound in np.percentile(values[1:], [2.5, 97.5])]


def _steeper(first: str, second: str, slopes: Mapping[str, np.ndarray]) -> dict[str, Any]:
    difference = slopes[first][1:] - slopes[second][1:]
    probability = float(np.mean(difference > 0) + np.mean(difference == 0) / 2)
    return {"first": first, "second": second, "probability": probability, "verdict": verdict(probability)}
