"""`dataset.json`, the page that describes a folder of records, and the shards beside it.

    OUTPUT/<split>/<split>-00000-of-00004.tfrecord
    OUTPUT/dataset.json          written last: its presence says that the dataset is complete
    OUTPUT/dead_letter.jsonl     what was refused: {"id", "split", "source", "reason", "error"} per line

Paths go through `tf.io.gfile`, so a folder may lie in a bucket as well.
"""

import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from tf_rnnt_kd.records.schema import SAMPLE_RATE, SCHEMA_VERSION
from tf_rnnt_kd.records.tfrecord import TFRecordFile

DATASET_FILE = "dataset.json"
DEAD_LETTER_FILE = "dead_letter.jsonl"
TEMPORARY_SUFFIX = ".tmp"
UTTERANCES = "utterances"
DISTILLATION = "distillation"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file; `file` is relative to the dataset's folder.

    `crc32c` is that of the whole file, in hexadecimal: what Cloud Storage keeps for an object (there in base64).
    """

    file: str
    records: int
    bytes: int
    crc32c: str


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: its shards in order, the utterances and hours in them, and whether they carry transcripts."""

    shards: tuple[Shard, ...]
    utterances: int
    hours: float
    labelled: bool


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What `dataset.json` says.

    Attributes:
        kind: "utterances" or "distillation".
        splits: name -> Split.
        counts: {"input", "written", "rejected"}; input = written + rejected.
        rejected: reason -> number of utterances; the sum is `counts["rejected"]`.
        settings: what the dataset was made from, so that a rerun knows whether it has to do anything.
        teacher: of a distillation dataset: model_id, tokenizer_hash, frame_seconds, vocab_size, joint_width.
        artifacts: of a distillation dataset: name -> {"bytes", "bytes_per_hour", ...}.
        statistics: lengths, speakers and domains of utterances; of a distillation dataset histograms of its scores.
    """

    kind: str
    splits: dict[str, Split]
    counts: dict[str, int]
    rejected: dict[str, int]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    teacher: dict[str, Any] | None = None
    artifacts: dict[str, dict[str, Any]] | None = None
    statistics: dict[str, Any] | None = None
    sample_rate: int = SAMPLE_RATE
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def load(cls, directory: str | os.PathLike) -> "DatasetInfo":
        """Reads `directory/dataset.json`.

        Raises:
            ValueError: the folder is missing or incomplete, or of another schema version.
        """
        path = f"{directory}/{DATASET_FILE}"
        if not tf.io.gfile.exists(path):
            raise ValueError(
                f"{directory} holds no complete dataset ({DATASET_FILE} is missing): "
                "make it with python -m beam_pipelines.prepare_corpus, or run that again if it was interrupted"
            )
        try:
            with tf.io.gfile.GFile(path) as file:
                content = json.loads(file.read())
            version = content["schema_version"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a dataset description ({error!r}): make the dataset again") from error
        if version != SCHEMA_VERSION:
            raise ValueError(f"{path} has schema version {version}, this code reads {SCHEMA_VERSION}: make it again")
        known = {field.name for field in dataclasses.fields(cls)}
        content = {name: value for name, value in content.items() if name in known}
        content["splits"] = {
            name: Split(**{**split, "shards": tuple(Shard(**shard) for shard in split["shards"])})
            for name, split in content["splits"].items()
        }
        return cls(**content)

    def save(self, directory: str | os.PathLike) -> None:
        """Writes `directory/dataset.json` in one step; call it after everything else is in place.

        What killed attempts left under temporary names goes first.
        """
        remove_temporaries(directory)
        content = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        write_atomically(f"{directory}/{DATASET_FILE}", content=json.dumps(content, indent=2, sort_keys=True) + "\n")

    def split(self, name: str) -> Split:
        """The split called `name`; ValueError with the ones there are."""
        if name not in self.splits:
            raise ValueError(f"no split {name!r} in this dataset, it has: {', '.join(sorted(self.splits)) or 'none'}")
        return self.splits[name]

    def shard_paths(self, directory: str | os.PathLike, split: str) -> list[str]:
        """Full paths of the shards of `split`, in order; ValueError where one is missing or of another size."""
        paths = []
        for shard in self.split(split).shards:
            path = f"{directory}/{shard.file}"
            size = tf.io.gfile.stat(path).length if tf.io.gfile.exists(path) else None
            if size != shard.bytes:
                state = "is missing" if size is None else f"has {size} bytes"
                raise ValueError(f"{path} {state}, {DATASET_FILE} says {shard.bytes} bytes: make the dataset again")
            paths.append(path)
        return paths


def shard_file(split: str, *, index: int, num_shards: int) -> str:
    """Name of a shard, relative to the dataset: `dev/dev-00000-of-00004.tfrecord`."""
    return f"{split}/{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def write_shard(directory: str | os.PathLike, *, file: str, records: Iterable[bytes]) -> Shard:
    """Writes `records` to `directory/file`: to a temporary name first, renamed when complete.

    May be called for the same file by several processes at once, with the same records: a runner tries a bundle again
    while a worker that it believes dead is still writing. Whoever ends last replaces a complete file by an equal one.
    """
    path = f"{directory}/{file}"
    with _replacing(path) as temporary, TFRecordFile(temporary) as shard:
        for record in records:
            shard.write(record)
    return Shard(file=file, records=shard.records, bytes=shard.bytes, crc32c=shard.crc32c)


def read_shard(path: str | os.PathLike) -> Iterator[bytes]:
    """The serialised records of one shard, in order; tf.errors.DataLossError where the file is damaged."""
    yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()


def write_atomically(path: str | os.PathLike, *, content: str | bytes) -> None:
    """Writes a small file so that a reader sees all of it or the old one; several processes may do so at once."""
    with _replacing(str(path)) as temporary, tf.io.gfile.GFile(temporary, "w") as file:
        file.write(content)


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[str]:
    """Gives a name to write to, which becomes `path` in one step at the end; after an error nothing has happened."""
    # Of its own for each attempt: two that write the same temporary file leave holes in it when one of them dies.
    temporary = f"{path}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    tf.io.gfile.makedirs(path.rpartition("/")[0] or ".")
    try:
        yield temporary
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)
        raise


def remove_temporaries(directory: str | os.PathLike) -> None:
    """Removes what attempts that were killed left under `directory`; call it when all its shards are in place."""
    for folder, _, names in tf.io.gfile.walk(str(directory)):
        for name in names:
            if name.endswith(TEMPORARY_SUFFIX):
                with contextlib.suppress(tf.errors.NotFoundError):  # its writer has just ended
                    tf.io.gfile.remove(f"{folder.rstrip('/')}/{name}")
