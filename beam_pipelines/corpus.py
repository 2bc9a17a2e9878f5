"""The pipeline behind `python -m beam_pipelines.prepare_corpus`."""

import os
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipelines.transforms import progress
from beam_pipelines.transforms.read import ListSources, SplitInput, find_splits, read_word_times
from beam_pipelines.transforms.write import Check, FinishDataset, WriteShards
from tf_rnnt_kd import records
from tf_rnnt_kd.text import PROFILES


def prepare_corpus(
    corpus: str,
    *,
    output: str,
    splits: Sequence[str] = (),
    num_shards: int = 4,
    min_seconds: float = 0.1,
    text_profile: str = "upper",
    beam_options: PipelineOptions | None = None,
) -> tuple[records.DatasetInfo, bool]:
    """Audio files and transcripts -> utterance records.

    Args:
        corpus: a folder in LibriSpeech layout, a folder of JSONL manifests, or one manifest.
        output: folder for the records. A complete dataset of the same settings is left as it is.
        splits: names of the splits to take; all when empty.
        num_shards: files per split.
        min_seconds: shorter utterances are refused.
        text_profile: how transcripts are normalised, see `text.normalise`.
        beam_options: for Apache Beam; its default runner here is the one in this process.

    Returns:
        What the dataset holds, and whether it was made now (False: it was there already).

    Raises:
        ValueError: a wrong argument, no such corpus or split, no usable utterance, or `output` holds another dataset.
    """
    if num_shards < 1 or min_seconds < 0:
        raise ValueError(f"num_shards must be at least 1, min_seconds at least 0: got {num_shards}, {min_seconds}")
    if text_profile not in PROFILES:
        raise ValueError(f"no text profile {text_profile!r}, choose one of: {', '.join(PROFILES)}")
    corpus, output = _absolute(corpus), _absolute(output)
    if corpus == output:
        raise ValueError(f"--output is the corpus itself ({output}): choose another folder for the records")
    inputs = find_splits(corpus, wanted=splits)
    settings = {
        "input": corpus,
        "splits": [split.name for split in inputs],
        "num_shards": num_shards,
        "min_seconds": min_seconds,
        "text_profile": text_profile,
    }
    finished = _finished(output, settings)
    if finished:
        return finished, False
    # Not PipelineOptions(): that would read the command line of whatever program this runs in.
    options = beam_options or PipelineOptions([])
    in_process = options.get_all_options()["runner"] in (None, "FnApiRunner")
    with progress.shown("prepare_corpus"):
        pipeline = beam.Pipeline(runner=FnApiRunner() if in_process else None, options=options)
        build(pipeline, inputs, output=output, settings=settings)
        pipeline.run().wait_until_finish()
    return records.DatasetInfo.load(output), True


def build(pipeline: beam.Pipeline, inputs: list[SplitInput], *, output: str, settings: dict[str, Any]) -> None:
    """Adds the whole job to `pipeline`."""
    splits = pipeline | "Splits" >> beam.Create(inputs).with_output_types(SplitInput)
    sources = splits | "ListSources" >> ListSources()
    word_times = splits | "WordTimes" >> beam.FlatMap(
        lambda split: ((split.name, item) for item in read_word_times(split))
    )
    check = Check(min_seconds=settings["min_seconds"], text_profile=settings["text_profile"])
    reports = (sources, word_times) | "WriteShards" >> WriteShards(
        output, splits=settings["splits"], num_shards=settings["num_shards"], check=check
    )
    # Counted before the shuffle, so that a loss on the way shows.
    num_sources = sources | "CountSources" >> beam.combiners.Count.Globally()
    _ = (reports, num_sources) | "FinishDataset" >> FinishDataset(output, settings=settings)


def _finished(output: str, settings: dict[str, Any]) -> records.DatasetInfo | None:
    try:
        info = records.DatasetInfo.load(output)
    except ValueError:  # none, or one that stopped half-way: it is made (again)
        return None
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
