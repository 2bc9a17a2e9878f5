"""Utterance records that prepare_corpus made: to divide them anew, to filter or cut them, to put datasets together.

What goes through the shuffle is where a record lies. Its audio is read when it is written again, not decoded.
"""

import json
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from beam_pipelines.inputs import files
from beam_pipelines.inputs.source import Format, Refused, Source, SplitInput
from tf_rnnt_kd import records

NAME = "records"
_LENGTH_BYTES, _AROUND_RECORD = 8, 16  # a record stands behind its length and a checksum, and before another


def find_splits(path: str) -> list[SplitInput]:
    """The splits that `path`/dataset.json names.

    Raises:
        ValueError: the dataset is of another kind, or of another schema version.
    """
    if records.DATASET_FILE not in files.listing(path).files or not _is_ours(f"{path}/{records.DATASET_FILE}"):
        return []
    info = records.DatasetInfo.load(path)
    if info.kind != records.UTTERANCES:
        raise ValueError(f"{path} holds {info.kind} records: --input takes the utterance records they were made from")
    return [SplitInput(name, path, NAME) for name in sorted(info.splits)]


def shard_files(split: SplitInput) -> list[str]:
    """The split's shards, relative to the dataset."""
    return [shard.file for shard in records.DatasetInfo.load(split.path).split(split.name).shards]


def list_sources(split: SplitInput, shard: str) -> Iterator[Source]:
    """A source for each record, and a refusal for each that dataset.json promises and the file does not give."""
    path = f"{split.path}/{shard}"
    (promised,) = (
        item.records for item in records.DatasetInfo.load(split.path).split(split.name).shards if item.file == shard
    )
    position, count, problem = 0, 0, f"{path} is shorter than dataset.json says"
    try:
        for record in records.read_shard(path):
            yield _source(split, path, position, record, count)
            position += _AROUND_RECORD + len(record)
            count += 1
    except tf.errors.OpError as error:
        problem = f"{path} is damaged behind record {count}: {error.message}"
    for index in range(count, promised):
        name = f"{shard}#{index:08d}"
        yield Source(split.name, name, "", None, order=index, origin=path, reason="damaged", error=problem)


def read_record(path: str, *, position: int, utterance_id: str) -> records.Utterance:
    """The utterance that `list_sources` found there.

    Raises:
        Refused: "damaged": there is another one, or none, by now.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            file.seek(position)
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            file.seek(position + _LENGTH_BYTES + 4)
            utterance = records.decode_utterance(file.read(length))
    except (tf.errors.OpError, ValueError) as error:
        raise Refused("damaged", f"no utterance at byte {position} of {path}: {error}") from error
    if utterance.utterance_id != utterance_id:
        raise Refused("damaged", f"{path} has changed: {utterance.utterance_id} where {utterance_id} was")
    return utterance


def _source(split: SplitInput, path: str, position: int, record: bytes, order: int) -> Source:
    found: dict[str, Any] = {"record_at": position, "order": order, "origin": path}
    try:
        features = records.parse_example(record)
        texts = {name: features[name].bytes_list.value[0].decode() for name in _STRINGS if name in features}
        name = texts["utterance_id"]
    except (ValueError, KeyError, IndexError) as error:
        found |= {"reason": "damaged", "error": f"record {order} of {path} is no utterance: {error!r}"}
        return Source(split.name, f"{path.rpartition('/')[2]}#{order:08d}", path, None, **found)
    parts: dict[str, Any] = {key: texts.get(key, "") for key in ("speaker", "domain", "recording")}
    return Source(split.name, name, path, texts.get("text"), **parts, **found)


def _is_ours(path: str) -> bool:
    try:
        with tf.io.gfile.GFile(path) as file:
            return {"kind", "schema_version"} <= set(json.loads(file.read()))
    except (tf.errors.OpError, ValueError, TypeError):
        return False


_STRINGS = ("utterance_id", "text", "speaker", "domain", "recording")

FORMAT = Format(
    NAME,
    "utterance records with their dataset.json",
    find=find_splits,
    parts=shard_files,
    sources=list_sources,
)
