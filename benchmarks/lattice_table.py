"""The table of the lattice benchmark: every figure beside its bar, in plain text or in Markdown."""

from typing import NamedTuple

from benchmarks.lattice_inputs import SHAPES
from benchmarks.lattice_rows import ROWS
from benchmarks.measure import median

MAX_SLOPE = 1.10
"""Of log cost over log size, at most; 1 is linear. The margin is for the clock."""
MAX_FORWARD_SHARE = 1 / 3
MAX_COMPILE_SECONDS = 3.0

_HEADER = ("bar", "row", "to", "ratio", "memory, first call", "memory, later", "error", "error, float64", "x floor")
_HEADER += ("live nodes", "verdict")


class Line(NamedTuple):
    """Cells of a line, and whether all its bars are kept (None: it has none)."""

    cells: tuple
    good: bool | None


def listing():
    """One line per row: name, what it measures, bars."""
    lines = []
    for name, row in ROWS.items():
        bars = []
        for shape, limits in row.limits.items():
            given = [f"{key} <= {value:g}" for key, value in limits._asdict().items() if value is not None]
            bars.append(f"{shape}: {', '.join(given)}")
        lines.append(f"{row.bar}  {name:17s} {row.what}; ratio to {row.yardstick}. {'; '.join(bars) or 'no bar'}")
    lines.append(f"7  forward           forward only / forward and backward with all nodes <= {MAX_FORWARD_SHARE:.3g}")
    lines.append(f"7  growth            slopes of log cost over log B, T, U+1 <= {MAX_SLOPE:g}")
    lines.append(f"7  compile           CPU seconds to trace and compile a new shape <= {MAX_COMPILE_SECONDS:g}")
    return lines


def table(shape_name, figures, *, about, markdown=False):
    """
    Args:
      shape_name: key of SHAPES.
      figures: what lattice.measure_shape returned.
      about: {'processor', 'tensorflow', 'repetitions', 'mode'}.
      markdown: else columns padded with blanks.

    Returns:
      (lines of text, True unless a bar was missed or a row failed).
    """
    lines = [_row(name, shape_name, found) for name, found in figures["rows"].items()]
    lines += _bar_7(figures["bar_7"], judge=shape_name == "large")
    text = render([_HEADER, *(line.cells for line in lines)], markdown)
    shape = SHAPES[shape_name]
    floor = figures["floor"]
    seconds = floor["seconds"][floor["rows"]]
    head = (
        f"{shape_name} ({shape}), {about['processor']}, one thread, TensorFlow {about['tensorflow']}, mode "
        f"{about['mode']}, median of {about['repetitions']}. Floor {median(seconds):.3g} s of CPU, {floor['rows']} "
        f"rows at a time; memory as a share of the dense logits' {shape.dense_bytes / 1e6:.4g} MB."
    )
    return [head, "", *text, "", *_notes(figures)], all(line.good is not False for line in lines)


def _row(name, shape_name, found):
    row = ROWS[name]
    if "failed" in found:
        return Line((row.bar, row.what, row.yardstick, *[""] * 7, f"FAILED: {found['failed']}"), False)
    limits = row.limits.get(shape_name)
    cells, verdicts = [], []
    for key in ("ratio", "memory_first", "memory", "error"):
        text, good = _judged(found[key], getattr(limits, key) if limits else None)
        cells.append(text)
        verdicts.append(good)
    good = None if set(verdicts) == {None} else False not in verdicts
    cells += [_number(found["error64"]), _number(found["floor_ratio"])]
    cells.append("" if found["live"] is None else f"{found['live']:.1%}")
    return Line((row.bar, row.what, row.yardstick, *cells, _verdict(good)), good)


def _bar_7(found, *, judge):
    lines = []

    def add(what, to, value, limit):
        text, good = _judged(value, limit if judge else None)
        lines.append(Line((7, what, to, text, *[""] * 6, _verdict(good)), good))

    for key, figures in found.items():
        if "failed" in figures:
            lines.append(Line((7, key, "", *[""] * 7, f"FAILED: {figures['failed']}"), False))
        elif key == "forward_share":
            add("forward only", "forward and backward, all nodes", figures["of_all_nodes"], MAX_FORWARD_SHARE)
            add("forward only", "RNN-T, random initialisation", figures["of_rnnt"], None)
            add("forward only", "floor", figures["of_floor"], None)
        elif key == "growth":
            for axis, series in figures.items():
                add(f"growth with {axis} {', '.join(map(str, series['sizes']))}", "slope", series["slope"], MAX_SLOPE)
        else:
            seconds = max(figures["first_call"] - figures["later_call"], 0.0)
            add("trace and compile a new shape", "CPU seconds", seconds, MAX_COMPILE_SECONDS)
    return lines


def _notes(figures):
    lines = []
    for name, found in figures["rows"].items():
        if "cosine" in found:
            lines.append(
                f"{ROWS[name].what}: against the whole lattice, with the band of its own occupancies, an utterance's "
                f"value differs by at most {found['loss']:.2g} of it, the gradient by {found['gradient']:.2g} of its "
                f"norm (cosine {found['cosine']:.4f})."
            )
    spreads = [x for found in figures["rows"].values() for x in (found.get("yardstick_spread"),) if x is not None]
    if spreads:
        lines.append(
            f"Largest minus smallest run of a yardstick, as a share of its median: {median(spreads):.0%} for the "
            f"middle row, {max(spreads):.0%} for the worst. Error: largest difference of a gradient's entries, from "
            "those of the same code without leaving out nodes and from float64, over the largest entry."
        )
    return lines


def _judged(value, limit):
    """('0.71 <= 0.72', True), or ('0.71', None) without a bar."""
    if limit is None:
        return _number(value), None
    good = value is not None and value <= limit
    return f"{_number(value)} {'<=' if good else '>'} {limit:.3g}", good


def _number(value):
    return "" if value is None else f"{value:.3g}"


def _verdict(good):
    return {None: "", True: "PASS", False: "FAIL"}[good]


def render(lines, markdown):
    """Lines of cells, the header first, as a Markdown table or in columns padded with blanks."""
    lines = [[str(cell) for cell in line] for line in lines]
    if markdown:
        ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
        return ["| " + " | ".join(line) + " |" for line in ruled]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
