"""Draws the pictures of docs/lattice beside itself:

    python docs/pictures/draw_lattice.py
"""

import itertools
import os
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

_BLANK, _LABEL, _REST, _GREY = "#4269d0", "#ff725c", "#6cc5b0", "#b8b8b8"
_HERE = Path(__file__).resolve().parent


def lattice():
    """Nodes, arcs and one alignment of 'cat' over six frames."""
    frames, text = 6, "cat"
    path = [(0, 0), (1, 0), (1, 1), (2, 1), (3, 1), (3, 2), (4, 2), (4, 3), (5, 3), (6, 3)]
    figure = Figure(figsize=(6.4, 3.3), layout="constrained")
    axes = figure.subplots()
    for t, u in itertools.product(range(frames), range(len(text) + 1)):
        _arrow(axes, (t, u), (t + 1, u), _GREY, visible=t + 1 < frames or u == len(text))
        _arrow(axes, (t, u), (t, u + 1), _GREY, visible=u < len(text))
    for start, end in itertools.pairwise(path):
        _arrow(axes, start, end, _BLANK if end[0] > start[0] else _LABEL, width=2.4)
        if end[1] > start[1]:
            axes.text(start[0] + 0.09, start[1] + 0.42, text[start[1]], color=_LABEL, fontsize=13)
    nodes = list(itertools.product(range(frames), range(len(text) + 1)))
    axes.scatter(*zip(*nodes, strict=True), s=42, color="white", edgecolors="#333333", zorder=3)
    axes.scatter([0, frames], [0, len(text)], s=42, color="#333333", zorder=3)
    axes.annotate("start", (0, 0), (-0.1, -0.42), ha="center")
    axes.annotate("end", (frames, len(text)), (frames, len(text) + 0.2), ha="center")
    axes.plot([], [], color=_BLANK, label="blank: next frame")
    axes.plot([], [], color=_LABEL, label="label: next position")
    _legend_above(axes)
    _grid_axes(axes, frames, len(text))
    _save(figure, "lattice")


def diagonals():
    """The same lattice by anti-diagonals, and skewed so that each is a row."""
    frames, positions = 6, 4
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = [_colour(d / (frames + positions - 2)) for d in range(frames + positions - 1)]
    for t, u in itertools.product(range(frames), range(positions)):
        for axes, place in ((left, (t, u)), (right, (u, t + u))):
            axes.scatter(*place, s=240, color=colours[t + u], zorder=3)
            axes.text(*place, f"{t},{u}", ha="center", va="center", fontsize=7, zorder=4)
    left.set(xlabel="frame t", ylabel="label position u", title="lattice: a diagonal needs only the one before")
    right.set(xlabel="label position u", ylabel="diagonal d = t + u", title="skewed: one row a step")
    right.invert_yaxis()
    for axes in (left, right):
        axes.set_xticks(range(frames if axes is left else positions))
        axes.set_yticks(range(positions if axes is left else frames + positions - 1))
        axes.title.set_fontsize(10)
        axes.margins(0.12)
        _frame(axes)
    _save(figure, "diagonals")


def collapse():
    """A node's V probabilities and its three."""
    rng = np.random.default_rng(5)
    probs = rng.gamma(0.35, size=12)
    probs[0], probs[4] = 0.9, 1.4
    probs /= probs.sum()
    colours = [_BLANK if k == 0 else _LABEL if k == 4 else _REST for k in range(len(probs))]
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    left.bar(range(len(probs)), probs, color=colours)
    left.set_xticks(range(len(probs)), ["blank", *(f"$k_{{{k}}}$" for k in range(1, 4)), "$y_{u+1}$",
                                        *(f"$k_{{{k}}}$" for k in range(5, 12))], fontsize=8)  # fmt: skip
    left.set(ylabel="probability", title="V symbols at node (t, u)")
    three = probs[0], probs[4], probs.sum() - probs[0] - probs[4]
    right.bar(["blank", "label", "rest"], three, color=(_BLANK, _LABEL, _REST))
    right.set(title="three numbers")
    for axes in (left, right):
        _frame(axes)
    _save(figure, "collapse")


