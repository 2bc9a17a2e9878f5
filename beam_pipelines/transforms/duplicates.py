"""The same audio twice: one copy stays, and the shards of the others are written again without them.

Only MD5 sums of the PCM16 audio and names go through the shuffle. Which copy stays is the same in every run: that of
the split whose name comes first (so dev and test keep theirs, and train loses it), and there that of the smallest id.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam

from beam_pipelines.transforms.tally import ShardReport, Tally
from beam_pipelines.transforms.utterances import Outcome
from beam_pipelines.transforms.write import NAMESPACE
from tf_rnnt_kd import records

REASON = "duplicate_audio"


class Copy(NamedTuple):
    """One utterance with a certain audio; the fields come in the order by which copies are preferred."""

    split: str
    utterance_id: str
    file: str
    source: str


class DropDuplicates(beam.PTransform):
    """(ShardReports, contents of `WriteShards`) -> ShardReports of shards without duplicates."""

    def __init__(self, output: str):
        super().__init__()
        self._output = output

    def expand(self, inputs):
        reports, contents = inputs
        dropped = (
            contents
            | "SameAudio" >> beam.GroupByKey()
            | "AllButOne" >> beam.FlatMapTuple(lambda _, same: all_but_one(same))
        )
        return (
            {"reports": reports | "ByFile" >> beam.Map(lambda report: (report.shard.file, report)), "dropped": dropped}
            | "OfShard" >> beam.CoGroupByKey()
            | "Rewrite" >> beam.ParDo(_Rewrite(self._output)).with_output_types(ShardReport)
        )


def all_but_one(same: Iterable[tuple[str, str, str, str]]) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """(split, file, id, source) of equal audio -> (file, (id, source, which one stays)) for those that go."""
    stays, *go = sorted(Copy(split, name, file, source) for split, file, name, source in same)
    for copy in go:
        yield copy.file, (copy.utterance_id, copy.source, f"{stays.utterance_id} of split {stays.split}")


class _Rewrite(beam.DoFn):
    def __init__(self, output: str):
        self._output = output

    def process(self, element: tuple[str, dict[str, Any]]) -> Iterator[ShardReport]:
        _, group = element
        (report,) = group["reports"]
        dropped = sorted(group["dropped"])
        if dropped:
            beam.metrics.Metrics.counter(NAMESPACE, f"rejected_{REASON}").inc(len(dropped))
            beam.metrics.Metrics.counter(NAMESPACE, "written").inc(-len(dropped))
            report = rewrite(self._output, report, dropped)
        yield report


def rewrite(output: str, report: ShardReport, dropped: list[tuple[str, str, str]]) -> ShardReport:
    """Writes a shard again without `dropped` (id, source, which one stays); its records are copied.

    Safe to repeat: where the shard has lost them already the same comes out.
    """
    names = {name for name, _, _ in dropped}
    tally = Tally(report.split, labelled=report.labelled, sources=report.sources)

    def kept() -> Iterator[bytes]:
        for record in records.read_shard(f"{output}/{report.shard.file}"):
            features = records.parse_example(record)
            if _text(features, "utterance_id") in names:
                continue
            num_samples = features["num_samples"].int64_list.value[0]
            tally.add(num_samples=num_samples, speaker=_text(features, "speaker"), domain=_text(features, "domain"))
            yield record

    shard = records.write_shard(output, file=report.shard.file, records=kept())
    if shard.records != report.shard.records - len(dropped):
        raise RuntimeError(f"{shard.file}: {shard.records} of {report.shard.records} left, without {len(dropped)}")
    for name, source, stays in dropped:
        tally.refuse(Outcome(name, source, reason=REASON, error=f"the same audio as {stays}"))
    return dataclasses.replace(
        tally.report(shard),
        num_cut=report.num_cut,
        samples_cut=report.samples_cut,
        cuts_in_speech=report.cuts_in_speech,
        rejected=(*report.rejected, *tally.report(shard).rejected),
    )


def _text(features: dict, name: str) -> str:
    return features[name].bytes_list.value[0].decode() if name in features else ""
