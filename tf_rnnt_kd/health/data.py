"""A corpus, and a folder of records: whether the pipelines and trainings can read them."""

import collections
from collections.abc import Iterator
from typing import Any

import google_crc32c
import tensorflow as tf

from beam_pipelines.inputs import FORMATS, SplitInput, find_splits
from beam_pipelines.inputs.source import sound
from tf_rnnt_kd.health.finding import ERROR, NOTE, OK, WARNING, Finding
from tf_rnnt_kd.records import DatasetInfo, decode_utterance, read_shard
from tf_rnnt_kd.speech.audio import decode_audio
from tf_rnnt_kd.speech.errors import AudioError
from tf_rnnt_kd.splits import SPLITS

_DECODED = 3
_CHECKED_BYTES = 20e9
_CHUNK_BYTES = 1 << 24


def corpus(path: str) -> Iterator[Finding]:
    """What prepare_corpus would find in a folder; some files of each split are decoded."""
    try:
        splits = find_splits(path)
    except ValueError as error:
        yield Finding(ERROR, f"--corpus={path}: {error}", "docs/how_to/own_corpus.md shows the layouts")
        return
    for split in splits:
        yield from _split(split)
    missing = [name for name in SPLITS if name not in {split.name for split in splits}]
    if missing:
        yield Finding(NOTE, f"the demo and the studies would also want the splits {', '.join(missing)}")


def _split(split: SplitInput) -> Iterator[Finding]:
    form = FORMATS[split.format]
    sources, labelled, decoded = 0, 0, 0
    refused: collections.Counter[str] = collections.Counter()
    example = ""
    for source in (sound(item) for part in form.parts(split) for item in form.sources(split, part)):
        sources += 1
        labelled += bool(source.text and source.text.strip())
        reason, error = source.reason, source.error
        if not reason and decoded < _DECODED and source.record_at is None and source.audio:
            decoded += 1
            try:
                decode_audio(source.audio, target_rate=16000)
            except AudioError as failure:
                reason, error = failure.reason, str(failure)
        if reason:
            refused[reason] += 1
            example = example or f"{source.audio or source.utterance_id}: {error}"
    text = f"{split.name} ({split.format}): {sources} sources, {labelled} with a transcript, {decoded} decoded"
    if sources == 0 or refused.total() == sources:
        yield Finding(ERROR, f"{text}: nothing usable. {example}".rstrip(), "see docs/how_to/own_corpus.md")
    elif refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))
        remedy = "they will be left out and listed in dead_letter.jsonl; mend them if you want them"
        yield Finding(WARNING, f"{text}; unusable: {reasons}, such as {example}", remedy)
    else:
        yield Finding(OK, text)


def records(path: str) -> Iterator[Finding]:
    """Whether a dataset is complete: sizes of all shards, checksums of the first 20 GB, a record of each split."""
    try:
        info = DatasetInfo.load(path)
        folders = {name: info.shard_paths(path, name) for name in info.splits}
    except ValueError as error:
        yield Finding(ERROR, f"--records={path}: {error}", "run the command that made them again: it completes them")
        return
    left, problems = _CHECKED_BYTES, []
    for name, split in sorted(info.splits.items()):
        checked = 0
        for shard, file in zip(split.shards, folders[name], strict=True):
            if left < shard.bytes:
                break
            left, checked = left - shard.bytes, checked + 1
            if _crc32c(file) != shard.crc32c:
                problems.append(file)
        kind = f"{'' if split.labelled else 'un'}labelled {info.kind}"
        text = f"{name}: {split.utterances} {kind}, {split.hours:.3f} hours"
        if not any(file in problems for file in folders[name]):
            first = next((record for file in folders[name] for record in read_shard(file)), None)
            text += f", e.g. {_described(first)}" if first is not None else ""
            yield Finding(OK, f"{text}; {checked} of {len(split.shards)} shards have the right checksum")
    for file in problems:
        remedy = "delete the folder's dataset.json and this file, and run the command that made them again"
        yield Finding(ERROR, f"{file} is damaged: its checksum is not that of dataset.json", remedy)


def _described(record: bytes) -> str:
    utterance: Any = decode_utterance(record)
    return f"{utterance.utterance_id} of {len(utterance.waveform) / 16000:.1f} s"


def _crc32c(path: str) -> str:
    checksum = 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = google_crc32c.extend(checksum, chunk)
    return f"{checksum:08x}"
