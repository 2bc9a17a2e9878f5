"""From source shards to batches of static shape.

An utterance is padded to a length that depends on nothing but its own; a batch has `batch_size` rows, or at the end of
a shard a power of two. Batches are formed within one source shard and in its order. So the teacher sees the same
numbers whatever the runner, the number of workers or the order of bundles, and its results are the same to the last
bit; an accelerator sees a bounded number of static shapes.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf

from beam_pipelines.transforms import progress
from tf_rnnt_kd.records import SAMPLE_RATE, decode_utterance, read_shard
from tf_rnnt_kd.text import Tokenizer, UnknownCharacters

ShardKey = tuple[str, int]
_SHORTEST_BUCKET = SAMPLE_RATE // 2
_BUCKET_GROWTH = 1.2
_BUCKET_MULTIPLE = SAMPLE_RATE * 8 // 100  # whole encoder frames of the usual kind


class Task(NamedTuple):
    """A source shard to label: its place, file, number of records, and the hours of it that may be used (None: all)."""

    split: str
    shard: int
    num_shards: int
    path: str
    records: int
    max_hours: float | None = None

    @property
    def key(self) -> ShardKey:
        return (self.split, self.shard)


class Pending(NamedTuple):
    """An utterance on its way to the teacher: where it stands (split, shard, position), and float32 [S].

    `text` is its own transcript, "" without one; `tokens` are those of the text where they are to be the targets;
    `domain` chooses the teacher, "" where one teacher labels everything.
    """

    split: str
    shard: int
    position: int
    utterance_id: str
    waveform: np.ndarray
    text: str = ""
    tokens: tuple[int, ...] = ()
    domain: str = ""


class Reject(NamedTuple):
    """A record that gets no label, and why."""

    position: int
    utterance_id: str
    reason: str
    error: str


class Batched(NamedTuple):
    """What the teacher computes for one shard, in samples: those of utterances, and all with padding."""

    samples: int
    padded_samples: int


def bucket_samples(num_samples: int) -> int:
    """The padded length of an utterance: the next of 0.5 s, and 1.2 times longer at each step."""
    length = _SHORTEST_BUCKET
    while length < num_samples:
        length = -(-int(length * _BUCKET_GROWTH) // _BUCKET_MULTIPLE) * _BUCKET_MULTIPLE
    return length


def batch_rows(count: int, *, batch_size: int) -> int:
    """Rows that `count` utterances are padded to: the next power of two, or `batch_size` where that is less."""
    return min(1 << (count - 1).bit_length(), batch_size)


def form_batches(utterances: Iterable[Pending], *, batch_size: int) -> Iterator[list[Pending]]:
    """`batch_size` utterances of one bucket and domain at a time, in order.

    What is left of a bucket at the end comes last, short utterances first, in powers of two: no row is padding, and
    the number of shapes stays bounded.
    """
    waiting: dict[tuple[int, str], list[Pending]] = {}
    for utterance in utterances:
        bucket = (bucket_samples(len(utterance.waveform)), utterance.domain)
        batch = waiting.setdefault(bucket, [])
        batch.append(utterance)
        if len(batch) == batch_size:
            yield waiting.pop(bucket)
    for bucket in sorted(waiting):
        rest = waiting[bucket]
        while rest:
            rows = 1 << (len(rest).bit_length() - 1)
            yield rest[:rows]
            rest = rest[rows:]


class ReadBatches(beam.PTransform):
    """PCollection of `Task` -> `batches` (lists of `Pending`), and keyed by shard `rejects` and `batched`.

    Args:
        batch_size: rows of a full batch.
        max_seconds: longer utterances are refused: their batch would not fit into memory.
        tokenizer: folder of the teacher's tokenizer where the targets are the records' own transcripts, else None.
        domains: those that have a teacher, utterances of others are refused; none where one teacher labels everything.
    """

    def __init__(self, *, batch_size: int, max_seconds: float, tokenizer: str | None, domains: Sequence[str] = ()):
        super().__init__()
        self._dofn = _ReadDoFn(batch_size, max_seconds, tokenizer, tuple(domains))

    def expand(self, tasks: beam.PCollection[Task]):
        # Without Reshuffle the runner fuses this with the creation of the few tasks, and one worker does them all.
        outputs = tasks | beam.Reshuffle() | beam.ParDo(self._dofn).with_outputs("rejects", "batched", main="batches")
        return {"batches": outputs.batches, "rejects": outputs.rejects, "batched": outputs.batched}


class _ReadDoFn(beam.DoFn):
    def __init__(self, batch_size, max_seconds, tokenizer, domains):
        self._batch_size, self._max_seconds, self._tokenizer_dir = batch_size, max_seconds, tokenizer
        self._domains = domains
        self._tokenizer = None

    def setup(self):
        if self._tokenizer_dir is not None:
            self._tokenizer = Tokenizer.load(self._tokenizer_dir)

    def process(self, task):
        samples = padded = 0
        rejects: list[Reject] = []
        utterances = self._usable(task, rejects)
        for batch in form_batches(utterances, batch_size=self._batch_size):
            samples += sum(len(utterance.waveform) for utterance in batch)
            padded += bucket_samples(len(batch[0].waveform)) * batch_rows(len(batch), batch_size=self._batch_size)
            yield batch
        progress.advance(len(rejects))
        for reject in rejects:
            yield beam.pvalue.TaggedOutput("rejects", (task.key, reject))
        yield beam.pvalue.TaggedOutput("batched", (task.key, Batched(samples, padded)))

    def _usable(self, task, rejects):
        """The utterances that the teacher can be asked about; the others are appended to `rejects`."""
        seconds_left = float("inf") if task.max_hours is None else task.max_hours * 3600
        read, error = 0, "the shard ends before this record"
        try:
            for position, record in enumerate(read_shard(task.path)):
                read = position + 1
                checked = self._check(record, task, position)
                if isinstance(checked, Pending):
                    seconds_left -= len(checked.waveform) / SAMPLE_RATE
                    if seconds_left < 0:
                        checked = Reject(position, checked.utterance_id, "beyond_max_hours", "enough is labelled")
                if isinstance(checked, Pending):
                    yield checked
                else:
                    rejects.append(checked)
        except tf.errors.OpError as damage:
            error = damage.message  # TFRecord framing has no way to find the next record after damage
        rejects.extend(
            Reject(lost, f"{task.split}-{task.shard:05d}#{lost}", "damaged_shard", error)
            for lost in range(read, task.records)
        )

    def _check(self, record, task, position):
        try:
            utterance = decode_utterance(record)
        except (ValueError, IndexError) as error:  # no Example, or one whose features hold nothing
            return Reject(position, f"{task.split}-{task.shard:05d}#{position}", "corrupt_record", str(error))
        seconds = len(utterance.waveform) / SAMPLE_RATE
        if seconds == 0:
            return Reject(position, utterance.utterance_id, "empty_audio", "no samples")
        if seconds > self._max_seconds:
            problem = f"{seconds:.1f} s, --max_seconds={self._max_seconds:g}"
            return Reject(position, utterance.utterance_id, "too_long", problem)
        domain = utterance.domain if self._domains else ""
        if self._domains and domain not in self._domains:
            problem = f"domain {domain!r}, --teacher has {', '.join(self._domains)}"
            return Reject(position, utterance.utterance_id, "no_teacher_for_domain", problem)
        text = utterance.text or ""
        pending = Pending(
            task.split, task.shard, position, utterance.utterance_id, utterance.waveform, text=text, domain=domain
        )
        if self._tokenizer is None:
            return pending
        if not text:
            return Reject(position, utterance.utterance_id, "no_transcript", "--targets=reference needs one")
        try:
            return pending._replace(tokens=tuple(self._tokenizer.encode(text)))
        except UnknownCharacters as error:
            return Reject(position, utterance.utterance_id, "unknown_characters", str(error))
