"""What lies beside labelled shards: dataset.json with counts and statistics, the dead letters, the joint's weights.

    OUTPUT/settings.json          what the folder was begun with, so that runs with other settings keep out
    OUTPUT/summaries, scores      of each shard, see `transforms.merge`
    OUTPUT/joint.npz              with the factored artifact: kernel [H, V] and bias [V], float32, and
                                  lattice.joint_settings, each as an array without dimensions
"""

import collections
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from beam_pipelines.transforms import progress
from beam_pipelines.transforms.artifacts import FACTORED
from beam_pipelines.transforms.batch import Task
from beam_pipelines.transforms.merge import SUMMARY_FOLDER, Summary
from beam_pipelines.transforms.parts import PARTS_FOLDER
from beam_pipelines.transforms.routes import Teaching, common_joint
from beam_pipelines.transforms.scores import BINS
from tf_rnnt_kd.records import (
    DATASET_FILE,
    DEAD_LETTER_FILE,
    DISTILLATION,
    DatasetInfo,
    Split,
    write_atomically,
)

JOINT_FILE = "joint.npz"
SETTINGS_FILE = "settings.json"


def finished(output: str, *, settings: Mapping[str, Any]) -> DatasetInfo | None:
    """The DatasetInfo of a complete `output`, None where there is work to do.

    Raises:
        ValueError: `output` was made with other settings, or by another version.
    """
    if not tf.io.gfile.exists(f"{output}/{DATASET_FILE}"):
        return None
    try:
        info = DatasetInfo.load(output)
    except ValueError as error:  # another schema version
        raise ValueError(f"{error}; choose another --output, or remove this one") from error
    if info.kind != DISTILLATION:
        raise ValueError(f"{output} holds {info.kind}, no labelled records: choose another --output")
    _refuse_other(output, found=info.settings, settings=settings)
    try:
        for split in info.splits:
            info.shard_paths(output, split)
    except ValueError as error:
        progress.say(str(error))
        return None
    return info


def claim(output: str, *, settings: Mapping[str, Any]) -> None:
    """Makes `output` a folder for a run with `settings`, before its first file is written.

    Raises:
        ValueError: an unfinished run with other settings has left its work there.
    """
    path = f"{output}/{SETTINGS_FILE}"
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path) as file:
            _refuse_other(output, found=json.loads(file.read()), settings=settings)
    elif tf.io.gfile.exists(f"{output}/{SUMMARY_FOLDER}"):
        raise ValueError(f"{output} holds an unfinished run of another version: choose another --output, or remove it")
    else:
        write_atomically(path, content=json.dumps(settings, indent=2, sort_keys=True) + "\n")


def _refuse_other(output, *, found, settings):
    different = sorted(name for name in {*found, *settings} if found.get(name) != settings.get(name))
    if different:
        both = ", ".join(f"{name} {found.get(name)!r}, not {settings.get(name)!r}" for name in different)
        raise ValueError(f"{output} holds other records ({both}): choose another --output, or remove it")


def remove_leftovers(output: str) -> None:
    """Removes parts that a run which was killed between two steps of a shard has left."""
    if tf.io.gfile.exists(f"{output}/{PARTS_FOLDER}"):
        tf.io.gfile.rmtree(f"{output}/{PARTS_FOLDER}")


