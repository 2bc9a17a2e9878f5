"""The last step of a shard: labels into the source records, in their order, and the summary of what became of each.

One DoFn per shard reads the source shard again, and each part when its first record comes; so it holds a handful of
records in memory, however long the shard is. Every refusal is a `Reject`: records in = records out + rejects.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import apache_beam as beam
import tensorflow as tf

from beam_pipelines.transforms.artifacts import HARD
from beam_pipelines.transforms.batch import Batched, Reject, Task
from beam_pipelines.transforms.parts import Part, PartsPlace
from beam_pipelines.transforms.same_text import Same
from beam_pipelines.transforms.scores import BINS, Row, from_tsv, histogram, to_tsv
from tf_rnnt_kd.records import (
    Shard,
    decode_teacher,
    encode_distillation,
    parse_example,
    read_shard,
    shard_file,
    write_atomically,
    write_shard,
)

SUMMARY_FOLDER, SCORES_FOLDER = "summaries", "scores"
_METRICS = "pseudo_label"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of one shard.

    Attributes:
        split, index: of the shard. settings: fingerprint of the run's.
        shard: what was written; None in a dry run.
        input: records of the source shard. seconds, tokens: of the labels that were kept.
        rejects: the others.
        artifact_bytes: {artifact: bytes in all its records}.
        histograms: {score: utterances kept in each bin of `scores.BINS`}.
        samples, padded_samples: of audio in the teacher's batches, without and with padding.
    """

    split: str
    index: int
    settings: str
    shard: Shard | None
    input: int
    seconds: float
    tokens: int
    rejects: list[Reject]
    artifact_bytes: dict[str, int]
    histograms: dict[str, list[int]]
    samples: int
    padded_samples: int

    def save(self, output: str) -> None:
        path = _path(output, SUMMARY_FOLDER, self.split, self.index)
        write_atomically(path, content=json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, output: str, *, task: Task, settings: str) -> "Summary | None":
        """The summary of a shard that an earlier run completed with the same settings, or None."""
        path = _path(output, SUMMARY_FOLDER, task.split, task.shard)
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            content = json.loads(file.read())
        if content["settings"] != settings:
            return None
        shard = content["shard"] and Shard(**content["shard"])
        rejects = [Reject(*reject) for reject in content["rejects"]]
        summary = cls(**{**content, "shard": shard, "rejects": rejects})
        if shard is None:
            return summary
        path = f"{output}/{shard.file}"
        return summary if tf.io.gfile.exists(path) and tf.io.gfile.stat(path).length == shard.bytes else None


def _path(output, folder, split, index):
    return f"{output}/{folder}/{split}-{index:05d}.{'json' if folder == SUMMARY_FOLDER else 'tsv'}"


def load_rows(output: str, *, task: Task) -> list[Row]:
    """The rows of a shard that has a summary: its utterances in order, those without a score left out."""
    with tf.io.gfile.GFile(_path(output, SCORES_FOLDER, task.split, task.shard), "rb") as file:
        return from_tsv(file.read().decode())


class WriteLabelled(beam.PTransform):
    """Completes shards: {"tasks", "parts", "rejects", "batched", "same"}, keyed by source shard -> their keys.

    Parts are keyed (key, position of the first record). What is grouped has no labels in it and no audio.

    Args:
        place: where parts lie and results go.
        with_records: False leaves the shards out, and writes scores and summaries alone.
    """

    def __init__(self, place: PartsPlace, *, with_records: bool):
        super().__init__()
        self._dofn = _MergeDoFn(place, with_records)

    def expand(self, collections):
        return collections | beam.CoGroupByKey() | beam.ParDo(self._dofn)


