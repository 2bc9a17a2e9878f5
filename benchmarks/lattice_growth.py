"""The picture of how the cost of the lattice grows."""

from matplotlib.figure import Figure

_NAMES = {"batch": "utterances B", "frames": "frames T", "positions": "label positions U + 1"}


def plot(growth, path):
    """Writes a PNG.

    Args:
      growth: what lattice_measurements.growth returned.
      path: pathlib.Path.
    """
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    for axes, (key, series) in zip(figure.subplots(1, 3, sharey=True), growth.items(), strict=True):
        sizes, seconds = series["sizes"], series["seconds"]
        axes.loglog(sizes, seconds, "o-", color="#4269d0", label=f"slope {series['slope']:.2f}")
        linear = [seconds[-1] * size / sizes[-1] for size in sizes]
        axes.loglog(sizes, linear, "--", color="#999999", label="slope 1")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel(_NAMES[key])
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=9)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.axes[0].set_ylabel("CPU seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})
