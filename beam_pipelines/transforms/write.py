"""Sources -> checked utterances in shards.

What goes through the shuffle are `Source`s, some hundred bytes each; audio is read, checked and written by one DoFn per
shard, in the order of the recordings. So a shard's bytes depend on the input alone, whatever the runner does.
"""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.utils.shared import Shared

from beam_pipelines.inputs import Source
from beam_pipelines.inputs.source import Refused
from beam_pipelines.transforms import progress
from beam_pipelines.transforms.tally import ShardReport, Tally
from beam_pipelines.transforms.utterances import Job, Made, Outcome, Rules, make_utterances, refused
from tf_rnnt_kd import records
from tf_rnnt_kd.speech.decoding_pool import DecoderPool
from tf_rnnt_kd.speech.errors import AudioError

NAMESPACE = "prepare_corpus"
CONTENTS = "contents"
# Lies beside a shard until the dataset is complete, so that a run that was killed goes on where it was.
REPORT_SUFFIX = ".report.json"
# A file may last for hours; what takes longer than this never ends.
_TIMEOUT_SECONDS = 300.0
# One pool of decoders for each process, whatever number of threads Beam runs in it.
_POOL = Shared()


def shard_of(key: str, *, num_shards: int) -> int:
    """Which shard a recording lies in: the same in every process, every run."""
    return int(hashlib.md5(key.encode()).hexdigest(), 16) % num_shards


class WriteShards(beam.PTransform):
    """(sources, word times of references) -> for each of `splits` times `num_shards` files a ShardReport.

    Word times are (split, (utterance id, times)). A split with at least one transcript is labelled. The output called
    `CONTENTS` has (MD5 of the audio, (split, shard's file, utterance id, path it was read from)) for each utterance.

    Args:
        decoder_processes: for each worker process, None: one per core of its machine; 0 decodes within it, where a
            crash is its own.
    """

    def __init__(
        self, output: str, *, splits: list[str], num_shards: int, rules: Rules, decoder_processes: int | None = None
    ):
        super().__init__()
        self._output, self._splits, self._num_shards = output, splits, num_shards
        self._rules, self._decoder_processes = rules, decoder_processes

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
        # An utterance with word times is its own recording: its id and its key are the same.
        grouped = {
            "every": sources.pipeline | "EveryShard" >> beam.Create(every),
            "sources": sources
            | "SourceShard" >> beam.Map(lambda item: ((item.split, shard_of(item.key, num_shards=num_shards)), item)),
            "words": word_times
            | "WordsShard" >> beam.Map(lambda item: ((item[0], shard_of(item[1][0], num_shards=num_shards)), item[1])),
        } | "ByShard" >> beam.CoGroupByKey()
        write = _WriteShard(
            self._output, num_shards=num_shards, rules=self._rules, decoder_processes=self._decoder_processes
        )
        write = beam.ParDo(write, labelled=beam.pvalue.AsList(labelled))
        return grouped | "Write" >> write.with_outputs(CONTENTS, main="reports")


