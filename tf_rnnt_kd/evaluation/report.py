"""results.json and report.html: what was measured, in one self-contained page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_rnnt_kd.evaluation import confidence, figures, latency
from tf_rnnt_kd.evaluation.occupancy import LatticeView
from tf_rnnt_kd.evaluation.results import Result, compare

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #eee; } th { background: #f6f6f6; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
pre { background: #f6f6f6; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12.5px; }
.note { color: #666; font-size: 13.5px; }
"""

_HISTOGRAMS = {
    "confidence": "confidence (geometric mean of the tokens')",
    "log_prob_per_token": "log P of the tokens, per token",
}


def summarise(
    results: Sequence[Result], *, baseline: str, pseudo_labels: Mapping[str, Mapping[str, Any]], seed: int = 0
) -> dict[str, Any]:
    """The content of results.json.

    Args:
      results: one for each system and split.
      baseline: name of the system that others should improve upon; it is compared within each split.
      pseudo_labels: {name of the dataset: its dataset.json}.
      seed: of the bootstrap.

    Raises:
      ValueError: no result has the baseline's name.
    """
    if baseline not in {result.name for result in results}:
        raise ValueError(f"no result is called {baseline!r}, there are: {', '.join(sorted({r.name for r in results}))}")
    systems = []
    for result in results:
        others = [other for other in results if (other.name, other.split) == (baseline, result.split)]
        if result.name != baseline:
            compare(result, others=others, seed=seed)
        systems.append(
            {
                "name": result.name,
                "split": result.split,
                "utterances": result.utterances,
                "refused": result.refused,
                "words": result.words,
                "wer": result.wer,
                "interval": list(result.interval),
                "substitutions": result.substitutions,
                "insertions": result.insertions,
                "deletions": result.deletions,
                "parameters": result.parameters,
                "real_time_factor": result.real_time_factor,
                "delay": result.delay,
                "latency": result.latency,
                "confidence": result.confidence,
                "calibrated_confidence": result.calibrated_confidence,
                "improvement_over_baseline": result.improvement.get(baseline),
            }
        )
    labels = {
        name: {key: info.get(key) for key in ("splits", "counts", "rejected", "teacher", "artifacts", "statistics")}
        for name, info in pseudo_labels.items()
    }
    for info in labels.values():  # hours and counts matter here, checksums of shards do not
        info["splits"] = {
            name: {key: value for key, value in split.items() if key != "shards"}
            for name, split in (info["splits"] or {}).items()
        }
    method = results[0].real_time_factor_method
    return {"baseline": baseline, "systems": systems, "real_time_factor_method": method, "pseudo_labels": labels}


