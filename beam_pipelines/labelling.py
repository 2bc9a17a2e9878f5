"""The pseudo-labelling job: its settings, which shards there are to label, and the pipeline over them."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipelines import labelled_dataset
from beam_pipelines.transforms import progress
from beam_pipelines.transforms.artifacts import ARTIFACTS, COLLAPSED, EncodeArtifacts, Summary, WriteLabelled
from beam_pipelines.transforms.batch import ReadBatches, Task
from beam_pipelines.transforms.infer import (
    HYPOTHESIS,
    REFERENCE,
    TARGETS,
    LabelWithTeacher,
    TeacherHandler,
    load_metadata,
)
from tf_rnnt_kd.records import UTTERANCES, DatasetInfo
from tf_rnnt_kd.text import Tokenizer

TOKENIZER_FOLDER = "assets.extra/tokenizer"


@dataclasses.dataclass(frozen=True)
class LabellingOptions:
    """How to label.

    Attributes:
        artifacts: of "hard" (always stored), "collapsed", "factored".
        targets: "hypothesis", the teacher's own, or "reference", the records' transcripts.
        batch_size: rows of each batch; a setting like the others, for it may change the last bits of the numbers.
        collapsed_bits: 8 or 16.
        min_confidence: below it labels are refused; the geometric mean of the tokens' probabilities, 0 to 1.
        max_hours: about so much audio is labelled, each shard giving the same share of it; None for all.
        max_seconds: longer utterances are refused.
    """

    artifacts: tuple[str, ...] = ("hard",)
    targets: str = HYPOTHESIS
    batch_size: int = 16
    collapsed_bits: int = 8
    min_confidence: float = 0.0
    max_hours: float | None = None
    max_seconds: float = 40.0

    def __post_init__(self):
        unknown = sorted(set(self.artifacts) - set(ARTIFACTS))
        for wrong, problem in (
            (unknown, f"no artifact {', '.join(unknown)}: choose of {', '.join(ARTIFACTS)}"),
            (self.targets not in TARGETS, f"no targets {self.targets!r}: choose one of {', '.join(TARGETS)}"),
            (self.batch_size < 1, f"batch_size must be 1 or more, got {self.batch_size}"),
            (self.collapsed_bits not in (8, 16), f"collapsed_bits must be 8 or 16, got {self.collapsed_bits}"),
            (not 0 <= self.min_confidence <= 1, f"min_confidence must lie in 0..1, got {self.min_confidence}"),
            (self.max_hours is not None and self.max_hours <= 0, f"max_hours must be above 0, got {self.max_hours}"),
            (self.max_seconds <= 0, f"max_seconds must be above 0, got {self.max_seconds}"),
        ):
            if wrong:
                raise ValueError(problem)


def pseudo_label(
    records: str,
    *,
    splits: Sequence[str],
    teacher: str,
    output: str,
    options: LabellingOptions,
    tokenizer: str | None = None,
    beam_options: PipelineOptions | None = None,
) -> DatasetInfo:
    """Labels splits of the utterance records in `records`; distillation records, and what describes them, to `output`.

    Output shard i of a split holds the labelled records of input shard i, in their order. Shards that an earlier run
    completed with the same settings stay as they are; where all are there, nothing runs.

    Args:
        records: folder of utterance records.
        splits: names of splits in it.
        teacher: SavedModel folder with the signatures teacher, teacher_forced and joint.
        output: folder to write or complete.
        options: how to label.
        tokenizer: folder of the teacher's tokenizer, for reference targets; None where the SavedModel holds it.
        beam_options: for Apache Beam; its default runner here is the one in this process.

    Returns:
        What is in `output`/dataset.json.

    Raises:
        ValueError: settings that do not fit, incomplete records, an `output` that holds something else, or a teacher
            that could label nothing at all.
    """
    source = DatasetInfo.load(records)
    if source.kind != UTTERANCES and options.targets == HYPOTHESIS:
        progress.say(f"{records} holds distillation records: their labels are replaced")
    metadata = load_metadata(teacher)
    tasks = [
        Task(
            split=split,
            index=index,
            num_shards=len(source.splits[split].shards),
            path=path,
            records=shard.records,
            max_hours=options.max_hours and options.max_hours * shard.records / _utterances(source, splits),
        )
        for split in splits
        for index, (path, shard) in enumerate(
            zip(source.shard_paths(records, split), source.split(split).shards, strict=True)
        )
    ]
    tokenizer = _checked_tokenizer(tokenizer, teacher, metadata) if options.targets == REFERENCE else None
    settings = _settings(source, splits, metadata, options)
    finished = labelled_dataset.finished(output, settings=settings)
    if finished is not None:
        progress.say(f"{output} is complete, made with the same settings: nothing to do")
        return finished

    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    missing = [
        task for task in tasks if not Summary.load(output, split=task.split, index=task.index, settings=fingerprint)
    ]
    progress.say(f"{len(missing)} of {len(tasks)} shards to label")
    if missing:
        run_pipeline(
            missing,
            teacher=teacher,
            model_id=metadata["model_id"],
            output=output,
            settings=fingerprint,
            options=options,
            tokenizer=tokenizer,
            beam_options=beam_options,
        )
    summaries = [Summary.load(output, split=task.split, index=task.index, settings=fingerprint) for task in tasks]
    return labelled_dataset.describe(
        output, source=source, tasks=tasks, summaries=summaries, settings=settings, teacher=teacher, metadata=metadata
    )


def run_pipeline(
    tasks: Sequence[Task],
    *,
    teacher: str,
    model_id: str,
    output: str,
    settings: str,
    options: LabellingOptions,
    tokenizer: str | None,
    beam_options: PipelineOptions | None,
) -> None:
    """Labels the shards in `tasks` and leaves a `Summary` of each in `output`."""
    handler = TeacherHandler(
        teacher,
        targets=options.targets,
        batch_size=options.batch_size,
        with_nodes=COLLAPSED in options.artifacts,
    )
    beam_options = beam_options or PipelineOptions([])
    # Unless another is named: DirectRunner would look for a Prism binary on the network.
    runner = None if beam_options.get_all_options()["runner"] else FnApiRunner()
    with progress.shown("pseudo_label"), beam.Pipeline(runner=runner, options=beam_options) as pipeline:
        progress.expect(sum(task.records for task in tasks))
        shards = pipeline | "Shards" >> beam.Create(tasks)
        read = shards | "Read" >> ReadBatches(
            batch_size=options.batch_size, max_seconds=options.max_seconds, tokenizer=tokenizer
        )
        inferences = read["batches"] | "Teacher" >> LabelWithTeacher(handler, model_identifier=model_id)
        encoded = inferences | "Encode" >> EncodeArtifacts(
            artifacts=options.artifacts,
            collapsed_bits=options.collapsed_bits,
            min_confidence=options.min_confidence,
        )
        merged = {
            "tasks": shards | "Key" >> beam.Map(lambda task: (task.key, task)),
            "stored": encoded["stored"],
            "rejects": (read["rejects"], encoded["rejects"]) | "Rejects" >> beam.Flatten(),
            "batched": read["batched"],
        }
        _ = merged | "Write" >> WriteLabelled(output, settings=settings)


def _utterances(source, splits):
    return sum(source.split(split).utterances for split in splits) or 1


def _checked_tokenizer(tokenizer, teacher, metadata):
    """The folder of the teacher's tokenizer: the one given, or the one inside the SavedModel."""
    if tokenizer is None and tf.io.gfile.exists(f"{teacher}/{TOKENIZER_FOLDER}"):
        tokenizer = f"{teacher}/{TOKENIZER_FOLDER}"
    if tokenizer is None:
        raise ValueError("--targets=reference needs --tokenizer, the folder of the teacher's tokenizer")
    found, wanted = Tokenizer.load(tokenizer).hash, metadata["tokenizer"]["hash"]
    if found != wanted:
        raise ValueError(f"{tokenizer} has hash {found}, the teacher was trained with {wanted}: give that one")
    return tokenizer


def _settings(source, splits, metadata, options):
    shards = {split: [shard.sha256 for shard in source.split(split).shards] for split in splits}
    return {
        "source": hashlib.sha256(json.dumps(shards, sort_keys=True).encode()).hexdigest()[:16],
        "splits": list(splits),
        "teacher": metadata["model_id"],
        **dataclasses.asdict(options),
        "artifacts": [name for name in ARTIFACTS if name == "hard" or name in options.artifacts],
    }
