"""What a record stores of a teacher: filters, encoding, and the merge into the source shards.

Labels travel without their audio: they are grouped by source shard, and one DoFn per shard reads that shard again and
puts them in. Every refusal is a `Reject`, so that records in = records out + rejects, shard by shard.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf

from beam_pipelines.transforms import progress
from beam_pipelines.transforms.batch import Batched, Reject, Task
from beam_pipelines.transforms.infer import Inference, Labels
from tf_rnnt_kd.records import (
    SAMPLE_RATE,
    Shard,
    TeacherLabels,
    bytes_feature,
    codecs,
    encode_distillation,
    int64_feature,
    parse_example,
    read_shard,
    shard_file,
    write_atomically,
    write_shard,
)

HARD, COLLAPSED, FACTORED = "hard", "collapsed", "factored"
ARTIFACTS = (HARD, COLLAPSED, FACTORED)
CONFIDENCE_BINS = np.linspace(0, 1, 21)
LOG_PROB_BINS = np.linspace(-5, 0, 26)  # what lies below is counted in the first bin
_IMPOSSIBLE = -1e20  # the teacher says -1e30 where there is no path
SUMMARY_FOLDER = "summaries"


class Stored(NamedTuple):
    """Labels of the record at `position`, encoded: a serialised Example of artifact features, and the hard part."""

    position: int
    labels: TeacherLabels
    artifacts: bytes


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of one shard. Bytes per artifact; histograms over utterances; seconds of audio in and out."""

    split: str
    index: int
    settings: str
    shard: Shard
    input: int
    seconds: float
    tokens: int
    rejects: list[Reject]
    artifact_bytes: dict[str, int]
    confidence: list[int]
    log_prob_per_token: list[int]
    samples: int
    padded_samples: int

    def save(self, output: str) -> None:
        write_atomically(summary_path(output, self.split, self.index), content=json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, output: str, *, split: str, index: int, settings: str) -> "Summary | None":
        """The summary of a shard that an earlier run completed with the same settings, or None."""
        path = summary_path(output, split, index)
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            content = json.loads(file.read())
        content["shard"] = Shard(**content["shard"])
        content["rejects"] = [Reject(*reject) for reject in content["rejects"]]
        summary, shard = cls(**content), f"{output}/{content['shard'].file}"
        if summary.settings != settings or not tf.io.gfile.exists(shard):
            return None
        return summary if tf.io.gfile.stat(shard).length == summary.shard.bytes else None


def summary_path(output: str, split: str, index: int) -> str:
    return f"{output}/{SUMMARY_FOLDER}/{split}-{index:05d}.json"


def encode_labels(labels: Labels, *, artifacts: Iterable[str], collapsed_bits: int) -> dict[str, tf.train.Feature]:
    """The features of the chosen artifacts, beside the hard one, which every record has.

    Raises:
        ValueError: numbers that cannot be stored: NaN, infinity, a node without mass.
    """
    features = {}
    if COLLAPSED in artifacts:
        blank, label, rest = np.moveaxis(labels.nodes, -1, 0)
        features["collapsed"] = bytes_feature(
            codecs.encode_collapsed(blank, label=label, rest=rest, bits=collapsed_bits)
        )
    if FACTORED in artifacts:
        for name, array in (("encoder", labels.encoder), ("predictor", labels.predictor)):
            features[f"factored/{name}"] = bytes_feature(codecs.encode_bfloat16(array))
            features[f"factored/{name}_shape"] = int64_feature(array.shape)
    return features


def utterance_confidence(labels: TeacherLabels | Labels) -> float:
    """Geometric mean of the tokens' probabilities: what filters and histograms mean by confidence, 0 to 1."""
    return float(np.exp(np.log(np.maximum(np.asarray(labels.token_confidence, np.float64), 1e-30)).mean()))


def refusal(labels: Labels, *, min_confidence: float) -> tuple[str, str] | None:
    """(reason, error) where labels are of no use to a student, else None."""
    num_tokens = len(labels.tokens)
    if num_tokens == 0:
        return "empty_hypothesis", "the teacher heard nothing"
    if num_tokens > labels.num_frames:
        return "tokens_longer_than_frames", f"{num_tokens} tokens on {labels.num_frames} encoder frames"
    if not _IMPOSSIBLE < labels.log_prob < float("inf") or not np.isfinite(labels.token_confidence).all():
        return "non_finite_score", f"log_prob {labels.log_prob}, token confidence {list(labels.token_confidence)[:8]}"
    if utterance_confidence(labels) < min_confidence:
        return "low_confidence", f"confidence {utterance_confidence(labels):.4f}, wanted {min_confidence:g}"
    return None


class EncodeArtifacts(beam.PTransform):
    """PCollection of `Inference` -> `stored` and `rejects`, both keyed by source shard."""

    def __init__(self, *, artifacts: tuple[str, ...], collapsed_bits: int, min_confidence: float):
        super().__init__()
        self._dofn = _EncodeDoFn(artifacts, collapsed_bits, min_confidence)

    def expand(self, inferences: beam.PCollection[Inference]):
        outputs = inferences | beam.ParDo(self._dofn).with_outputs("rejects", main="stored")
        return {"stored": outputs.stored, "rejects": outputs.rejects}