class _WriteShard(beam.DoFn):
    def __init__(self, output: str, *, num_shards: int, rules: Rules, decoder_processes: int | None):
        self._output, self._num_shards, self._rules = output, num_shards, rules
        self._decoder_processes = decoder_processes

    def setup(self):
        # Counted here: the machine that starts the job may have more cores, or fewer.
        processes = (os.cpu_count() or 1) if self._decoder_processes is None else self._decoder_processes
        self._pool = _POOL.acquire(
            lambda: DecoderPool(num_processes=processes, timeout_seconds=_TIMEOUT_SECONDS), tag=processes
        )

    def process(self, element: tuple[tuple[str, int], dict[str, Any]], labelled: list[str]) -> Iterator[Any]:
        (split, index), group = element
        file = records.shard_file(split, index=index, num_shards=self._num_shards)
        sources = sorted(group["sources"], key=_place)
        words = dict(group["words"])
        # What the shard is made of: where this is the same, so is the shard.
        made_of = repr([records.SCHEMA_VERSION, split in labelled, self._rules, sources, sorted(words.items())])
        fingerprint = hashlib.md5(made_of.encode()).hexdigest()
        found = _read_report(self._output, file, fingerprint=fingerprint)
        if found is None:
            found = self._write(file, split, sources, words, split in labelled)
            _write_report(self._output, *found, fingerprint=fingerprint)
        else:
            progress.advance(len(sources))
        report, contents = found
        beam.metrics.Metrics.counter(NAMESPACE, "written").inc(report.shard.records)
        for line in report.rejected:
            beam.metrics.Metrics.counter(NAMESPACE, f"rejected_{line['reason']}").inc()
        yield report
        for digest, *where in contents:
            yield beam.pvalue.TaggedOutput(CONTENTS, (bytes.fromhex(digest), (split, file, *where)))

    def _write(
        self, file: str, split: str, sources: list[Source], words: dict, labelled: bool
    ) -> tuple[ShardReport, list[tuple[str, str, str]]]:
        tally = Tally(split, labelled=labelled, sources=len(sources))
        contents: list[tuple[str, str, str]] = []

        def usable() -> Iterator[bytes]:
            taken: set[str] = set()
            for outcome in self._outcomes(sources, words, labelled, tally):
                # Sources have ids of their own, pieces of recordings get theirs when they are cut.
                if not outcome.reason and outcome.utterance_id in taken:
                    error = f"{outcome.utterance_id} is there already in split {split}"
                    outcome = outcome._replace(reason="duplicate_id", error=error)
                if outcome.reason:
                    tally.refuse(outcome)
                    continue
                taken.add(outcome.utterance_id)
                tally.add(num_samples=outcome.num_samples, speaker=outcome.speaker, domain=outcome.domain)
                contents.append((outcome.content.hex(), outcome.utterance_id, outcome.source))
                yield outcome.record

        shard = records.write_shard(self._output, file=file, records=usable())
        return tally.report(shard), contents

    def _outcomes(self, sources: list[Source], words: dict, labelled: bool, tally: Tally) -> Iterator[Outcome]:
        """What became of each source, in their order; a recording is decoded once."""
        groups = [tuple(group) for _, group in itertools.groupby(sources, key=_file)]
        readable = (group for group in groups if _is_readable(group[0]))
        jobs = (Job(group, _words_of(group, words), labelled, self._rules) for group in readable)
        made = self._pool.map(make_utterances, jobs)
        for group in groups:
            if _is_readable(group[0]):
                result = next(made)
                if isinstance(result, AudioError):
                    result = Made([refused(source, result) for source in group])
            else:
                result = Made([refused(source, _known(source)) for source in group])
            tally.num_cut += result.num_cut
            tally.samples_cut += result.samples_cut
            tally.cuts_in_speech += result.cuts_in_speech
            yield from result.outcomes
            progress.advance(len(group))


def _place(source: Source) -> tuple:
    """The order of sources in a shard: of one recording side by side, in time."""
    at = -1 if source.record_at is None else source.record_at
    return source.key, source.audio, at, source.offset or 0.0, source.utterance_id, source.order, repr(source)


def _file(source: Source) -> tuple:
    """What is read at once: sources of one file, and others each by itself."""
    return (source.audio, source.record_at) if _is_readable(source) else (source.utterance_id, repr(source))


def _is_readable(source: Source) -> bool:
    return bool(source.audio and not source.reason)


def _known(source: Source) -> Refused:
    """Why a source that is not readable gives nothing."""
    if source.reason:
        return Refused(source.reason, source.error)
    return Refused("missing_audio", f"{source.origin} has a transcript, there is no audio file beside it")


def _words_of(group: Iterable[Source], words: dict) -> dict:
    return {source.utterance_id: words[source.utterance_id] for source in group if source.utterance_id in words}


def _write_report(output: str, report: ShardReport, contents: list, *, fingerprint: str) -> None:
    content = {"fingerprint": fingerprint, "report": dataclasses.asdict(report), "contents": contents}
    path = f"{output}/{report.shard.file}{REPORT_SUFFIX}"
    records.write_atomically(path, content=json.dumps(content))


def _read_report(output: str, file: str, *, fingerprint: str) -> tuple[ShardReport, list] | None:
    """What an earlier run of the same says of a shard that is still as it left it, else None."""
    path = f"{output}/{file}"
    try:
        with tf.io.gfile.GFile(path + REPORT_SUFFIX) as report:
            content = json.loads(report.read())
        if content["fingerprint"] != fingerprint:
            return None
        report = ShardReport.from_json(content["report"])
        # A shard without its duplicates is smaller: it is made again, since others may be its duplicates now.
        return (report, content["contents"]) if tf.io.gfile.stat(path).length == report.shard.bytes else None
    except (tf.errors.OpError, ValueError, KeyError, TypeError):
        return None
