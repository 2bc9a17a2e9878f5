"""Draws the pictures of docs/concepts beside itself:

    python docs/pictures/draw_concepts.py
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

_BLUE, _RED, _GREY = "#4269d0", "#ff725c", "#b8b8b8"
_HERE = Path(__file__).resolve().parent

# The corpus of the picture: utterances of so many seconds, encoder frames, labels, symbols, and the joint's width.
SECONDS, FRAMES, LABELS, SYMBOLS, WIDTH = 10, 250, 30, 1025, 640


def bytes_per_hour() -> dict[str, float]:
    """Of each artifact before compression; in all of them text, tokens and scores are neglected but in `hard`."""
    nodes, banded = FRAMES * (LABELS + 1), FRAMES * 5
    utterance = {
        "dense, float32": 4 * nodes * SYMBOLS,
        "top_k of 8": 8 * (2 + 1) * nodes,
        "factored, bfloat16": 2 * (FRAMES + LABELS + 1) * WIDTH,
        "factored, int8": (FRAMES + LABELS + 1) * WIDTH,
        "collapsed, 16 bit": 2 * 2 * nodes,
        "collapsed, 8 bit": 2 * nodes,
        "collapsed, 8 bit, band of 5": 2 * banded,
        "hard": 20 * LABELS,
    }
    return {name: size * 3600 / SECONDS for name, size in utterance.items()}


def artifacts():
    """Megabytes per hour of audio, on a logarithmic axis."""
    sizes = {name: size / 1e6 for name, size in bytes_per_hour().items()}
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [*sizes][::-1]
    axes.barh(names, [sizes[name] for name in names], color=[_GREY if "dense" in name else _BLUE for name in names])
    for row, name in enumerate(names):
        size = sizes[name]
        axes.text(size * 1.15, row, f"{size:,.0f}" if size >= 10 else f"{size:.1f}", va="center", fontsize=9)
    axes.set(xscale="log", xlabel="megabytes per hour of audio", xlim=(0.1, 1e5))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _save(figure, "artifacts")


def generations():
    """The loop of noisy-student training."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    boxes = {
        "teacher": (0.0, 1.0), "label\nunlabelled audio": (2.2, 1.0), "filter\nby confidence": (4.4, 1.0),
        "train a student\nmasks, noise": (6.6, 1.0), "measure on dev": (6.6, -0.6),
        "better than\nthe teacher?": (3.3, -0.6),
    }  # fmt: skip
    for name, (x, y) in boxes.items():
        is_model = name == "teacher"
        axes.add_patch(
            FancyBboxPatch(
                (x - 0.8, y - 0.32), 1.6, 0.64, boxstyle="round,pad=0.08", facecolor=_BLUE if is_model else "white",
                edgecolor=_BLUE, linewidth=1.4,
            )
        )
        axes.text(x, y, name, ha="center", va="center", fontsize=10, color="white" if is_model else "black")
    row = [0.0, 2.2, 4.4, 6.6]
    for start, end in zip(row, row[1:], strict=False):
        _arrow(axes, (start + 0.9, 1.0), (end - 0.9, 1.0))
    _arrow(axes, (6.6, 0.58), (6.6, -0.18))
    _arrow(axes, (5.7, -0.6), (4.2, -0.6))
    _arrow(axes, (2.4, -0.6), (0.0, 0.58), bend="angle,angleA=180,angleB=90,rad=8", colour=_RED)
    axes.text(1.2, -0.5, "yes: it is the next teacher", ha="center", fontsize=9, color=_RED)
    axes.annotate("no: the rounds end", (3.3, -1.35), ha="center", fontsize=9)
    axes.set(xlim=(-1.1, 7.7), ylim=(-1.5, 1.6))
    axes.axis("off")
    _save(figure, "generations")


def _arrow(axes, start, end, *, bend="arc3", colour="#333333"):
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "connectionstyle": bend}
    axes.annotate("", end, start, arrowprops=style)


def _save(figure, name):
    # No date and no version, so that the same drawing gives the same file.
    figure.savefig(_HERE / f"{name}.png", dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    for draw in (artifacts, generations):
        draw()
