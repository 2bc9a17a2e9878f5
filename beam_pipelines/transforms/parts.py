"""Labels of each batch as a small file, so that a run that is killed loses the batches in flight and no more.

    OUTPUT/parts/<split>-<shard>/<position of the batch's first record>.zip

Batches depend on nothing but their source shard (see `batch`), so that a rerun forms the same ones and finds what is
there; and labels never travel through a shuffle, whose memory they would fill. The member `rows` of a part holds the
fingerprint of the run's settings and the rows of its utterances; the others are named by the position of a labelled
record, and hold the teacher's half of it. `merge` puts them together, and removes the parts of a shard that is done.
Zip, for a TFRecord file can only be read by starting a tf.data pipeline, which takes longer than the reading.
"""

import contextlib
import dataclasses
import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import apache_beam as beam
import tensorflow as tf
from apache_beam.ml.inference.base import RunInference

from beam_pipelines.transforms import progress
from beam_pipelines.transforms.artifacts import Encoding, encode_labels, refusal
from beam_pipelines.transforms.batch import Pending, ShardKey
from beam_pipelines.transforms.filters import Filters
from beam_pipelines.transforms.labels import Inference
from beam_pipelines.transforms.scores import Row, from_tsv, scored, to_tsv
from beam_pipelines.transforms.teachers import LabelledBatch, TeachersHandler
from tf_rnnt_kd.records import SAMPLE_RATE, TeacherLabels, encode_distillation, write_atomically

PARTS_FOLDER = "parts"
_ROWS = "rows"


class Part(NamedTuple):
    """A batch that is labelled: its shard, the position of its first record, and a row for each utterance."""

    key: ShardKey
    first: int
    rows: list[Row]


class PartsPlace(NamedTuple):
    """Where the parts of a run lie, and the fingerprint of its settings: parts of others do not count."""

    output: str
    settings: str

    def folder(self, key: ShardKey) -> str:
        return f"{PARTS_FOLDER}/{key[0]}-{key[1]:05d}"

    def file(self, key: ShardKey, *, first: int) -> str:
        return f"{self.folder(key)}/{first:08d}.zip"

    def write(self, part: Part, *, payloads: Mapping[int, bytes]) -> None:
        """In one step; `payloads` are by position. The same part always has the same bytes."""
        members = {_ROWS: f"{self.settings}\n{to_tsv(part.rows)}".encode()}
        members |= {str(position): payload for position, payload in payloads.items()}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)  # by name alone, it would get the time of day
        write_atomically(f"{self.output}/{self.file(part.key, first=part.first)}", content=buffer.getvalue())

    def find(self, key: ShardKey, *, first: int) -> Part | None:
        """The part of the batch that starts at `first`, None where there is none of this run's settings."""
        path = f"{self.output}/{self.file(key, first=first)}"
        if not tf.io.gfile.exists(path):
            return None
        with _opened(path) as archive:
            settings, _, rows = archive.read(_ROWS).decode().partition("\n")
        return Part(key, first, from_tsv(rows)) if settings == self.settings else None

    def labels(self, part: Part) -> Iterator[tuple[int, bytes]]:
        """(position, teacher's half of the record) of each label of a part, in order."""
        with _opened(f"{self.output}/{self.file(part.key, first=part.first)}") as archive:
            for name in archive.namelist():
                if name != _ROWS:
                    yield int(name), archive.read(name)

    def remove(self, key: ShardKey) -> None:
        """Removes the parts of a shard."""
        folder = f"{self.output}/{self.folder(key)}"
        if tf.io.gfile.exists(folder):
            tf.io.gfile.rmtree(folder)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    with tf.io.gfile.GFile(path, "rb") as file, zipfile.ZipFile(file) as archive:
        yield archive


class LabelBatches(beam.PTransform):
    """PCollection of batches (lists of `Pending`) -> PCollection of `Part`, labelled now or by an earlier run.

    Args:
        handler: the teachers.
        model_identifier: of them all together.
        place: where parts are looked for and written.
        encoding: what labels become; None where nothing but rows is wanted.
        filters: which labels are refused.
    """

    def __init__(
        self,
        handler: TeachersHandler,
        *,
        model_identifier: str,
        place: PartsPlace,
        encoding: Encoding | None,
        filters: Filters,
    ):
        super().__init__()
        self._handler, self._model_identifier = handler, model_identifier
        self._find = _FindDoFn(place)
        self._write = _WriteDoFn(place, encoding, filters)

    def expand(self, batches: beam.PCollection[list[Pending]]) -> beam.PCollection[Part]:
        found = batches | "Find" >> beam.ParDo(self._find).with_outputs("parts", main="batches")
        # The batches are ours, so that neither timing nor bundles decide who is computed with whom.
        handler = self._handler.with_no_batching()
        labelled = found.batches | "Teacher" >> RunInference(handler, model_identifier=self._model_identifier)
        written = labelled | "Spill" >> beam.ParDo(self._write)
        return (found.parts, written) | beam.Flatten()


class _FindDoFn(beam.DoFn):
    def __init__(self, place):
        self._place = place

    def process(self, batch):
        first = batch[0]
        part = self._place.find((first.split, first.shard), first=first.position)
        if part is None:
            yield batch
        else:
            progress.advance(len(batch))
            yield beam.pvalue.TaggedOutput("parts", part)


class _WriteDoFn(beam.DoFn):
    def __init__(self, place, encoding, filters):
        self._place, self._encoding, self._filters = place, encoding, filters

    def process(self, batch: LabelledBatch):
        rows, payloads = [], {}
        for inference, num_samples, audio in zip(*batch, strict=True):
            row, payload = self._label(inference, num_samples, audio)
            rows.append(row)
            if payload is not None:
                payloads[row.position] = payload
        first = batch.inferences[0].utterance
        part = Part((first.split, first.shard), first.position, rows)
        self._place.write(part, payloads=payloads)
        progress.advance(len(rows))
        yield part

    def _label(self, inference: Inference, num_samples: int, audio: str) -> tuple[Row, bytes | None]:
        """The row of an utterance, and what is stored of its label; None where that is nothing."""
        utterance, labels = inference.utterance, inference.labels
        row = Row(
            position=utterance.position,
            utterance_id=utterance.utterance_id,
            teacher="" if labels is None else labels.model_id,
            seconds=num_samples / SAMPLE_RATE,
            tokens=0 if labels is None else len(labels.tokens),
            audio_md5=audio,
            reference="" if utterance.tokens else utterance.text,  # targets are no hypothesis to compare
        )
        if labels is None:
            return dataclasses.replace(row, reason="inference_failed", error=inference.error), None
        refused = refusal(labels)
        if refused is None:
            row = scored(row, labels, park_lines=self._filters.park_lines)
            refused = self._filters.refusal(row)
        if refused is None and self._encoding is not None:
            try:
                features = encode_labels(labels, self._encoding)
            except ValueError as error:
                refused = ("bad_teacher_output", str(error))
        if refused is not None:
            reason, problem = refused
            return dataclasses.replace(row, reason=reason, error=problem), None
        if self._encoding is None:
            return row, None
        hard = TeacherLabels(**{field: getattr(labels, field) for field in TeacherLabels.__dataclass_fields__})
        return row, encode_distillation(b"", teacher=hard, artifacts=features)