def describe(
    output: str,
    *,
    source: DatasetInfo,
    tasks: Sequence[Task],
    summaries: Sequence[Summary],
    settings: Mapping[str, Any],
    teaching: Teaching,
) -> DatasetInfo:
    """Checks that the counts add up and writes dead_letter.jsonl, joint.npz and, last, dataset.json.

    Args:
        output: the folder with the labelled shards.
        source: what they were made from. tasks, summaries: its shards, and what became of each, in the same order.
        settings: go to dataset.json, for `finished`.
        teaching: the teachers.

    Returns:
        What dataset.json holds.

    Raises:
        ValueError: nothing at all was labelled.
    """
    rejected = collections.Counter(reject.reason for summary in summaries for reject in summary.rejects)
    shards = {  # without one are shards of a dry run, which nobody describes
        split: tuple(summary.shard for summary in summaries if summary.split == split and summary.shard is not None)
        for split in settings["splits"]
    }
    counts = {
        "input": sum(summary.input for summary in summaries),
        "written": sum(shard.records for of_split in shards.values() for shard in of_split),
        "rejected": sum(rejected.values()),
    }
    expected = sum(source.split(split).utterances for split in settings["splits"])
    if counts["input"] != counts["written"] + counts["rejected"] or counts["input"] != expected:
        raise ValueError(f"counts do not add up: {counts}, the source has {expected}; please report this")
    lines = [
        {
            "id": reject.utterance_id,
            "split": task.split,
            "source": f"{task.split}/{task.path.rpartition('/')[2]}",
            "reason": reject.reason,
            "error": reject.error,
        }
        for task, summary in zip(tasks, summaries, strict=True)
        for reject in summary.rejects
    ]
    content = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)
    write_atomically(f"{output}/{DEAD_LETTER_FILE}", content=content)
    if not counts["written"]:
        # There is nothing to protect: the next try may have other settings, or a teacher that works.
        tf.io.gfile.rmtree(f"{output}/{SUMMARY_FOLDER}")
        tf.io.gfile.remove(f"{output}/{SETTINGS_FILE}")
        first = f", the first: {lines[0]['reason']}: {lines[0]['error']}" if lines else ""
        raise ValueError(
            f"none of {counts['input']} utterances was labelled ({dict(rejected)}){first}; "
            f"all are in {output}/{DEAD_LETTER_FILE}"
        )
    if FACTORED in settings["artifacts"]:
        _write_joint(teaching, output)
    info = DatasetInfo(
        kind=DISTILLATION,
        splits={
            split: Split(
                shards=shards[split],
                utterances=sum(shard.records for shard in shards[split]),
                hours=_hours(summary for summary in summaries if summary.split == split),
                labelled=source.split(split).labelled,
            )
            for split in settings["splits"]
        },
        counts=counts,
        rejected=dict(sorted(rejected.items())),
        settings=dict(settings),
        teacher=teaching.describe(),
        artifacts=_artifact_sizes(summaries),
        statistics=_statistics(summaries),
    )
    remove_leftovers(output)
    info.save(output)
    return info


def _hours(summaries):
    return round(sum(summary.seconds for summary in summaries) / 3600, 6)


def _artifact_sizes(summaries):
    sizes = collections.Counter()
    for summary in summaries:
        sizes.update(summary.artifact_bytes)
    seconds = sum(summary.seconds for summary in summaries)
    return {name: {"bytes": size, "bytes_per_hour": round(size / seconds * 3600)} for name, size in sizes.items()}


def _statistics(summaries) -> dict[str, Any]:
    def histogram(name):
        counts = np.sum([summary.histograms[name] for summary in summaries], axis=0)
        return {"edges": np.round(BINS[name], 4).tolist(), "utterances": counts.tolist()}

    samples = sum(summary.samples for summary in summaries)
    padded = sum(summary.padded_samples for summary in summaries)
    histograms = {name: histogram(name) for name in BINS}
    return {
        "hours": _hours(summaries),
        "tokens": sum(summary.tokens for summary in summaries),
        "padding_share": round(1 - samples / padded, 4) if padded else 0.0,
        # A score that no utterance has was not asked for.
        **{name: content for name, content in histograms.items() if sum(content["utterances"])},
    }


def _write_joint(teaching, output):
    """The same bytes each time."""
    buffer = io.BytesIO()
    np.savez(buffer, **common_joint(teaching.folders))
    write_atomically(f"{output}/{JOINT_FILE}", content=buffer.getvalue())