class _MergeDoFn(beam.DoFn):
    def __init__(self, place, with_records):
        self._place, self._with_records = place, with_records

    def process(self, element):
        key, grouped = element
        tasks = list(grouped["tasks"])
        if not tasks:  # complete since an earlier run; only verdicts on its texts came here
            return
        (task,) = tasks
        # A bundle that is tried again may find its shard done, and the parts gone.
        if Summary.load(self._place.output, task=task, settings=self._place.settings) is None:
            summary = merge_shard(
                task,
                parts=[self._part(key, first) for first in sorted(grouped["parts"])],
                rejects=grouped["rejects"],
                same=grouped["same"],
                batched=Batched(*(sum(values) for values in zip(*grouped["batched"], strict=True))),
                place=self._place,
                with_records=self._with_records,
            )
            summary.save(self._place.output)
            beam.metrics.Metrics.counter(_METRICS, "written").inc(summary.input - len(summary.rejects))
            for reject in summary.rejects:
                beam.metrics.Metrics.counter(_METRICS, f"rejected_{reject.reason}").inc()
        self._place.remove(key)
        yield key

    def _part(self, key, first):
        part = self._place.find(key, first=first)
        if part is None:  # a worker that was believed dead has just completed the shard: the next attempt will see it
            raise RuntimeError(f"{self._place.file(key, first=first)} is gone")
        return part


def merge_shard(
    task: Task,
    *,
    parts: Sequence[Part],
    rejects: Iterable[Reject],
    same: Iterable[Same],
    batched: Batched,
    place: PartsPlace,
    with_records: bool,
) -> Summary:
    """Writes the labelled records of a source shard in its order, and its rows.

    Args:
        task: the shard.
        parts: in the order of their first records; rejects: what never came to the teacher.
        same: verdicts on texts that come repeatedly. batched: samples with and without padding.
        place, with_records: see `WriteLabelled`.

    Raises:
        ValueError: a record has both or neither of a row and a reject: the counts would not add up.
    """
    verdicts = {one.position: one for one in same}
    rows = sorted((_judged(row, verdicts) for part in parts for row in part.rows), key=lambda row: row.position)
    rejects = sorted([*rejects, *(Reject(r.position, r.utterance_id, r.reason, r.error) for r in rows if r.reason)])
    kept = {row.position: row for row in rows if not row.reason}
    positions = sorted([*kept, *(reject.position for reject in rejects)])
    if positions != list(range(task.records)):
        raise ValueError(
            f"{task.path}: {len(kept)} records labelled and {len(rejects)} refused, {len(set(positions))} different "
            f"ones of {task.records}; please report this"
        )
    artifact_bytes: dict[str, int] = {}
    shard = None
    if with_records:
        records = _merged(task, parts, kept, place, artifact_bytes)
        shard = write_shard(
            place.output, file=shard_file(task.split, index=task.shard, num_shards=task.num_shards), records=records
        )
    write_atomically(_path(place.output, SCORES_FOLDER, task.split, task.shard), content=to_tsv(rows))
    return Summary(
        split=task.split,
        index=task.shard,
        settings=place.settings,
        shard=shard,
        input=task.records,
        seconds=sum(row.seconds for row in kept.values()),
        tokens=sum(row.tokens for row in kept.values()),
        rejects=rejects,
        artifact_bytes=artifact_bytes,
        histograms={
            name: histogram((getattr(row, name) for row in kept.values()), edges=edges) for name, edges in BINS.items()
        },
        samples=batched.samples,
        padded_samples=batched.padded_samples,
    )


def _judged(row: Row, verdicts: Mapping[int, Same]) -> Row:
    if row.reason:
        return row
    verdict = verdicts.get(row.position, Same(row.position, 1))
    return dataclasses.replace(row, same_text=verdict.count, reason=verdict.reason, error=verdict.error)


def _merged(task, parts, kept, place, artifact_bytes) -> Iterator[bytes]:
    """The labelled records in order; counts their bytes by artifact."""
    last = max(kept, default=-1)
    starts = {part.first: part for part in parts}
    waiting: dict[int, tuple[bytes, Iterator]] = {}  # position of an open part's next label -> it, and what follows

    def wait_for_next_of(labels):
        for position, payload in labels:
            waiting[position] = (payload, labels)
            return

    for position, record in enumerate(itertools.islice(read_shard(task.path), last + 1)):  # the rest may be damaged
        if position in starts:
            wait_for_next_of(place.labels(starts[position]))
        if position not in waiting:
            continue
        payload, labels = waiting.pop(position)
        wait_for_next_of(labels)
        if position in kept:
            features = parse_example(payload)
            for name, value in features.items():
                artifact = name.partition("/")[0].replace("teacher", HARD)
                artifact_bytes[artifact] = artifact_bytes.get(artifact, 0) + value.ByteSize()
            teacher = decode_teacher(payload)
            assert teacher is not None  # a part holds nothing else
            yield encode_distillation(record, teacher=teacher, artifacts=features)
