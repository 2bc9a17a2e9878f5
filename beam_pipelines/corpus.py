"""The pipeline behind `python -m beam_pipelines.prepare_corpus`."""

import collections
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipelines.inputs import AUTO, FORMATS, SplitInput, find_splits
from beam_pipelines.inputs.source import sound
from beam_pipelines.transforms import progress
from beam_pipelines.transforms.duplicates import DropDuplicates
from beam_pipelines.transforms.finish import FinishDataset
from beam_pipelines.transforms.read import ListSources, ReadWordTimes
from beam_pipelines.transforms.utterances import ALWAYS, BY_DOMAIN, NEVER, Rules
from beam_pipelines.transforms.utterances import AUTO as AUTO_SEGMENT
from beam_pipelines.transforms.write import CONTENTS, WriteShards
from tf_rnnt_kd import records
from tf_rnnt_kd.text import PROFILES


def prepare_corpus(
    corpus: str | Sequence[str],
    *,
    output: str,
    format: str = AUTO,
    splits: Sequence[str] = (),
    num_shards: int = 4,
    min_seconds: float = 0.1,
    max_seconds: float | None = None,
    text_profile: str | None = None,
    segment: str = AUTO_SEGMENT,
    segment_seconds: tuple[float, float] = (2.0, 30.0),
    level_dbfs: float | None = None,
    keep_duplicates: bool = False,
    decoder_processes: int | None = None,
    beam_options: PipelineOptions | None = None,
) -> tuple[records.DatasetInfo, bool]:
    """Audio files and transcripts -> utterance records.

    Args:
        corpus: a folder, a manifest or a pattern, or several of them; their splits of one name are put together.
        output: folder for the records. A complete dataset of the same settings is left as it is.
        format: of all inputs, a key of `inputs.FORMATS`, or "auto".
        splits: names of the splits to take; all when empty.
        num_shards: files per split.
        min_seconds, max_seconds: other utterances are refused; None: no longest.
        text_profile: how transcripts are normalised, see `text.normalise`; "by_domain": each by its language; None:
            "upper", and those of records as they are.
        segment: which unlabelled audio is cut into utterances in its pauses: what is longer than the longest segment
            ("auto"), all ("always") or none ("never").
        segment_seconds: least and greatest length of what is cut.
        level_dbfs: active speech level that all utterances are brought to; None: as they are.
        keep_duplicates: leave the same audio in more than one place.
        decoder_processes: how many decode, for each worker; None: one per core; 0: the worker itself, where a file that
            crashes the decoder ends the worker.
        beam_options: for Apache Beam; its default runner here is the one in this process.

    Returns:
        What the dataset holds, and whether it was made now (False: it was there already).

    Raises:
        ValueError: a wrong argument, no such corpus or split, no usable utterance, or `output` holds another dataset.
    """
    least, longest = segment_seconds
    rules = Rules(min_seconds, max_seconds, text_profile, segment, (least, longest), level_dbfs)
    _check(rules, num_shards=num_shards)
    output = _absolute(output)
    paths = _paths(corpus)
    if output in paths:
        raise ValueError(f"--output is the corpus itself ({output}): choose another folder for the records")
    inputs = find_splits(paths, format=format, wanted=splits)
    settings = {
        "input": paths,
        "format": sorted({split.format for split in inputs}),
        "splits": sorted({split.name for split in inputs}),
        "num_shards": num_shards,
        "min_seconds": min_seconds,
        "max_seconds": max_seconds,
        "text_profile": text_profile,
        "segment": segment,
        "segment_seconds": list(segment_seconds),
        "level_dbfs": level_dbfs,
        "keep_duplicates": keep_duplicates,
    }
    finished = _finished(output, settings)
    if finished:
        return finished, False
    # Not PipelineOptions(): that would read the command line of whatever program this runs in.
    options = beam_options or PipelineOptions([])
    in_process = options.get_all_options()["runner"] in (None, "FnApiRunner")
    with progress.shown("prepare_corpus"):
        pipeline = beam.Pipeline(runner=FnApiRunner() if in_process else None, options=options)
        build(pipeline, inputs, output=output, rules=rules, settings=settings, decoder_processes=decoder_processes)
        pipeline.run().wait_until_finish()
    return records.DatasetInfo.load(output), True


