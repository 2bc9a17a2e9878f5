"""The pseudo-labelling job and its dry run: the Beam pipeline over the shards that are not complete yet."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipelines import dry_run, labelled_dataset
from beam_pipelines.job import Job, LabellingOptions, check_filters, plan_job
from beam_pipelines.transforms import progress
from beam_pipelines.transforms.artifacts import HARD, NBEST
from beam_pipelines.transforms.batch import ReadBatches, Task
from beam_pipelines.transforms.filters import Filters
from beam_pipelines.transforms.merge import WriteLabelled, load_rows
from beam_pipelines.transforms.parts import LabelBatches
from beam_pipelines.transforms.same_text import JudgeSameText, candidates
from beam_pipelines.transforms.teachers import TeachersHandler
from tf_rnnt_kd.records import DatasetInfo

DRY_RUN_FOLDER = "dry_run"


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
    completed with the same settings stay as they are, batches that it labelled are used; where all is there, nothing
    runs.

    Args:
        records: folder of utterance records.
        splits: names of splits in it.
        teacher: SavedModel folder with the signatures teacher, teacher_forced and joint; or several, see `routes`.
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
    job = plan_job(records, splits=splits, teacher=teacher, output=output, options=options, tokenizer=tokenizer)
    finished = labelled_dataset.finished(output, settings=job.settings)
    if finished is not None:
        progress.say(f"{output} is complete, made with the same settings: nothing to do")
        return finished
    labelled_dataset.claim(output, settings=job.settings)
    _complete(job, beam_options=beam_options)
    return labelled_dataset.describe(
        output,
        source=job.source,
        tasks=job.tasks,
        summaries=job.all_summaries(),
        settings=job.settings,
        teaching=job.teaching,
    )


def try_filters(
    records: str,
    *,
    splits: Sequence[str],
    teacher: str,
    output: str,
    options: LabellingOptions,
    tokenizer: str | None = None,
    beam_options: PipelineOptions | None = None,
) -> list[str]:
    """Labels without writing records, and reports in `output`/dry_run what each threshold would keep.

    Args: as of `pseudo_label`. The thresholds of `options` refuse nothing; the report says what they would refuse.

    Returns:
        The report for a terminal.

    Raises:
        ValueError: as `pseudo_label`.
    """
    open_filters = Filters(park_lines=options.filters.park_lines)
    artifacts = tuple(name for name in options.encoding.artifacts if name in (HARD, NBEST))  # those with a score
    job = plan_job(
        records,
        splits=splits,
        teacher=teacher,
        output=f"{output}/{DRY_RUN_FOLDER}",
        options=dataclasses.replace(
            options,
            filters=open_filters,
            encoding=dataclasses.replace(options.encoding, artifacts=artifacts),
        ),
        tokenizer=tokenizer,
        is_dry=True,
    )
    check_filters(options, teaching=job.teaching)
    _complete(job, beam_options=beam_options)
    rows = [row for task in job.tasks for row in load_rows(job.place.output, task=task)]
    rejected = collections.Counter(reject.reason for summary in job.all_summaries() for reject in summary.rejects)
    report: dict[str, Any] = {"filters": options.filters, "rejected": dict(sorted(rejected.items()))}
    title = f"Scores of {', '.join(splits)} by teacher {job.teaching.model_id}"
    if all(row.reason for row in rows):
        raise ValueError(f"no utterance of {sum(task.records for task in job.tasks)} was labelled: {dict(rejected)}")
    dry_run.write(job.place.output, rows=rows, title=title, **report)
    labelled_dataset.remove_leftovers(job.place.output)
    return [*dry_run.lines(rows, **report), "", f"wrote {job.place.output}/report.html and scores.tsv"]


def _complete(job: Job, *, beam_options: PipelineOptions | None) -> None:
    """Labels what is not complete yet."""
    done = [summary is not None for summary in job.summaries()]
    progress.say(f"{done.count(False)} of {len(done)} shards to label")
    if all(done):
        return
    beam_options = beam_options or PipelineOptions([])
    # Unless another is named: DirectRunner would look for a Prism binary on the network.
    runner = None if beam_options.get_all_options()["runner"] else FnApiRunner()
    with progress.shown("pseudo_label"), beam.Pipeline(runner=runner, options=beam_options) as pipeline:
        missing = [task for task, is_done in zip(job.tasks, done, strict=True) if not is_done]
        progress.expect(sum(task.records for task in missing))
        build(pipeline, job, missing=missing)


def build(pipeline: beam.Pipeline, job: Job, *, missing: Sequence[Task]) -> None:
    """Adds to `pipeline` what labels the `missing` tasks of a job and leaves a `Summary` of each."""
    options = job.options
    handler = TeachersHandler(
        job.teaching.routes, batch_size=options.batch_size, targets=options.targets, encoding=options.encoding
    )
    shards = pipeline | "Shards" >> beam.Create(missing)
    read = shards | "Read" >> ReadBatches(
        batch_size=options.batch_size,
        max_seconds=options.max_seconds,
        tokenizer=job.tokenizer,
        domains=job.teaching.domains,
    )
    parts = read["batches"] | "Label" >> LabelBatches(
        handler,
        model_identifier=job.teaching.model_id,
        place=job.place,
        encoding=None if job.is_dry else options.encoding,
        filters=options.filters,
    )
    # What is complete takes part in the choice among utterances that say the same.
    complete = (
        pipeline
        | "Complete" >> beam.Create([task for task in job.tasks if task not in missing])
        | "Rows" >> beam.FlatMap(lambda task, output: candidates(task.key, rows=load_rows(output, task=task)),
                                 job.place.output)
    )  # fmt: skip
    labelled = parts | "Candidates" >> beam.FlatMap(lambda part: candidates(part.key, rows=part.rows))
    merged = {
        "tasks": shards | "Key" >> beam.Map(lambda task: (task.key, task)),
        "parts": parts | "First" >> beam.Map(lambda part: (part.key, part.first)),
        "rejects": read["rejects"],
        "batched": read["batched"],
        "same": (complete, labelled) | beam.Flatten() | "SameText" >> JudgeSameText(options.filters),
    }
    _ = merged | "Write" >> WriteLabelled(job.place, with_records=not job.is_dry)