def posteriors():
    """Where alignments go, for a model at random initialisation and for a peaked one; and what is left of a band."""
    from tf_rnnt_kd import lattice as tf_lattice

    batches, posterior = {}, {}
    for name, scale in (("random initialisation", 1.0), ("logits x 8", 8.0)):
        batches[name] = _nodes(scale)
        lengths = batches[name][1]
        used = tf_lattice.occupancies(batches[name][0], **lengths)
        posterior[name] = (used.blank + used.label).numpy()[0].T
    figure = Figure(figsize=(8, 2.7), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, values) in zip(panels, posterior.items(), strict=True):
        image = _posterior_image(axes, values)
        axes.set_title(f"{name}: {np.mean(values > 1e-8):.0%} of nodes above 1e-8", fontsize=10)
    panels[0].set_ylabel("label position u")
    figure.colorbar(image, ax=panels, label="posterior")
    _save(figure, "posteriors")

    nodes, lengths = batches["logits x 8"]
    figure = Figure(figsize=(8, 2.7), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, width in zip(panels, (3, 5), strict=True):
        used = tf_lattice.occupancies(nodes, **lengths)
        band = tf_lattice.pruning_band(used, width=width, **lengths)
        _posterior_image(axes, posterior["logits x 8"])
        for t, first in enumerate(band.first.numpy()[0]):
            axes.add_patch(Rectangle((t - 0.5, first - 0.5), 1, width, fill=False, edgecolor=_LABEL, linewidth=0.6))
        kept = tf_lattice.full_sum(tf_lattice.in_band(nodes, band), **lengths) - tf_lattice.full_sum(nodes, **lengths)
        axes.set_title(f"width {width}: {np.exp(kept.numpy()[0]):.1%} of the probability is inside", fontsize=10)
    panels[0].set_ylabel("label position u")
    _save(figure, "band")
    _slices(posterior["logits x 8"] > 1e-8)


def _slices(live):
    """Live nodes of a lattice, gathered to rows of slices of equal size."""
    live = live[:16, :32]
    size = 24
    order = [(t, u) for t in range(live.shape[1]) for u in range(live.shape[0]) if live[u, t]]
    count = -(-len(order) // size)
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    picture = np.ones((*live.shape, 3))
    for i, (t, u) in enumerate(order):
        picture[u, t] = _colour((i // size) / max(count - 1, 1))[:3]
    left.imshow(picture, origin="lower", aspect="auto", interpolation="nearest")
    left.set_xticks(np.arange(-0.5, live.shape[1]), minor=True)
    left.set_yticks(np.arange(-0.5, live.shape[0]), minor=True)
    left.grid(which="minor", color="#e5e5e5", linewidth=0.5)
    left.tick_params(which="minor", length=0)
    left.set(xlabel="frame t", ylabel="label position u", yticks=range(0, len(live), 4))
    left.set_title(f"{len(order)} live of {live.size} nodes", fontsize=10)
    for i in range(count):
        filled = min(size, len(order) - i * size)
        right.barh(i, filled, color=_colour(i / max(count - 1, 1)))
        right.barh(i, size - filled, left=filled, color="white", edgecolor=_GREY, hatch="///", linewidth=0.5)
    right.invert_yaxis()
    right.set(xlabel=f"rows of a slice ({size})", yticks=range(count), ylabel="slice")
    right.set_title("three products a slice", fontsize=10)
    _frame(right)
    _save(figure, "live_rows")


def shift():
    """A teacher's best path, and the nodes of a later student that it is compared with."""
    path = [(0, 0), (1, 0), (2, 0), (2, 1), (3, 1), (4, 1), (4, 2), (4, 3), (5, 3), (6, 3), (7, 3)]
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    nodes = list(itertools.product(range(9), range(4)))
    axes.scatter(*zip(*nodes, strict=True), s=26, color="white", edgecolors=_GREY)
    for t, u in path:
        if t + 2 < 9:
            axes.annotate("", (t + 1.88, u + 0.06), (t + 0.12, u + 0.06), arrowprops={
                "arrowstyle": "->", "color": _GREY, "connectionstyle": "arc3,rad=-0.25"})  # fmt: skip
    axes.scatter(*zip(*path, strict=True), s=60, color=_BLANK, label="teacher (t, u)", zorder=3)
    later = [(t + 2, u) for t, u in path if t + 2 < 9]
    axes.scatter(*zip(*later, strict=True), s=130, color="none", edgecolors=_LABEL, linewidths=1.8,
                 label="student (t + 2, u)", zorder=3)  # fmt: skip
    _legend_above(axes)
    _grid_axes(axes, 9, 3)
    _save(figure, "shift")


def _nodes(scale):
    """Nodes [1, 64, 17] of a joint at random initialisation, its logits multiplied by `scale`, and its lengths."""
    from tf_rnnt_kd import lattice as tf_lattice

    rng = np.random.default_rng(4)
    sizes = (1, 64, 96), (1, 17, 96), (96, 64)
    encoder, predictor, kernel = (rng.normal(size=size).astype(np.float32) for size in sizes)
    # Calmer than N(0, 1), or some position whose blank is likely would hold all alignments for most of the frames.
    predictor *= np.float32(0.2)
    kernel *= np.float32(scale / np.sqrt(80))
    labels = rng.integers(1, 64, size=(1, 16))
    lengths = {"logit_lengths": [64], "label_lengths": [16]}
    bias = np.zeros(64, np.float32)
    return tf_lattice.node_log_probs(encoder, predictor, kernel, bias, labels=labels, **lengths), lengths


def _posterior_image(axes, values):
    image = axes.imshow(np.maximum(values, 1e-12), origin="lower", aspect="auto", norm=LogNorm(1e-8, 1), cmap="Blues")
    axes.set(xlabel="frame t", yticks=range(0, len(values), 4))
    return image


def _arrow(axes, start, end, colour, *, width=1.1, visible=True):
    if visible:
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 5, "shrinkB": 5}
        axes.annotate("", end, start, arrowprops=style, zorder=2)


def _grid_axes(axes, frames, labels):
    axes.set(xlabel="frame t", ylabel="label position u", xlim=(-0.5, frames + 0.4), ylim=(-0.6, labels + 0.5))
    axes.set_xticks(range(frames))
    axes.set_yticks(range(labels + 1))
    _frame(axes)


def _legend_above(axes):
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _frame(axes):
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _colour(share):
    import matplotlib

    return matplotlib.colormaps["YlGnBu"](0.12 + 0.6 * share)


def _save(figure, name):
    # No date and no version, so that the same drawing gives the same file.
    figure.savefig(_HERE / f"{name}.png", dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for draw in (lattice, diagonals, collapse, posteriors, shift):
        draw()
