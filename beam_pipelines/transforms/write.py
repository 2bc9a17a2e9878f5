"""Sources -> checked utterances in shards, and the page that describes them.

What goes through the shuffle are `Source`s, some hundred bytes each; audio is read, checked and written by one DoFn per
shard, in the order of the ids. So a shard's bytes depend on the input alone, whatever the runner does.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf

from beam_pipelines.transforms import progress
from beam_pipelines.transforms.read import Source
from tf_rnnt_kd import records
from tf_rnnt_kd.speech.audio import decode_audio
from tf_rnnt_kd.speech.errors import AudioError
from tf_rnnt_kd.text import normalise

NAMESPACE = "prepare_corpus"
# A manifest's duration is rounded, and lossy codecs pad: below this a file is not called short.
_DURATION_SLACK_SECONDS = 0.1
_DURATION_SLACK_SHARE = 0.01
_WINDOW = 64


@dataclasses.dataclass(frozen=True)
class ShardReport:
    """What became of one shard's sources; `rejected` are lines for the dead-letter file."""

    split: str
    shard: records.Shard
    seconds: float
    labelled: bool
    rejected: tuple[dict[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Check:
    """What an utterance must be: at least `min_seconds` long; its text is normalised by `text_profile`."""

    min_seconds: float
    text_profile: str


class _Refused(Exception):
    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def shard_of(utterance_id: str, *, num_shards: int) -> int:
    """Which shard an utterance lies in: the same in every process, every run."""
    return int(hashlib.md5(utterance_id.encode()).hexdigest(), 16) % num_shards


class WriteShards(beam.PTransform):
    """(sources, word times of references) -> ShardReport for each of `splits` times `num_shards` files.

    Word times are (split, (utterance id, times)). A split with at least one transcript is labelled.
    """

    def __init__(self, output: str, *, splits: list[str], num_shards: int, check: Check):
        super().__init__()
        self._output, self._splits, self._num_shards, self._check = output, splits, num_shards, check

    def expand(self, inputs):
        sources, word_times = inputs
        num_shards = self._num_shards
        labelled = (
            sources
            | "Transcribed" >> beam.Filter(lambda source: bool(source.text and source.text.strip()))
            | "Split" >> beam.Map(lambda source: source.split).with_output_types(str)
            | "LabelledSplits" >> beam.Distinct()
        )
        # Shards without a source are written as well: readers find as many files as dataset.json promises.
        every = [((split, index), index) for split in self._splits for index in range(num_shards)]
        grouped = {
            "every": sources.pipeline | "EveryShard" >> beam.Create(every),
            "sources": sources
            | "SourceShard"
            >> beam.Map(lambda item: ((item.split, shard_of(item.utterance_id, num_shards=num_shards)), item)),
            "words": word_times
            | "WordsShard" >> beam.Map(lambda item: ((item[0], shard_of(item[1][0], num_shards=num_shards)), item[1])),
        } | "ByShard" >> beam.CoGroupByKey()
        write = _WriteShard(self._output, num_shards=num_shards, check=self._check)
        return grouped | "Write" >> beam.ParDo(write, labelled=beam.pvalue.AsList(labelled)).with_output_types(
            ShardReport
        )


class _WriteShard(beam.DoFn):
    def __init__(self, output: str, *, num_shards: int, check: Check):
        self._output, self._num_shards, self._check = output, num_shards, check

    def setup(self):
        # TensorFlow's decoders leave Python alone while they work, so threads use all cores even of one worker.
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1)

    def teardown(self):
        self._pool.shutdown()

    def process(self, element: tuple[tuple[str, int], dict[str, Any]], labelled: list[str]) -> Iterator[ShardReport]:
        (split, index), group = element
        words = dict(group["words"])
        rejected: list[dict[str, str]] = []
        seconds = 0.0

        def usable() -> Iterator[bytes]:
            nonlocal seconds
            for source, outcome in self._outcomes(group["sources"], words, split in labelled):
                progress.advance()
                if isinstance(outcome, _Refused):
                    beam.metrics.Metrics.counter(NAMESPACE, f"rejected_{outcome.reason}").inc()
                    rejected.append(
                        {
                            "id": source.utterance_id,
                            "split": split,
                            "source": source.audio or source.origin,
                            "reason": outcome.reason,
                            "error": str(outcome),
                        }
                    )
                    continue
                beam.metrics.Metrics.counter(NAMESPACE, "written").inc()
                seconds += len(outcome.waveform) / records.SAMPLE_RATE
                yield records.encode_utterance(outcome)

        file = records.shard_file(split, index=index, num_shards=self._num_shards)
        shard = records.write_shard(self._output, file=file, records=usable())
        yield ShardReport(split, shard, seconds, split in labelled, tuple(rejected))

    def _outcomes(
        self, sources: Iterable[Source], words: dict, labelled: bool
    ) -> Iterator[tuple[Source, "records.Utterance | _Refused"]]:
        """Each source with its utterance, or why there is none, in the order of the ids."""
        taken: set[str] = set()
        jobs = []
        # Where an id comes twice, one with audio goes before one without, then the path decides.
        for source in sorted(sources, key=lambda item: (item.utterance_id, not item.audio, item.audio, item.order)):
            duplicate = not source.reason and source.utterance_id in taken
            if not source.reason:
                taken.add(source.utterance_id)
            jobs.append((source, duplicate))

        def outcome(job):
            source, duplicate = job
            try:
                return source, _utterance(source, duplicate, words.get(source.utterance_id, ()), labelled, self._check)
            except AudioError as error:
                return source, _Refused(error.reason, str(error))
            except _Refused as refused:
                return source, refused

        # A window at a time: `map` over all would decode the whole shard ahead of the writer.
        for start in range(0, len(jobs), _WINDOW):
            yield from self._pool.map(outcome, jobs[start : start + _WINDOW])


def _utterance(source: Source, duplicate: bool, words: tuple, labelled: bool, check: Check) -> records.Utterance:
    if source.reason:
        raise _Refused(source.reason, source.error)
    if duplicate:
        raise _Refused("duplicate_id", f"{source.utterance_id} is there already in split {source.split}")
    if not source.audio:
        raise _Refused("missing_audio", f"{source.origin} has a transcript, there is no audio file beside it")
    text = None
    if labelled:
        if source.text is None:
            raise _Refused("missing_transcript", f"no transcript, others in split {source.split} have one")
        text = normalise(source.text, profile=check.text_profile)
        if not text:
            raise _Refused("empty_transcript", f"{source.origin} gives no words")
    waveform = decode_audio(source.audio, target_rate=records.SAMPLE_RATE, min_seconds=check.min_seconds)
    waveform = _segment(waveform, source, check)
    normalised = tuple((normalise(word, profile=check.text_profile), start, end) for word, start, end in words)
    # Times of other words than the transcript's are worse than none.
    if text is None or [word for word, _, _ in normalised] != text.split():
        normalised = ()
    return records.Utterance(source.utterance_id, waveform, text, source.speaker, source.split, normalised)


def _segment(waveform, source: Source, check: Check):
    """The part of the file that the manifest means; all of it where it does not say."""
    if source.duration is None:
        return waveform
    rate = records.SAMPLE_RATE
    start = round((source.offset or 0.0) * rate)
    end = start + round(source.duration * rate)
    slack = max(_DURATION_SLACK_SECONDS, _DURATION_SLACK_SHARE * source.duration) * rate
    if end - len(waveform) > slack:
        raise _Refused(
            "truncated",
            f"the manifest says that it ends at {end / rate:.3f} s, the file ends at {len(waveform) / rate:.3f} s",
        )
    if source.offset is None and len(waveform) - end <= slack:
        return waveform
    segment = waveform[start:end]
    if len(segment) < max(1, check.min_seconds * rate):
        raise _Refused("too_short", f"the segment has {len(segment)} samples")
    return segment


class FinishDataset(beam.PTransform):
    """ShardReports and the number of sources -> `dead_letter.jsonl`, then `dataset.json`; yields the DatasetInfo."""

    def __init__(self, output: str, *, settings: dict[str, Any]):
        super().__init__()
        self._output, self._settings = output, settings

    def expand(self, inputs):
        reports, num_sources = inputs
        return (
            reports.pipeline
            | "Once" >> beam.Create([self._output])
            | "Finish"
            >> beam.Map(
                finish_dataset,
                reports=beam.pvalue.AsList(reports),
                num_sources=beam.pvalue.AsSingleton(num_sources),
                settings=self._settings,
            )
        )


def finish_dataset(
    output: str, *, reports: list[ShardReport], num_sources: int, settings: dict[str, Any]
) -> records.DatasetInfo:
    """Writes what describes the shards, and removes what runs that were killed left beside them.

    Raises:
        RuntimeError: sources were lost or doubled on the way (a runner's fault).
        ValueError: no utterance is usable.
    """
    reports = sorted(reports, key=lambda report: report.shard.file)
    rejected = [line for report in reports for line in report.rejected]
    rejected.sort(key=lambda line: (line["split"], line["id"], line["source"], line["reason"], line["error"]))
    written = sum(report.shard.records for report in reports)
    if num_sources != written + len(rejected):
        raise RuntimeError(f"{num_sources} sources became {written} utterances and {len(rejected)} refusals")
    lines = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in rejected)
    records.write_atomically(f"{output}/{records.DEAD_LETTER_FILE}", content=lines)
    reasons = dict(sorted(collections.Counter(line["reason"] for line in rejected).items()))
    if not written:
        raise ValueError(
            f"none of {num_sources} utterances is usable ({_counted(reasons)}): see {output}/{records.DEAD_LETTER_FILE}"
        )
    splits = {}
    for name, group in itertools.groupby(reports, key=lambda report: report.split):
        group = list(group)
        splits[name] = records.Split(
            shards=tuple(report.shard for report in group),
            utterances=sum(report.shard.records for report in group),
            hours=sum(report.seconds for report in group) / 3600,
            labelled=group[0].labelled,
        )
        _remove_strays(f"{output}/{name}", keep={report.shard.file.rpartition("/")[2] for report in group})
    info = records.DatasetInfo(
        kind=records.UTTERANCES,
        splits=splits,
        counts={"input": num_sources, "written": written, "rejected": len(rejected)},
        rejected=reasons,
        settings=settings,
    )
    info.save(output)
    return info


def _remove_strays(folder: str, *, keep: set[str]) -> None:
    for name in tf.io.gfile.listdir(folder):
        if name not in keep and ".tfrecord" in name:
            tf.io.gfile.remove(f"{folder}/{name}")


def _counted(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())
