"""The page of a study: question, tables, claims, pictures and how it was made, in Markdown."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from tf_rnnt_kd.studies.curves import FAILS, HOLDS, OPEN
from tf_rnnt_kd.studies.pictures import BARS


def render(
    summary: Mapping[str, Any], *, pictures: Mapping[str, str], commands: Sequence[str], about: Sequence[str]
) -> str:
    """Markdown.

    Args:
      summary: of results.summarise.
      pictures: of pictures.draw_all, which lie beside the page.
      commands: how to make it again. about: paragraphs on revision, machine and time.
    """
    lines = [
        f"# {summary['title']}",
        "",
        summary["question"],
        "",
        *(["**A miniature, of models that have learnt nothing: only the way is real.**", ""] * summary["miniature"]),
        f"{summary['utterances']} utterances and {summary['words']} words of `{summary['split']}`; systems of the "
        f"seeds {', '.join(map(str, summary['seeds']))}. WER is that of all seeds' errors together, the interval a "
        "bootstrap over utterances, the spread a standard deviation between seeds. Weights and systems were chosen on "
        "the dev split; its WER is the mean of the best of each seed, and so a little too good.",
        "",
        f"![word error rates]({BARS})",
        "",
        *table(summary),
        "",
    ]
    for curve in summary["curves"]:
        lines += [f"## {curve['title']}", "", f"![{curve['title']}]({pictures[curve['title']]})", ""]
        lines += [*_points(curve), "", *_slopes(curve)]
    lines += ["## What was claimed", "", *claims(summary), "", "## How it was made", ""]
    lines += [*(f"    {command}" for command in commands)]
    for paragraph in about:
        lines += ["", paragraph]
    return "\n".join(lines) + "\n"


def table(summary: Mapping[str, Any]) -> list[str]:
    """Rows in Markdown, one for each system."""
    systems = summary["systems"]
    places = list(dict.fromkeys(where for system in systems for where in system["elsewhere"]))
    optional = {"delay": "delay s", "first_token": "first token s"}
    shown = {key: title for key, title in optional.items() if any(system[key] is not None for system in systems)}
    header = ["system", "WER %", "95 % interval", "spread", "each seed", *(f"{where} WER %" for where in places)]
    header += ["dev WER %", "parameters", *shown.values(), ""]
    lines = [_row(header), "|" + "---|" * len(header)]
    for system in systems:
        cells = [system["name"], _percent(system["wer"]), _between(system["interval"]), _percent(system["spread"])]
        cells += [" ".join(f"{100 * rate:.1f}" for rate in system["by_seed"])]
        for where in places:
            there = system["elsewhere"].get(where)
            cells.append("-" if there is None else f"{_percent(there['wer'])} ({_between(there['interval'])})")
        cells += [_percent(system["dev_wer"]), f"{system['parameters']:,}"]
        cells += ["-" if system[key] is None else f"{system[key]:.2f}" for key in shown]
        lines.append(_row([*cells, system["note"]]))
    return lines


def claims(summary: Mapping[str, Any]) -> list[str]:
    """How many hold, and rows in Markdown, one for each claim."""
    made = [*summary["claims"], *(pair for curve in summary["curves"] for pair in curve["steeper"])]
    if not made:
        return ["Nothing."]
    counts = collections.Counter(claim["verdict"] for claim in made)
    lines = [
        f"Of {len(made)} claims {counts[HOLDS]} hold (probability of at least 0.95), {counts[FAILS]} do not (at most "
        f"0.05: the opposite holds), {counts[OPEN]} are undecided. The probability is that of a paired bootstrap over "
        f"utterances; it is not corrected for the number of claims, so {0.05 * len(made):.1f} would hold by chance.",
        "",
    ]
    if summary["claims"]:
        lines += [_row(["claim", "on", "relative", "p of improvement", "seeds", "verdict"]), "|" + "---|" * 6]
    for claim in summary["claims"]:
        relative = "-" if claim["relative"] is None else f"{100 * claim['relative']:+.1f} %"
        won, count = claim["seeds_better"]
        text = f"{claim['text']} ({claim['better']} against {claim['worse']})"
        probability = f"{claim['probability']:.3f}"
        lines.append(_row([text, claim["where"], relative, probability, f"{won} of {count}", claim["verdict"]]))
    steeper = [(curve["title"], pair) for curve in summary["curves"] for pair in curve["steeper"]]
    if steeper:
        lines += ["", _row(["claim", "on", "p of a steeper slope", "verdict"]), "|" + "---|" * 4]
    for title, pair in steeper:
        text = f"{pair['first']} rises faster than {pair['second']}"
        lines.append(_row([text, title, f"{pair['probability']:.3f}", pair["verdict"]]))
    return lines


def _points(curve):
    lines = [_row(["line", curve["x_label"], curve["y_label"], "95 % interval", "system"]), "|" + "---|" * 5]
    for line in curve["lines"]:
        for point in line["points"]:
            interval = " to ".join(f"{bound:.2f}" for bound in point["interval"])
            lines.append(_row([line["name"], f"{point['x']:.4g}", f"{point['y']:.2f}", interval, point["system"]]))
    return lines


def _slopes(curve):
    sloped = [line for line in curve["lines"] if line["slope"] is not None]
    if not sloped:
        return []
    lines = [_row(["line", "slope", "95 % interval"]), "|" + "---|" * 3]
    for line in sloped:
        low, high = line["slope_interval"]
        lines.append(_row([line["name"], f"{line['slope']:.2f}", f"{low:.2f} to {high:.2f}"]))
    return [*lines, ""]


def _row(cells):
    return f"| {' | '.join(cells)} |"


def _percent(rate):
    return "-" if rate is None else f"{100 * rate:.2f}"


def _between(interval):
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"
