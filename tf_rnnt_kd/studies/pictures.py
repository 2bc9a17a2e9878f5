"""Pictures of what a study found, as PNG."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_COLOURS = ("#4269d0", "#e8590c", "#2b8a3e", "#9c36b5", "#846358", "#0c8599", "#c2255c", "#5c7cfa", "#99851f")
_MARKERS = "osD^vPX*<"
BARS = "word_error_rates.png"


def draw_all(summary: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Draws the table and all curves of results.summarise; {title of a curve: name of its file}."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_systems(summary, folder / BARS)
    files = {}
    for curve in summary["curves"]:
        files[curve["title"]] = re.sub(r"[^a-z0-9]+", "_", curve["title"].lower()).strip("_") + ".png"
        draw_curve(curve, folder / files[curve["title"]])
    return files


def draw_systems(summary: Mapping[str, Any], path: Path) -> None:
    """Each system's rate with its interval, and a dot for each seed."""
    systems = summary["systems"]
    figure = Figure(figsize=(7.5, 0.9 + 0.34 * len(systems)), layout="constrained")
    axes = figure.subplots()
    for row, system in enumerate(systems):
        low, high = (100 * x for x in system["interval"])
        axes.plot([low, high], [row, row], color=_COLOURS[0], linewidth=5, alpha=0.35, solid_capstyle="round")
        axes.plot(100 * system["wer"], row, "|", color=_COLOURS[0], markersize=14, markeredgewidth=2.5)
        axes.plot(
            [100 * x for x in system["by_seed"]], [row] * len(system["by_seed"]), "o", color="#333333", markersize=3.5
        )
    axes.set_yticks(range(len(systems)), [system["name"] for system in systems])
    axes.invert_yaxis()
    axes.set_xlabel("word error rate, %: 95 % over utterances, dots are seeds")
    axes.grid(axis="x", alpha=0.3)
    _save(figure, axes, path, without=("top", "right", "left"))


def draw_curve(curve: Mapping[str, Any], path: Path) -> None:
    """The lines of a curve of results.summarise: points with 95 %, and their slopes where there are some."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for index, line in enumerate(curve["lines"]):
        colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
        points = sorted(line["points"], key=lambda point: point["x"])
        x, y = [point["x"] for point in points], [point["y"] for point in points]
        for point in points:
            axes.plot([point["x"]] * 2, point["interval"], color=colour, linewidth=4, alpha=0.2, solid_capstyle="round")
        name = line["name"] + ("" if line["slope"] is None else f", slope {line['slope']:.2f}")
        style = marker if line["slope"] is not None else f"{marker}-"
        axes.plot(x, y, style, color=colour, markersize=5, linewidth=1.4, label=name)
        if line["slope"] is not None:
            middle = sum(x) / len(x), sum(y) / len(y)
            ends = [middle[1] + line["slope"] * (place - middle[0]) for place in (x[0], x[-1])]
            axes.plot([x[0], x[-1]], ends, color=colour, linewidth=1.4)
    if curve["logarithmic"]:
        axes.set_xscale("log")
    axes.set_xlabel(curve["x_label"])
    axes.set_ylabel(curve["y_label"])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, framealpha=0.8)
    _save(figure, axes, path, without=("top", "right"))


def _save(figure, axes, path, *, without):
    for side in without:
        axes.spines[side].set_visible(False)
    # Without the date and the version, so that the same results give the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})
