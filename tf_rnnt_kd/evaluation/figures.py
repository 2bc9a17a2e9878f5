"""The report's pictures: each function takes numbers and gives an SVG or PNG as a `data:` address for an <img>."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from tf_rnnt_kd.evaluation.occupancy import LatticeView
from tf_rnnt_kd.evaluation.results import Result

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#9c6b4e", "#97bbf5")
# Fixed ids and no date: the same numbers give the same file.
_STYLE = {"svg.hashsalt": "tf_rnnt_kd", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}


def wer_bars(results: Sequence[Result]) -> str:
    """Word error rates with their intervals, one bar for each system, in the order given."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 0.8 + 0.45 * len(results)), layout="constrained")
        axes = figure.subplots()
        rows = range(len(results))[::-1]
        rates = [100 * result.wer for result in results]
        spread = [
            [max(0.0, rate - 100 * result.interval[0]) for rate, result in zip(rates, results, strict=True)],
            [max(0.0, 100 * result.interval[1] - rate) for rate, result in zip(rates, results, strict=True)],
        ]
        axes.barh(rows, rates, xerr=spread, color=[_colour(i) for i in range(len(results))], height=0.6, capsize=4)
        edge = max(100 * result.interval[1] for result in results)
        for row, rate, result in zip(rows, rates, results, strict=True):
            axes.text(100 * result.interval[1] + 0.015 * edge, row, f"{rate:.1f} %", va="center")
        axes.set_yticks(rows, [result.name for result in results])
        axes.set_xlim(0, 1.15 * edge or 1.0)
        splits = " and ".join(sorted({result.split for result in results}))
        axes.set_xlabel(f"word error rate on {splits}, %; whiskers: 95 % interval")
        return _svg(figure)


def learning_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Training loss and dev word error rate over steps.

    Args:
      logs: {name of the training: lines of its train_log.jsonl}; each has `step`, and `loss` or `dev_wer`.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.5, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for index, (name, lines) in enumerate(logs.items()):
            for axes, key, scale, mark in ((left, "loss", 1, ""), (right, "dev_wer", 100, ".")):
                points = [(line["step"], scale * line[key]) for line in lines if line.get(key) is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), mark + "-", label=name, color=_colour(index), linewidth=1.3)
        left.set(xlabel="step", ylabel="training loss (sum of its terms)", yscale="log")
        right.set(xlabel="step", ylabel="dev word error rate, %", ylim=(0, None))
        right.legend(frameon=False)
        for axes in (left, right):
            axes.grid(alpha=0.3, which="both" if axes is left else "major")
        return _svg(figure)


def lattices(views: Sequence[LatticeView], *, words: Sequence[tuple[str, float, float]] = ()) -> str:
    """Where each system is in its lattice over time, one panel for each, on one time axis.

    Args:
      views: of the same tokens.
      words: (word, start, end) in seconds of the reference, drawn as bands where known.
    """
    # One panel's height follows the number of tokens, so that their names stay apart.
    height = max(1.8, 0.7 + 0.24 * max(view.occupancy.shape[1] for view in views))
    with matplotlib.rc_context({**_STYLE, "axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(9.5, 0.4 + height * len(views)), layout="constrained")
        panels = figure.subplots(len(views), 1, sharex=True, squeeze=False)[:, 0]
        for axes, view in zip(panels, views, strict=True):
            num_frames, num_positions = view.occupancy.shape
            extent = (0.0, num_frames * view.frame_seconds, -0.5, num_positions - 0.5)
            image = axes.imshow(
                view.occupancy.T, origin="lower", aspect="auto", extent=extent, vmin=0, vmax=1, cmap="Greys",
                interpolation="nearest",
            )  # fmt: skip
            axes.set_yticks(range(num_positions), ["(start)", *view.tokens])
            axes.set_ylabel("tokens so far, the last")
            title = f"{view.name}: {1000 * view.frame_seconds:.0f} ms frames, log P of the tokens {view.log_prob:.2f}"
            axes.set_title(title, loc="left", fontsize=10, pad=22 if words and axes is panels[0] else 6)
            for index, (word, start, end) in enumerate(words):
                axes.axvspan(start, end, color="#4269d0", alpha=0.15, linewidth=0)
                if axes is panels[0]:
                    place = {"transform": axes.get_xaxis_transform(), "ha": "center", "fontsize": 8, "color": "#4269d0"}
                    axes.text((start + end) / 2, 1.10 if index % 2 else 1.03, word, **place)
        panels[-1].set_xlabel("time, s" + ("; bands: where the words were spoken" if words else ""))
        figure.colorbar(image, ax=list(panels), shrink=0.8, label="probability of passing the node")
        return _png(figure)


def histograms(distributions: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """One histogram for each of {label of the axis: (edges [N+1], counts [N])}, side by side."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.7 * len(distributions), 2.8), layout="constrained")
        panels = figure.subplots(1, len(distributions), squeeze=False)[0]
        for axes, (label, (edges, counts)) in zip(panels, distributions.items(), strict=True):
            axes.stairs(counts, edges, fill=True, color=_COLOURS[0])
            axes.set(xlabel=label, ylabel="utterances", ylim=(0, None))
        return _svg(figure)


def reliability(systems: Mapping[str, Mapping[str, Mapping | None]]) -> str:
    """Share of right words over their confidence, a panel for each system; on the diagonal confidences are true.

    Args:
      systems: {title of the panel: {name of the curve: what confidence.reliability gives, or None}}.
    """
    columns = min(3, len(systems))
    lines = -(-len(systems) // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.2 * columns + 0.4, 3.1 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).flat
        for (title, curves), axes in zip(systems.items(), panels, strict=False):
            axes.plot([0, 1], [0, 1], color="#bbb", linewidth=1)
            for index, (name, curve) in enumerate(curves.items()):
                if curve is None:
                    continue
                bins = curve["bins"]
                x, y = ([entry[key] for entry in bins] for key in ("confidence", "accuracy"))
                sizes = [4 + 120 * entry["words"] / curve["words"] for entry in bins]
                axes.plot(x, y, color=_colour(index), linewidth=1.2, label=f"{name}: ECE {100 * curve['ece']:.1f} %")
                axes.scatter(x, y, s=sizes, color=_colour(index), alpha=0.6, linewidth=0)
            axes.set_title(title, fontsize=10)
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), ylabel="share that is right")
            axes.set_xlabel("confidence; dots: share of the words")
            axes.legend(frameon=False, fontsize=8, loc="upper left")
        for axes in panels:
            axes.set_visible(False)
        return _svg(figure)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
