"""What filters would do: for each score a histogram, and what each threshold would keep of utterances, hours and WER.

    OUTPUT/dry_run/scores.tsv    all rows, see `transforms.scores.Row`
    OUTPUT/dry_run/report.html   histograms and tables, complete in itself
"""

import base64
import collections
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from beam_pipelines import page
from beam_pipelines.transforms.filters import RULES, Filters, Rule
from beam_pipelines.transforms.same_text import Candidate, candidates, judge
from beam_pipelines.transforms.scores import BINS, SCORES, Row, histogram, to_tsv
from tf_rnnt_kd.records import write_atomically

# Shares that the thresholds in a table refuse.
_REFUSED = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
_NUM_BINS = 20
_SAME_TEXT = Rule("max_same_text", "same_text", "same_text")
_MEANINGS = {
    "confidence": "geometric mean of the tokens' probabilities",
    "min_word_confidence": "confidence of the least sure word",
    "log_prob": "log P of the hypothesis, nats",
    "log_prob_per_token": "the same per token",
    "park": "log P against what is usual for the length, standard deviations",
    "nbest_margin": "log P of the best over the second hypothesis, nats per token",
    "agreement": "share of words on which the teachers agree",
    "tokens_per_second": "tokens per second of audio",
    "chars_per_second": "characters per second of audio",
    "same_text": "utterances with the same hypothesis",
}


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a threshold keeps: shares of utterances and hours, and the WER of those with a transcript, None without."""

    threshold: float | None
    utterances: float
    hours: float
    wer: float | None


def tables(rows: Sequence[Row]) -> dict[str, list[Kept]]:
    """{name of a filter's flag: what its thresholds keep}, the first without a threshold, of rows with a score.

    Each filter is looked at by itself. Thresholds are quantiles, rounded to three digits.
    """
    found = {}
    for rule in RULES:
        values = [getattr(row, rule.score) for row in rows]
        if values and all(value is not None for value in values):
            found[rule.field] = _table(rows, np.array(values), rule, _quantiles(values, rule))
    ranks = _ranks(rows)
    if len(ranks):
        tried = [most for most in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if most < ranks.max()]
        found[_SAME_TEXT.field] = _table(rows, ranks, _SAME_TEXT, tried)
    return found


def _table(rows, values, rule, thresholds):
    return [
        _kept(rows, np.ones(len(rows), bool), None),
        *(
            _kept(rows, [rule.keeps(value, threshold=threshold) for value in values], threshold)
            for threshold in thresholds
        ),
    ]


def _kept(rows, kept, threshold) -> Kept:
    chosen = [row for row, keep in zip(rows, kept, strict=True) if keep]
    known = [row for row in chosen if row.reference_words is not None]
    words = sum(row.reference_words for row in known)
    return Kept(
        threshold,
        utterances=len(chosen) / len(rows),
        hours=sum(row.seconds for row in chosen) / sum(row.seconds for row in rows),
        wer=sum(row.word_errors for row in known) / words if words else None,
    )


def _quantiles(values, rule) -> list[float]:
    shares = _REFUSED if rule.is_minimum else [1 - share for share in _REFUSED]
    # Of values that occur: between infinite margins and finite ones there is nothing.
    found = np.quantile(values, shares, method="nearest")
    rounded = dict.fromkeys(float(f"{value:.3g}") for value in found if np.isfinite(value))
    return sorted(rounded, reverse=not rule.is_minimum)


def _ranks(rows: Sequence[Row]) -> np.ndarray:
    """The place of each utterance among those with its text, from 1: --max_same_text=N keeps N places."""
    ranks = np.ones(len(rows), np.int64)
    for group in _same_text_groups(rows):
        for place, one in enumerate(sorted(group)):
            ranks[one.position] = place + 1
    return ranks


def _same_text_groups(rows: Sequence[Row]) -> Iterable[list[Candidate]]:
    """Candidates of each text; their positions are those in `rows`."""
    groups = collections.defaultdict(list)
    for index, row in enumerate(rows):
        for digest, candidate in candidates(("", 0), rows=[dataclasses.replace(row, position=index)]):
            groups[digest].append(candidate)
    return groups.values()


def lines(rows: Sequence[Row], *, filters: Filters, rejected: Mapping[str, int]) -> list[str]:
    """The report for a terminal."""
    scored = [row for row in rows if not row.reason]
    out = _summary(scored, filters=filters, rejected=rejected)
    table = tables(scored)
    for name in SCORES:
        counts, edges = _histogram(scored, name)
        if sum(counts):
            out += ["", f"{name}: {_MEANINGS[name]}", *_bars(counts, edges)]
            for rule in (*RULES, _SAME_TEXT):
                if rule.score == name and rule.field in table:
                    out += ["", *_text_table(rule.field, table[rule.field])]
    return out


def _summary(scored: Sequence[Row], *, filters: Filters, rejected: Mapping[str, int]) -> list[str]:
    hours = sum(row.seconds for row in scored) / 3600
    refused = ", ".join(f"{count} {reason}" for reason, count in rejected.items()) or "none"
    out = [f"{len(scored)} utterances with labels, {hours:.3f} hours; without: {refused}"]
    if filters != Filters(park_lines=filters.park_lines):
        judged = _refused(scored, filters=filters)
        reasons = collections.Counter(row.reason for row in judged if row.reason)
        kept = sum(row.seconds for row in judged if not row.reason) / 3600
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none"
        count = len(judged) - sum(reasons.values())
        out.append(f"the thresholds given keep {count} utterances, {kept:.3f} hours; refused: {refused}")
    return out


def _refused(scored: Sequence[Row], *, filters: Filters) -> list[Row]:
    """Rows with the reason of the first filter that refuses them."""
    judged = [dataclasses.replace(row, reason=(filters.refusal(row) or ("",))[0]) for row in scored]
    for group in _same_text_groups(judged):
        for _, verdict in judge(group, filters=filters):
            judged[verdict.position] = dataclasses.replace(judged[verdict.position], reason=verdict.reason)
    return judged


def _histogram(rows: Sequence[Row], name: str) -> tuple[list[int], np.ndarray]:
    """Counts [N] and round edges [N+1]; the outermost bins also hold the hundredth that lies beyond them."""
    values = np.array([getattr(row, name) for row in rows if getattr(row, name) is not None], np.float64)
    finite = values[np.isfinite(values)]
    if name == "same_text" or not len(finite):
        return histogram(values, edges=BINS[name]), BINS[name]
    edges = np.asarray(MaxNLocator(_NUM_BINS).tick_values(*np.quantile(finite, (0.01, 0.99))))
    return histogram(values, edges=edges), edges


def _bars(counts: Sequence[int], edges: np.ndarray) -> list[str]:
    filled = np.flatnonzero(counts)
    return [
        f"{edges[i]:>9.4g} .. {edges[i + 1]:<9.4g}{'#' * round(50 * counts[i] / max(counts))} {counts[i]}"
        for i in range(filled[0], filled[-1] + 1)
    ]


def _cells(one: Kept) -> list[str]:
    return [
        "none" if one.threshold is None else f"{one.threshold:g}",
        f"{one.utterances:.1%}",
        f"{one.hours:.1%}",
        "-" if one.wer is None else f"{one.wer:.2%}",
    ]


def _header(field: str) -> list[str]:
    return [f"--{field}", "utterances", "hours", "WER of these"]


def _text_table(field: str, table: Iterable[Kept]) -> list[str]:
    lines = [_header(field), *(_cells(one) for one in table)]
    return [f"{first:>24}" + "".join(f"{cell:>14}" for cell in others) for first, *others in lines]


def write(output: str, *, rows: Sequence[Row], filters: Filters, rejected: Mapping[str, int], title: str) -> None:
    """Writes `output`/scores.tsv and `output`/report.html."""
    write_atomically(f"{output}/scores.tsv", content=to_tsv(rows))
    scored = [row for row in rows if not row.reason]
    found = tables(scored)
    parts = [page.note(line) for line in _summary(scored, filters=filters, rejected=rejected)]
    for name in SCORES:
        counts, edges = _histogram(scored, name)
        if sum(counts):
            parts += [page.heading(name), page.note(_MEANINGS[name]), _picture(name, counts, edges)]
            for rule in (*RULES, _SAME_TEXT):
                if rule.score == name and rule.field in found:
                    parts.append(page.table(_header(rule.field), [_cells(one) for one in found[rule.field]]))
    write_atomically(f"{output}/report.html", content=page.page(title, parts))


def _picture(name: str, counts: Sequence[int], edges: np.ndarray) -> str:
    """The histogram as an <img>; the same numbers give the same picture."""
    style = {"svg.hashsalt": "tf_rnnt_kd", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(6.5, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.stairs(counts, edges, fill=True, color="#4269d0")
        axes.set(xlabel=name, ylabel="utterances", ylim=(0, None))
        if name == "same_text":
            axes.set_xscale("log")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    address = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img src="{address}" alt="histogram of {name}"></p>'
