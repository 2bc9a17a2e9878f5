"""The page of a study: question, table, claims, pictures and the commands, in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def render(summary: Mapping[str, Any], *, picture: str, commands: Sequence[str], about: Sequence[str]) -> str:
    """Markdown.

    Args:
      summary: of results.summarise.
      picture: path of the picture as the page names it.
      commands: how to make it again. about: lines on revision, machine and time.
    """
    lines = [
        f"# {summary['title']}",
        "",
        summary["question"],
        "",
        f"{summary['utterances']} utterances and {summary['words']} words of `{summary['split']}`, "
        f"{summary['seeds']} seeds. WER is that of all seeds' errors together, the interval a bootstrap over "
        "utterances, the spread a standard deviation between seeds.",
        "",
        f"![word error rates]({picture})",
        "",
        *table(summary),
        "",
        "## What was claimed",
        "",
        *claims(summary),
        "",
        "## How it was made",
        "",
        *(f"    {command}" for command in commands),
        "",
        *about,
    ]
    return "\n".join(lines) + "\n"


def table(summary: Mapping[str, Any]) -> list[str]:
    """Rows in Markdown, one for each system."""
    lines = [
        "| system | WER % | 95 % interval | spread | dev WER % | parameters | delay s | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for system in summary["systems"]:
        low, high = system["interval"]
        spread = "-" if system["spread"] is None else f"{100 * system['spread']:.2f}"
        delay = "-" if system["delay"] is None else f"{system['delay']:.2f}"
        lines.append(
            f"| {system['name']} | {100 * system['wer']:.2f} | {100 * low:.2f} to {100 * high:.2f} | {spread} | "
            f"{100 * system['dev_wer']:.2f} | {system['parameters']:,} | {delay} | {system['note']} |"
        )
    return lines


def claims(summary: Mapping[str, Any]) -> list[str]:
    """Rows in Markdown, one for each claim."""
    if not summary["claims"]:
        return ["Nothing."]
    lines = ["| claim | relative | p of improvement | seeds | verdict |", "|---|---|---|---|---|"]
    for claim in summary["claims"]:
        relative = "-" if claim["relative"] is None else f"{100 * claim['relative']:+.1f} %"
        won, count = claim["seeds_better"]
        lines.append(
            f"| {claim['text']} ({claim['better']} against {claim['worse']}) | {relative} | "
            f"{claim['probability']:.3f} | {won} of {count} | {claim['verdict']} |"
        )
    return lines


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """A PNG: each system's rate with its interval, and a dot for each seed."""
    systems = summary["systems"]
    figure = Figure(figsize=(7.5, 0.9 + 0.34 * len(systems)), layout="constrained")
    axes = figure.subplots()
    for row, system in enumerate(systems):
        low, high = (100 * x for x in system["interval"])
        axes.plot([low, high], [row, row], color="#4269d0", linewidth=5, alpha=0.35, solid_capstyle="round")
        axes.plot(100 * system["wer"], row, "|", color="#4269d0", markersize=14, markeredgewidth=2.5)
        axes.plot(
            [100 * x for x in system["by_seed"]], [row] * len(system["by_seed"]), "o", color="#333333", markersize=3.5
        )
    axes.set_yticks(range(len(systems)), [system["name"] for system in systems])
    axes.invert_yaxis()
    axes.set_xlabel("word error rate, %: 95 % over utterances, dots are seeds")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