def write_results(summary: Mapping[str, Any], *, path: str | Path) -> None:
    """Writes results.json."""
    Path(path).write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def render(
    summary: Mapping[str, Any],
    *,
    results: Sequence[Result],
    title: str,
    logs: Mapping[str, Sequence[Mapping[str, float]]],
    views: Sequence[LatticeView] = (),
    view_note: str = "",
    words: Sequence[tuple[str, float, float]] = (),
    commands: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page, complete in itself: pictures are inside, nothing is fetched.

    Args:
      summary: from `summarise`.
      results: the same as there.
      title: of the page.
      logs: {training: lines of its train_log.jsonl}.
      views, view_note, words: the lattice picture, see `figures.lattices`, and what it shows.
      commands: {"title", "part", "command", "seconds"} of each stage; those of the part "evaluation", "training",
        "pseudo_labels" or "report" stand with that part of the page, and all of them at its end.
    """

    def made_by(part: str) -> str:
        return _made_by([stage["command"] for stage in commands if stage.get("part") == part])

    splits = sorted({result.split for result in results}, reverse=True)
    parts = [f"<h1>{html.escape(title)}</h1>", "<h2>Word error rates</h2>"]
    for split in splits:
        of_split = [result for result in results if result.split == split]
        parts += [f"<h3>{html.escape(split)}</h3>", _wer_table(summary, split=split)]
        parts.append(_image(figures.wer_bars(of_split), "Bars of the word error rates"))
    parts.append(_note(
        "Intervals: 95 %, percentile bootstrap over utterances. p: paired probability of fewer errors than "
        f"{summary['baseline']}, ties count one half (Bisani and Ney 2004). "
        f"RTF: {summary['real_time_factor_method']}. Delay: from the end of a word in the audio to its emission, over "
        "correctly recognised words; algorithmic, computation not counted."
    ))  # fmt: skip
    if rows := latency.table_rows(summary["systems"]):
        parts += ["<h2>Latency of streams</h2>", _table(latency.HEADER, rows), _note(
            "Audio gone by between the end of a word and the step of the stream that returns its last token, over "
            "correctly recognised words; and between the beginning of an utterance's first word and its first token, "
            "where that word is right. With the rest of the step and the encoder's look-ahead, without computation."
        )]  # fmt: skip
    if rows := confidence.table_rows(summary["systems"]):
        parts += ["<h2>Confidence of words</h2>", _table(confidence.HEADER, rows)]
        picture = figures.reliability(confidence.curves(summary["systems"]))
        parts += [_image(picture, "Share of right words by confidence"), _note(
            "A word's confidence should be the share of such words that are right. ECE: expected calibration error, "
            "the mean distance of the two over ten bins (Guo et al. 2017). NCE: normalised cross entropy, 1 is "
            "perfect, 0 as good as one confidence for all words. Calibrated: by numbers fitted on other utterances."
        )]  # fmt: skip
    parts.append(made_by("evaluation"))
    if logs:
        parts += ["<h2>Learning curves</h2>", _image(figures.learning_curves(logs), "Loss and dev word error rate")]
        parts.append(made_by("training"))
    if views:
        parts += ["<h2>Lattice occupancy of one utterance</h2>", _note(view_note)]
        parts += [_image(figures.lattices(views, words=words), "Occupancy of the lattices"), made_by("report")]
    for name, info in summary["pseudo_labels"].items():
        parts += [f"<h2>Pseudo-labels: {html.escape(name)}</h2>", _pseudo_labels(info)]
    if summary["pseudo_labels"]:
        parts.append(made_by("pseudo_labels"))
    if commands:
        parts += ["<h2>All commands, in order</h2>", _note("Each can be run alone, from the folder of the project.")]
        parts += [
            f"<h3>{html.escape(str(stage['title']))} <span class=note>{_duration(stage.get('seconds'))}</span></h3>"
            f"<pre>{html.escape(str(stage['command']))}</pre>"
            for stage in commands
        ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _wer_table(summary: Mapping[str, Any], *, split: str) -> str:
    rows = []
    for system in (system for system in summary["systems"] if system["split"] == split):
        low, high = system["interval"]
        delay, speed, better = system["delay"], system["real_time_factor"], system["improvement_over_baseline"]
        rows.append(
            [
                system["name"],
                f"<b>{100 * system['wer']:.2f}</b>",
                f"{100 * low:.2f} – {100 * high:.2f}",
                "" if better is None else f"{better:.3f}",
                *(f"{system[kind]}" for kind in ("substitutions", "insertions", "deletions", "words")),
                f"{system['parameters']:,}",
                "" if speed is None else f"{speed:.4f}",
                "" if delay is None else f"{1000 * delay['mean']:.0f}",
                "" if delay is None else f"{1000 * delay['p90']:.0f}",
            ]
        )
    header = ["system", "WER %", "95 % interval", "p", "sub", "ins", "del", "words", "parameters", "RTF"]
    return _table([*header, "delay, ms", "90 %"], rows)


def _pseudo_labels(info: Mapping[str, Any]) -> str:
    counts = [[f"{name}", f"{count:,}"] for name, count in (info["counts"] or {}).items()]
    counts += [[f"refused: {name}", f"{count:,}"] for name, count in (info["rejected"] or {}).items()]
    counts += [[f"hours of {name}", f"{split['hours']:.2f}"] for name, split in info["splits"].items()]
    if "padding_share" in (info["statistics"] or {}):
        counts.append(["padding in the teacher's batches", f"{100 * info['statistics']['padding_share']:.1f} %"])
    artifacts = [
        [name, f"{content['bytes'] / 1e6:.2f}", f"{content['bytes_per_hour'] / 1e6:.2f}"]
        for name, content in (info["artifacts"] or {}).items()
    ]
    parts = [_table(["utterances", ""], counts), _table(["artifact", "MB", "MB per hour of audio"], artifacts)]
    statistics = info["statistics"] or {}
    distributions = {
        label: (statistics[name]["edges"], statistics[name]["utterances"])
        for name, label in _HISTOGRAMS.items()
        if name in statistics
    }
    if distributions:
        parts.append(_image(figures.histograms(distributions), "Histograms of confidence"))
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells may hold markup of ours; names come from outside and are escaped."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell if i else html.escape(cell)}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _image(address: str, description: str) -> str:
    return f'<p><img src="{address}" alt="{html.escape(description)}"></p>'


def _note(text: str) -> str:
    return f"<p class=note>{html.escape(text)}</p>"


def _made_by(commands: Sequence[str]) -> str:
    if not commands:
        return ""
    lines = html.escape("\n".join(commands))
    return f"<details open><summary class=note>made by</summary><pre>{lines}</pre></details>"


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else f"{int(seconds // 60)} min {int(seconds % 60)} s"