def build(
    pipeline: beam.Pipeline,
    inputs: list[SplitInput],
    *,
    output: str,
    rules: Rules,
    settings: dict[str, Any],
    decoder_processes: int | None,
) -> None:
    """Adds the whole job to `pipeline`; `settings` go to dataset.json."""
    splits = pipeline | "Splits" >> beam.Create(inputs).with_output_types(SplitInput)
    sources = splits | "ListSources" >> ListSources()
    word_times = splits | "WordTimes" >> ReadWordTimes()
    write = WriteShards(
        output,
        splits=settings["splits"],
        num_shards=settings["num_shards"],
        rules=rules,
        decoder_processes=decoder_processes,
    )
    written = (sources, word_times) | "WriteShards" >> write
    reports = written.reports
    if not settings["keep_duplicates"]:
        reports = (reports, written[CONTENTS]) | "DropDuplicates" >> DropDuplicates(output)
    # Counted before the shuffle, so that a loss on the way shows.
    num_sources = sources | "CountSources" >> beam.combiners.Count.Globally()
    _ = (reports, num_sources) | "FinishDataset" >> FinishDataset(output, settings=settings)


def list_corpus(
    corpus: str | Sequence[str], *, format: str = AUTO, splits: Sequence[str] = (), count: bool = False
) -> Iterator[str]:
    """What `prepare_corpus` would read, a line for each split of each input; nothing is decoded or written.

    Args:
        count: list the sources too, and say how many there are.

    Raises:
        ValueError: no such corpus, format or split.
    """
    for split in find_splits(_paths(corpus), format=format, wanted=splits):
        yield f"{split.name}: {split.format} in {split.path}{_counted(split) if count else ''}"


def _counted(split: SplitInput) -> str:
    form = FORMATS[split.format]
    sources, labelled = 0, 0
    refused: collections.Counter[str] = collections.Counter()
    for source in (sound(item) for part in form.parts(split) for item in form.sources(split, part)):
        sources += 1
        labelled += bool(source.text and source.text.strip())
        refused.update([source.reason] if source.reason else [])
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))
    return f": {sources} sources, {labelled} with a transcript, {refused.total()} refused{reasons and f' ({reasons})'}"


def _paths(corpus: str | Sequence[str]) -> list[str]:
    return [_absolute(path) for path in ([corpus] if isinstance(corpus, str) else corpus)]


def _check(rules: Rules, *, num_shards: int) -> None:
    """Refuses what makes no sense, in the words of the flags."""
    if num_shards < 1 or not 0 <= rules.min_seconds < (rules.max_seconds or math.inf):
        raise ValueError(
            "--num_shards must be at least 1, --min_seconds at least 0 and below --max_seconds: "
            f"got {num_shards}, {rules.min_seconds}, {rules.max_seconds}"
        )
    if rules.text_profile not in (None, *PROFILES, BY_DOMAIN):
        profiles = ", ".join((*PROFILES, BY_DOMAIN))
        raise ValueError(f"no --text_profile={rules.text_profile}, choose one of: {profiles}")
    if rules.segment not in (AUTO_SEGMENT, ALWAYS, NEVER):
        raise ValueError(f"--segment must be {AUTO_SEGMENT}, {ALWAYS} or {NEVER}, got {rules.segment!r}")
    least, longest = rules.segment_seconds
    if not 0 <= least <= longest / 2 or longest < 1:
        raise ValueError(
            "--segment_seconds must be MIN,MAX with MAX at least 1 and twice MIN, as 2,30: "
            f"got {least:g},{longest:g}"
        )
    if rules.level_dbfs is not None and not rules.level_dbfs < 0:
        raise ValueError(f"--level_dbfs must be below 0 (full scale), as -26: got {rules.level_dbfs}")


def _finished(output: str, settings: dict[str, Any]) -> records.DatasetInfo | None:
    if not tf.io.gfile.exists(f"{output}/{records.DATASET_FILE}"):  # none, or one that stopped half-way
        return None
    try:
        info = records.DatasetInfo.load(output)
    except ValueError as error:
        raise ValueError(f"{output} holds another dataset: choose another --output, or delete it ({error})") from error
    if info.kind == records.UTTERANCES and info.settings == settings:
        for split in info.splits:
            info.shard_paths(output, split)
        return info
    changed = [
        f"{name} {info.settings.get(name)!r} instead of {value!r}"
        for name, value in settings.items()
        if info.settings.get(name) != value
    ]
    raise ValueError(
        f"{output} holds another dataset ({'; '.join(changed) or info.kind}): choose another --output, or delete it"
    )


def _absolute(path: str) -> str:
    return path.rstrip("/") if "://" in path else os.path.abspath(path)  # noqa: PTH100 (pathlib would follow no "..")
