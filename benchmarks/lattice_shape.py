"""All figures of the lattice benchmark at one shape, each measured in a child process."""

from benchmarks import measure
from benchmarks.lattice_inputs import SHAPES
from benchmarks.lattice_rows import ROWS

_CHILD = "benchmarks.lattice_measurements:"


def measured(name, *, bars, rows, repetitions, mode, exact, report=lambda line, figures: None):
    """Measures the rows of some bars.

    Args:
      name: key of SHAPES.
      bars: strings '1' to '7'.
      rows: names of the only rows to measure, or empty for all.
      repetitions: how often each call is timed.
      mode: see lattice_rows.problem.
      exact: those whose gradients are compared with float64 NumPy as well.
      report: is given a line, and all figures so far, after each row.

    Returns:
      {'shape', 'floor': {'rows': rows at a time, 'seconds': {rows at a time: [seconds]}}, 'rows': {row: what time_row
      and memory_row of lattice_measurements return, or {'failed': why}}, 'bar_7': {'forward_share', 'growth',
      'compiled': figures}}.
    """
    shape = SHAPES[name]
    slices = measure.in_child(_CHILD + "floor_slices", shape=shape, repetitions=min(repetitions, 3))
    fastest = min(slices, key=lambda key: measure.median(slices[key]))
    floor_rows = None if fastest == "all" else int(fastest)
    result = {"shape": shape, "floor": {"rows": fastest, "seconds": slices}, "rows": {}, "bar_7": {}}
    report(f"{name}: floor {measure.median(slices[fastest]):.3g} s, rows at a time: {fastest}", result)
    settings = {"shape": shape, "mode": mode}
    timing = {"repetitions": repetitions, "floor_rows": floor_rows}

    def attempt(part, key, *calls):
        figures = {}
        try:
            for function, arguments in calls:
                figures |= measure.in_child(_CHILD + function, **settings, **arguments)
        except RuntimeError as error:
            figures = {"failed": str(error)}
        result[part][key] = figures
        report(f"{name}: {key} {_summary(figures)}", result)

    for key in _wanted(bars, rows):
        compared = {"exact": str(ROWS[key].bar) in exact}
        attempt("rows", key, ("time_row", {"name": key, **timing}), ("memory_row", {"name": key, **compared}))
    if "7" in bars and not rows:
        attempt("bar_7", "forward_share", ("forward_share", timing))
        attempt("bar_7", "growth", ("growth", {"repetitions": repetitions}))
        if "rnnt_random" in result["rows"]:
            result["bar_7"]["compiled"] = result["rows"]["rnnt_random"]
        else:
            attempt("bar_7", "compiled", ("time_row", {"name": "rnnt_random", **timing}))
    return result


def _wanted(bars, names):
    return [key for key, row in ROWS.items() if str(row.bar) in bars and (not names or key in names)]


def _summary(figures):
    if "failed" in figures:
        return figures["failed"]
    keys = [key for key in ("ratio", "floor_ratio", "memory_first", "memory", "error", "error64") if figures.get(key)]
    return ", ".join(f"{key} {figures[key]:.3g}" for key in keys) or "done"
