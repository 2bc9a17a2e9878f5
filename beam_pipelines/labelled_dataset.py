"""What lies beside labelled shards: dataset.json with counts and statistics, the dead letters, the joint's weights."""

import collections
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from beam_pipelines.transforms import progress
from beam_pipelines.transforms.artifacts import CONFIDENCE_BINS, FACTORED, LOG_PROB_BINS, Summary
from beam_pipelines.transforms.batch import Task
from beam_pipelines.transforms.infer import HYPOTHESIS, Teacher
from tf_rnnt_kd.records import (
    DATASET_FILE,
    DEAD_LETTER_FILE,
    DISTILLATION,
    DatasetInfo,
    Split,
    write_atomically,
)

JOINT_FILE = "joint.npz"


def finished(output: str, *, settings: Mapping[str, Any]) -> DatasetInfo | None:
    """The DatasetInfo of a complete `output`, None where there is work to do.

    Raises:
        ValueError: `output` was made with other settings.
    """
    if not tf.io.gfile.exists(f"{output}/{DATASET_FILE}"):
        return None
    info = DatasetInfo.load(output)
    different = [name for name, value in settings.items() if info.settings.get(name) != value]
    if info.kind != DISTILLATION or different:
        differences = ", ".join(f"{name} {info.settings.get(name)!r}, not {settings[name]!r}" for name in different)
        raise ValueError(f"{output} holds other records ({differences}): choose another --output, or remove it")
    try:
        for split in info.splits:
            info.shard_paths(output, split)
    except ValueError as error:
        progress.say(str(error))
        return None
    return info


def describe(
    output: str,
    *,
    source: DatasetInfo,
    tasks: Sequence[Task],
    summaries: Sequence[Summary],
    settings: Mapping[str, Any],
    teacher: str,
    metadata: Mapping[str, Any],
) -> DatasetInfo:
    """Checks that the counts add up and writes dead_letter.jsonl, joint.npz and, last, dataset.json.

    Args:
        output: the folder with the labelled shards.
        source: what they were made from. tasks, summaries: its shards, and what became of each, in the same order.
        settings: go to dataset.json, for `finished`.
        teacher, metadata: the SavedModel, and its metadata.

    Returns:
        What dataset.json holds.

    Raises:
        ValueError: nothing at all was labelled.
    """
    rejected = collections.Counter(reject.reason for summary in summaries for reject in summary.rejects)
    counts = {
        "input": sum(summary.input for summary in summaries),
        "written": sum(summary.shard.records for summary in summaries),
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
        first = f", the first: {lines[0]['reason']}: {lines[0]['error']}" if lines else ""
        raise ValueError(
            f"none of {counts['input']} utterances was labelled ({dict(rejected)}){first}; "
            f"all are in {output}/{DEAD_LETTER_FILE}"
        )
    if FACTORED in settings["artifacts"]:
        _write_joint(teacher, output)
    info = DatasetInfo(
        kind=DISTILLATION,
        splits={
            split: Split(
                shards=tuple(summary.shard for summary in summaries if summary.split == split),
                utterances=sum(summary.shard.records for summary in summaries if summary.split == split),
                hours=_hours(summary for summary in summaries if summary.split == split),
                labelled=source.split(split).labelled,
            )
            for split in settings["splits"]
        },
        counts=counts,
        rejected=dict(sorted(rejected.items())),
        settings=dict(settings),
        teacher={
            "model_id": metadata["model_id"],
            "tokenizer_hash": metadata["tokenizer"]["hash"],
            "frame_seconds": metadata["frame_seconds"],
            "vocab_size": metadata["joint"]["vocab_size"],
            "joint_width": metadata["joint"]["width"],
        },
        artifacts=_artifact_sizes(summaries),
        statistics=_statistics(summaries),
    )
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
    def histogram(values, edges):
        return {"edges": np.round(edges, 4).tolist(), "utterances": np.sum(values, axis=0).tolist()}

    samples = sum(summary.samples for summary in summaries)
    padded = sum(summary.padded_samples for summary in summaries)
    return {
        "hours": _hours(summaries),
        "tokens": sum(summary.tokens for summary in summaries),
        "confidence": histogram([s.confidence for s in summaries], CONFIDENCE_BINS),
        "log_prob_per_token": histogram([s.log_prob_per_token for s in summaries], LOG_PROB_BINS),
        "padding_share": round(1 - samples / padded, 4) if padded else 0.0,
    }


def _write_joint(teacher, output):
    """OUTPUT/joint.npz: kernel [H, V] and bias [V], float32; the same bytes each time."""
    joint = Teacher(teacher, targets=HYPOTHESIS, batch_size=1, with_nodes=False).joint
    buffer = io.BytesIO()
    np.savez(buffer, kernel=joint["kernel"], bias=joint["bias"])
    temporary = f"{output}/{JOINT_FILE}.tmp"
    with tf.io.gfile.GFile(temporary, "wb") as file:
        file.write(buffer.getvalue())
    tf.io.gfile.rename(temporary, f"{output}/{JOINT_FILE}", overwrite=True)
