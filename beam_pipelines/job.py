"""A labelling job before it runs: its options, all that can be checked, and the settings that identify it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from beam_pipelines.transforms import progress
from beam_pipelines.transforms.artifacts import ARTIFACTS, FACTORED, HARD, NBEST, Encoding, check_artifacts
from beam_pipelines.transforms.batch import Task
from beam_pipelines.transforms.filters import Filters
from beam_pipelines.transforms.infer import HYPOTHESIS, REFERENCE, TARGETS, load_metadata
from beam_pipelines.transforms.merge import Summary
from beam_pipelines.transforms.parts import PartsPlace
from beam_pipelines.transforms.routes import Teaching, common_joint, load_teaching
from tf_rnnt_kd.records import SCHEMA_VERSION, UTTERANCES, DatasetInfo
from tf_rnnt_kd.text import Tokenizer

TOKENIZER_FOLDER = "assets.extra/tokenizer"


@dataclasses.dataclass(frozen=True)
class LabellingOptions:
    """How to label.

    Attributes:
        encoding: which artifacts records store, and how.
        filters: which labels are refused.
        targets: "hypothesis", the teacher's own, or "reference", the records' transcripts.
        batch_size: rows of each batch; a setting like the others, for it may change the last bits of the numbers.
        max_hours: about so much audio is labelled, each shard giving the same share of it; None for all.
        max_seconds: longer utterances are refused.
    """

    encoding: Encoding = Encoding()
    filters: Filters = Filters()
    targets: str = HYPOTHESIS
    batch_size: int = 16
    max_hours: float | None = None
    max_seconds: float = 40.0

    def __post_init__(self):
        for wrong, problem in (
            (self.targets not in TARGETS, f"no targets {self.targets!r}: choose one of {', '.join(TARGETS)}"),
            (self.batch_size < 1, f"batch_size must be 1 or more, got {self.batch_size}"),
            (self.max_hours is not None and self.max_hours <= 0, f"max_hours must be above 0, got {self.max_hours}"),
            (self.max_seconds <= 0, f"max_seconds must be above 0, got {self.max_seconds}"),
        ):
            if wrong:
                raise ValueError(problem)


@dataclasses.dataclass(frozen=True)
class Job:
    """A checked run: what to label, who labels it, where results go, and the settings that identify them."""

    source: DatasetInfo
    tasks: Sequence[Task]
    teaching: Teaching
    options: LabellingOptions
    tokenizer: str | None
    place: PartsPlace
    settings: Mapping[str, Any]
    is_dry: bool

    def summaries(self) -> list[Summary | None]:
        """Of each task what became of it; None where it is not complete."""
        return [Summary.load(self.place.output, task=task, settings=self.place.settings) for task in self.tasks]

    def all_summaries(self) -> list[Summary]:
        """The same of a job whose tasks are all complete."""
        found = [summary for summary in self.summaries() if summary is not None]
        assert len(found) == len(self.tasks)
        return found


def plan_job(
    records: str,
    *,
    splits: Sequence[str],
    teacher: str,
    output: str,
    options: LabellingOptions,
    tokenizer: str | None,
    is_dry: bool = False,
) -> Job:
    """Checks everything that can be checked before work begins. Arguments and errors are those of `pseudo_label`."""
    source = DatasetInfo.load(records)
    if source.kind != UTTERANCES and options.targets == HYPOTHESIS and not is_dry:
        progress.say(f"{records} holds distillation records: their labels are replaced")
    utterances = sum(source.split(split).utterances for split in splits) or 1
    tasks = [
        Task(
            split=split,
            shard=index,
            num_shards=len(source.splits[split].shards),
            path=path,
            records=shard.records,
            max_hours=options.max_hours and options.max_hours * shard.records / utterances,
        )
        for split in splits
        for index, (path, shard) in enumerate(
            zip(source.shard_paths(records, split), source.split(split).shards, strict=True)
        )
    ]
    teaching = _checked_teaching(teacher, options)
    tokenizer = _checked_tokenizer(tokenizer, teaching) if options.targets == REFERENCE else None
    settings = _settings(source, splits, teaching, options)
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return Job(
        source=source,
        tasks=tasks,
        teaching=teaching,
        options=options,
        tokenizer=tokenizer,
        place=PartsPlace(output, fingerprint),
        settings=settings,
        is_dry=is_dry,
    )


def _checked_teaching(teacher: str, options: LabellingOptions) -> Teaching:
    def load(folder):
        metadata = load_metadata(folder)
        check_artifacts(metadata, encoding=options.encoding)
        return metadata

    teaching = load_teaching(teacher, load=load)
    if FACTORED in options.encoding.artifacts and len(teaching.folders) > 1:
        common_joint(teaching.folders)
    check_filters(options, teaching=teaching)
    return teaching


def check_filters(options: LabellingOptions, *, teaching: Teaching) -> None:
    """Refuses filters on scores that these teachers and artifacts do not give; ValueError says what they need."""
    options.filters.check(
        teachers=teaching.model_ids.values(),
        has_nbest=NBEST in options.encoding.artifacts,
        has_agreement=teaching.has_agreement,
    )


def _checked_tokenizer(tokenizer: str | None, teaching: Teaching) -> str:
    """The folder of the teachers' tokenizer: the one given, or the one inside the SavedModel."""
    inside = f"{teaching.folders[0]}/{TOKENIZER_FOLDER}"
    if tokenizer is None and tf.io.gfile.exists(inside):
        tokenizer = inside
    if tokenizer is None:
        raise ValueError("--targets=reference needs --tokenizer, the folder of the teacher's tokenizer")
    found, wanted = Tokenizer.load(tokenizer).hash, teaching.describe()["tokenizer_hash"]
    if found != wanted:
        raise ValueError(f"{tokenizer} has hash {found}, the teacher was trained with {wanted}: give that one")
    return tokenizer


def _settings(source, splits, teaching, options) -> dict[str, Any]:
    """All that the result depends on, flat, so that differences can be named; equal to what JSON gives back."""
    shards = {split: [shard.crc32c for shard in source.split(split).shards] for split in splits}
    settings = {
        "schema_version": SCHEMA_VERSION,
        "source": hashlib.sha256(json.dumps(shards, sort_keys=True).encode()).hexdigest()[:16],
        "splits": list(splits),
        "teacher": teaching.model_id,
        **dataclasses.asdict(options.encoding),
        **dataclasses.asdict(options.filters),
        **{name: getattr(options, name) for name in ("targets", "batch_size", "max_hours", "max_seconds")},
        "artifacts": [name for name in ARTIFACTS if name == HARD or name in options.encoding.artifacts],
    }
    return json.loads(json.dumps(settings))
