"""OUTPUT/report.html of prepare_corpus: what a dataset of utterances holds, and what was refused and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines import page
from tf_rnnt_kd.records import DEAD_LETTER_FILE, DatasetInfo

_EXAMPLES = 3


def render(info: DatasetInfo, *, rejected: Sequence[Mapping[str, str]]) -> str:
    """The page, complete in itself.

    Args:
        info: with the statistics that `transforms.finish` makes.
        rejected: lines of the dead-letter file.
    """
    counts, statistics = info.counts, info.statistics
    assert statistics is not None  # only distillation records may be without
    hours = sum(split.hours for split in info.splits.values())
    parts = [
        page.note(
            f"{statistics['sources']:,} sources gave {counts['input']:,} utterances: {counts['written']:,} written "
            f"({hours:,.2f} hours), {counts['rejected']:,} refused."
        ),
        page.heading("Hours"),
        page.bars([(name, split.hours) for name, split in sorted(info.splits.items())], axis="hours"),
        _splits(info, statistics["splits"]),
        page.heading("Lengths"),
        *_lengths(statistics["splits"]),
        *_cut(statistics["splits"]),
        *_domains(statistics["splits"]),
        page.heading("Speakers"),
        *_speakers(statistics["splits"]),
        page.heading("Refused"),
        _refused(info, statistics["splits"]),
        *_examples(rejected),
        page.heading("Settings"),
        page.table(["setting", ""], [[name, _setting(value)] for name, value in info.settings.items()], of_text=True),
    ]
    return page.page("Utterance records", parts)


def _splits(info: DatasetInfo, splits: Mapping[str, Any]) -> str:
    rows = []
    for name, split in sorted(info.splits.items()):
        statistics = splits[name]
        mean = 3600 * split.hours / split.utterances if split.utterances else 0.0
        rows.append(
            [
                name,
                "yes" if split.labelled else "no",
                f"{statistics['sources']:,}",
                f"{split.utterances:,}",
                f"{split.hours:,.3f}",
                f"{mean:.2f}",
                f"{statistics['speakers']['number']:,}",
                f"{sum(statistics['rejected'].values()):,}",
                f"{sum(shard.bytes for shard in split.shards) / 1e6:,.1f}",
            ]
        )
    header = ["split", "transcripts", "sources", "utterances", "hours", "mean, s", "speakers", "refused", "MB"]
    return page.table(header, rows)


def _lengths(splits: Mapping[str, Any]) -> list[str]:
    pictures = []
    for name, statistics in sorted(splits.items()):
        counts, step = (statistics["lengths"][key] for key in ("utterances", "step_seconds"))
        if counts:
            pictures.append(page.histogram(counts, step=step, axis=f"{name}: seconds", unit="utterances"))
    return [*pictures, page.note("The bin from 40 seconds on holds all that are longer.")]


def _cut(splits: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, f"{cut['recordings']:,}", f"{cut['hours']:,.3f}", f"{cut['cuts_in_speech']:,}"]
        for name, cut in ((name, statistics["cut"]) for name, statistics in sorted(splits.items()))
        if cut["recordings"]
    ]
    if not rows:
        return []
    header = ["split", "recordings", "hours of them", "cuts in speech"]
    return [page.heading("Recordings that were cut"), page.table(header, rows)]


def _domains(splits: Mapping[str, Any]) -> list[str]:
    if not any(name for statistics in splits.values() for name in statistics["domains"]):
        return []
    rows = [
        [name, domain or "(none)", f"{counts['utterances']:,}", f"{counts['hours']:,.3f}"]
        for name, statistics in sorted(splits.items())
        for domain, counts in statistics["domains"].items()
    ]
    return [page.heading("Domains"), page.table(["split", "domain", "utterances", "hours"], rows)]


def _speakers(splits: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, most["speaker"], f"{most['utterances']:,}", f"{most['hours']:,.3f}"]
        for name, statistics in sorted(splits.items())
        for most in statistics["speakers"]["most"]
    ]
    if not rows:
        return [page.note("No speaker is known.")]
    return [page.note("Those who speak longest:"), page.table(["split", "speaker", "utterances", "hours"], rows)]


def _refused(info: DatasetInfo, splits: Mapping[str, Any]) -> str:
    names = sorted(info.splits)
    rows = [
        [
            reason,
            *(f"{splits[name]['rejected'].get(reason, 0):,}" for name in names),
            f"{count:,}",
            f"{100 * count / info.counts['input']:.2f} %",
        ]
        for reason, count in sorted(info.rejected.items(), key=lambda item: (-item[1], item[0]))
    ]
    return page.table(["reason", *names, "all", "share"], rows) if rows else page.note("Nothing.")


def _examples(rejected: Sequence[Mapping[str, str]]) -> list[str]:
    """Some of each reason."""
    by_reason: dict[str, list] = {}
    for line in rejected:
        by_reason.setdefault(line["reason"], []).append(line)
    rows = [
        [reason, line["split"], line["id"], line["source"], line["error"]]
        for reason, lines in sorted(by_reason.items())
        for line in lines[:_EXAMPLES]
    ]
    if not rows:
        return []
    table = page.table(["reason", "split", "utterance", "source", "what is wrong"], rows, of_text=True)
    return [page.note(f"The first {_EXAMPLES} of each reason; all are in {DEAD_LETTER_FILE}."), table]


def _setting(value: Any) -> str:
    if value is None:
        return "(not set)"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