class _EncodeDoFn(beam.DoFn):
    def __init__(self, artifacts, collapsed_bits, min_confidence):
        self._artifacts, self._bits, self._min_confidence = artifacts, collapsed_bits, min_confidence

    def process(self, inference):
        progress.advance()
        utterance, labels = inference.utterance, inference.labels
        if labels is None:
            refused = ("inference_failed", inference.error)
        else:
            refused = refusal(labels, min_confidence=self._min_confidence)
        key = (utterance.split, utterance.shard)
        if refused is None:
            try:
                features = encode_labels(labels, artifacts=self._artifacts, collapsed_bits=self._bits)
                hard = TeacherLabels(**{field: getattr(labels, field) for field in TeacherLabels.__dataclass_fields__})
                example = tf.train.Example(features=tf.train.Features(feature=features))
                yield key, Stored(utterance.position, hard, example.SerializeToString(deterministic=True))
                return
            except ValueError as error:
                refused = ("bad_teacher_output", str(error))
        yield beam.pvalue.TaggedOutput("rejects", (key, Reject(utterance.position, utterance.utterance_id, *refused)))


class WriteLabelled(beam.PTransform):
    """Merges labels into their source shards, writes them, and leaves a `Summary` beside the output for each.

    Input: {"tasks", "stored", "rejects", "batched"}, PCollections keyed by source shard. Output: PCollection of keys.
    """

    def __init__(self, output: str, *, settings: str):
        super().__init__()
        self._output, self._settings = output, settings

    def expand(self, collections):
        # Groups labels, a few kilobytes to a megabyte an utterance, and never audio.
        return collections | beam.CoGroupByKey() | beam.ParDo(_MergeDoFn(self._output, self._settings))


class _MergeDoFn(beam.DoFn):
    def __init__(self, output, settings):
        self._output, self._settings = output, settings

    def process(self, element):
        key, grouped = element
        (task,) = grouped["tasks"]
        batched = list(grouped["batched"])
        merge_shard(
            task,
            stored=grouped["stored"],
            rejects=grouped["rejects"],
            batched=Batched(*(sum(values) for values in zip(*batched, strict=True))),
            output=self._output,
            settings=self._settings,
        ).save(self._output)
        yield key


def merge_shard(
    task: Task, *, stored: Iterable[Stored], rejects: Iterable[Reject], batched: Batched, output: str, settings: str
) -> Summary:
    """Reads the source shard again, writes its labelled records in the same order, and tells what became of it.

    Raises:
        ValueError: a record has both or neither of a label and a reject: the counts would not add up.
    """
    by_position = {one.position: one for one in stored}
    rejects = sorted(rejects)
    refused = {one.position for one in rejects}
    if len(rejects) != len(refused) or refused & by_position.keys():
        raise ValueError(f"{task.path}: records labelled and refused, or refused twice")
    if refused | by_position.keys() != set(range(task.records)):
        raise ValueError(f"{task.path}: {len(by_position)} labelled and {len(refused)} refused of {task.records}")
    counted: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "bytes": {HARD: 0}, "confidence": [], "log_prob": []}

    def merged() -> Iterator[bytes]:
        if not by_position:
            return
        last = max(by_position)
        for position, record in enumerate(read_shard(task.path)):
            if position in by_position:
                one = by_position[position]
                features = parse_example(one.artifacts)
                result = encode_distillation(record, teacher=one.labels, artifacts=features)
                _count(counted, one.labels, parse_example(result), features)
                yield result
            if position == last:
                return  # what follows may be damaged

    shard = write_shard(
        output, file=shard_file(task.split, index=task.index, num_shards=task.num_shards), records=merged()
    )
    return Summary(
        split=task.split,
        index=task.index,
        settings=settings,
        shard=shard,
        input=task.records,
        seconds=counted["seconds"],
        tokens=counted["tokens"],
        rejects=rejects,
        artifact_bytes=counted["bytes"],
        confidence=np.histogram(counted["confidence"], CONFIDENCE_BINS)[0].tolist(),
        log_prob_per_token=np.histogram(np.clip(counted["log_prob"], LOG_PROB_BINS[0], 0), LOG_PROB_BINS)[0].tolist(),
        samples=batched.samples,
        padded_samples=batched.padded_samples,
    )


def _count(counted, labels, result, artifacts):
    counted["seconds"] += result["num_samples"].int64_list.value[0] / SAMPLE_RATE
    counted["tokens"] += len(labels.tokens)
    counted["confidence"].append(utterance_confidence(labels))
    counted["log_prob"].append(labels.log_prob / len(labels.tokens))
    counted["bytes"][HARD] += sum(value.ByteSize() for name, value in result.items() if name.startswith("teacher/"))
    for name, value in artifacts.items():
        artifact = name.partition("/")[0]
        counted["bytes"][artifact] = counted["bytes"].get(artifact, 0) + value.ByteSize()
