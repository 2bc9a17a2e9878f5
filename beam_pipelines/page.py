"""Parts of a report page: HTML that is complete in itself, with pictures inside, and the same for the same numbers."""

import base64
import html
import io
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #eee; } th { background: #f6f6f6; }
th:first-child, td:first-child { text-align: left; }
table.text th, table.text td { text-align: left; }
table.text td { font-size: 13px; overflow-wrap: anywhere; }
img { max-width: 100%; }
.note { color: #666; font-size: 13.5px; }
"""
# Fixed ids and no date: the same numbers give the same file.
_DRAWING = {"svg.hashsalt": "tf_rnnt_kd", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
_COLOUR = "#4269d0"


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page of `parts`, which are HTML."""
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def heading(text: str) -> str:
    """The title of a section."""
    return f"<h2>{html.escape(text)}</h2>"


def note(text: str) -> str:
    """A paragraph in small print."""
    return f'<p class="note">{html.escape(text)}</p>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, of_text: bool = False) -> str:
    """Cells are plain text; numbers stand to the right, unless the table is one `of_text`."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table{' class=text' if of_text else ''}><tr>{head}</tr>{body}</table>"


def bars(values: Sequence[tuple[str, float]], *, axis: str) -> str:
    """A picture with one horizontal bar for each (name, value), from top to bottom."""
    with matplotlib.rc_context(_DRAWING):
        figure = Figure(figsize=(7.5, 0.8 + 0.4 * len(values)), layout="constrained")
        axes = figure.subplots()
        rows = range(len(values))[::-1]
        axes.barh(rows, [value for _, value in values], color=_COLOUR, height=0.6)
        largest = max(value for _, value in values)
        for row, (_, value) in zip(rows, values, strict=True):
            axes.text(value + 0.01 * largest, row, f"{value:,.2f}", va="center")
        axes.set_yticks(rows, [name for name, _ in values])
        axes.set(xlabel=axis, xlim=(0, 1.15 * largest or 1.0))
        return _image(figure, axis)


def histogram(counts: Sequence[int], *, step: float, axis: str, unit: str) -> str:
    """A picture of `counts` in bins of `step` that begin at 0."""
    with matplotlib.rc_context(_DRAWING):
        figure = Figure(figsize=(7.5, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.stairs(counts, [step * index for index in range(len(counts) + 1)], fill=True, color=_COLOUR)
        axes.set(xlabel=axis, ylabel=unit, ylim=(0, None), xlim=(0, None))
        return _image(figure, f"{unit} by {axis}")


def _image(figure: Figure, description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    address = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img src="{address}" alt="{html.escape(description)}"></p>'
