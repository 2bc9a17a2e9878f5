"""What describes the shards: the dead letters, the statistics, the report page and, last of all, dataset.json."""

import collections
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf

from beam_pipelines import corpus_report
from beam_pipelines.transforms.speakers import CountSpeakers
from beam_pipelines.transforms.tally import LENGTH_STEP_SECONDS, ShardReport
from tf_rnnt_kd import records

REPORT_FILE = "report.html"


class FinishDataset(beam.PTransform):
    """ShardReports and the number of sources -> `dead_letter.jsonl`, `report.html`, `dataset.json`; the DatasetInfo."""

    def __init__(self, output: str, *, settings: dict[str, Any]):
        super().__init__()
        self._output, self._settings = output, settings

    def expand(self, inputs):
        reports, num_sources = inputs
        speakers = reports | "CountSpeakers" >> CountSpeakers()
        # One process holds what follows: speakers, of whom there may be as many as utterances, stay behind.
        small = reports | "WithoutSpeakers" >> beam.Map(lambda report: dataclasses.replace(report, speakers=()))
        return (
            reports.pipeline
            | "Once" >> beam.Create([self._output])
            | "Finish"
            >> beam.Map(
                finish_dataset,
                reports=beam.pvalue.AsList(small),
                num_sources=beam.pvalue.AsSingleton(num_sources),
                speakers=beam.pvalue.AsDict(speakers),
                settings=self._settings,
            )
        )


def finish_dataset(
    output: str,
    *,
    reports: Sequence[ShardReport],
    num_sources: int,
    speakers: Mapping[str, Any],
    settings: dict[str, Any],
) -> records.DatasetInfo:
    """Writes what describes the shards, and removes what runs that were killed left beside them.

    Raises:
        RuntimeError: sources were lost or doubled on the way (a runner's fault).
        ValueError: no utterance is usable.
    """
    reports = sorted(reports, key=lambda report: report.shard.file)
    read = sum(report.sources for report in reports)
    if num_sources != read:
        raise RuntimeError(f"{num_sources} sources were found, {read} were read: the runner lost or doubled some")
    rejected = [line for report in reports for line in report.rejected]
    rejected.sort(key=lambda line: (line["split"], line["id"], line["source"], line["reason"], line["error"]))
    lines = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in rejected)
    records.write_atomically(f"{output}/{records.DEAD_LETTER_FILE}", content=lines)
    written = sum(report.shard.records for report in reports)
    reasons = _counted(line["reason"] for line in rejected)
    if not written:
        counted = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        where = f"see {output}/{records.DEAD_LETTER_FILE}"
        raise ValueError(f"none of {len(rejected)} utterances is usable ({counted}): {where}")
    splits, statistics = {}, {}
    for name, of_split in itertools.groupby(reports, key=lambda report: report.split):
        group = list(of_split)
        splits[name] = records.Split(
            shards=tuple(report.shard for report in group),
            utterances=sum(report.shard.records for report in group),
            hours=_hours(report.samples for report in group),
            labelled=group[0].labelled,
        )
        statistics[name] = _statistics(group, speakers=speakers.get(name, (0, ())))
        _remove_strays(f"{output}/{name}", keep={report.shard.file.rpartition("/")[2] for report in group})
    info = records.DatasetInfo(
        kind=records.UTTERANCES,
        splits=splits,
        counts={"input": written + len(rejected), "written": written, "rejected": len(rejected)},
        rejected=reasons,
        settings=settings,
        statistics={"sources": num_sources, "splits": statistics},
    )
    records.write_atomically(f"{output}/{REPORT_FILE}", content=corpus_report.render(info, rejected=rejected))
    info.save(output)
    return info


def _statistics(reports: Sequence[ShardReport], *, speakers: tuple[int, tuple]) -> dict[str, Any]:
    """What `dataset.json` says about one split beyond its shards."""
    lengths = [sum(counts) for counts in zip(*(report.lengths for report in reports), strict=True)]
    while lengths and not lengths[-1]:
        lengths.pop()
    domains: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for name, utterances, samples in itertools.chain.from_iterable(report.domains for report in reports):
        domains[name][0] += utterances
        domains[name][1] += samples
    number, most = speakers
    return {
        "sources": sum(report.sources for report in reports),
        # The last of all bins, from 40 seconds on, has no end.
        "lengths": {"step_seconds": LENGTH_STEP_SECONDS, "utterances": lengths},
        "domains": {
            name: {"utterances": utterances, "hours": _hours([samples])}
            for name, (utterances, samples) in sorted(domains.items())
        },
        "speakers": {
            "number": number,
            "most": [
                {"speaker": speaker, "utterances": utterances, "hours": _hours([samples])}
                for samples, utterances, speaker in most
            ],
        },
        "cut": {
            "recordings": sum(report.num_cut for report in reports),
            "hours": _hours(report.samples_cut for report in reports),
            "cuts_in_speech": sum(report.cuts_in_speech for report in reports),
        },
        "rejected": _counted(line["reason"] for report in reports for line in report.rejected),
    }


def _hours(samples) -> float:
    return sum(samples) / records.SAMPLE_RATE / 3600


def _counted(reasons) -> dict[str, int]:
    return dict(sorted(collections.Counter(reasons).items()))


def _remove_strays(folder: str, *, keep: set[str]) -> None:
    for name in tf.io.gfile.listdir(folder):
        if name not in keep and ".tfrecord" in name:
            tf.io.gfile.remove(f"{folder}/{name}")
