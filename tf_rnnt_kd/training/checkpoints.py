"""Checkpoints that are used only if they are whole.

    DIRECTORY/ckpt-40.index
    DIRECTORY/ckpt-40.data-00000-of-00001    as tf.train.Checkpoint writes them
    DIRECTORY/ckpt-40.json                   written last: size and CRC32C of these files, and notes

A process that is killed anywhere leaves files without their JSON or files that do not match it; neither is restored.
Each of several workers has its own, since their data iterators differ: the first in DIRECTORY, the others in
DIRECTORY/worker-1 and so on. They go on from the newest step that all of them have.
"""

import contextlib
import dataclasses
import json
import os
import re
from typing import Any

import google_crc32c
import tensorflow as tf

from tf_rnnt_kd.records.dataset import write_atomically
from tf_rnnt_kd.training.faults import StorageError

_NAME = re.compile(r"ckpt-(\d+)(\.|_temp)")
_CHUNK_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True)
class Found:
    """A whole checkpoint: what restore takes, its step, and the notes it was saved with."""

    path: str
    step: int
    notes: dict[str, Any]


class Checkpoints:
    """Those of one worker of a training.

    Args:
      checkpoint: a tf.train.Checkpoint with everything that is to be saved.
      directory: for all workers, who must see one another's files.
      keep: how many are kept.
      worker, num_workers: number of this process, and how many there are.
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, directory, *, keep: int, worker: int = 0, num_workers: int = 1):
        if keep < 1:
            raise ValueError(f"train.keep_checkpoints must be at least 1, not {keep}")
        self._checkpoint, self._directory, self._keep = checkpoint, str(directory), keep
        self._folders = [_folder(directory, number) for number in range(num_workers)]
        self._own = self._folders[worker]
        self._whole: list[int] = []

    def find(self) -> tuple[Found | None, list[str]]:
        """The newest checkpoint that is whole in all workers, None before the first, and what is wrong with newer ones.

        To be called once, before anything is saved.

        Raises:
          ValueError: there were checkpoints, and none of them is whole; or they are of another number of workers.
        """
        complaints = []
        steps = sorted(set().union(*map(_steps, self._folders)), reverse=True)
        for step in steps:
            problems = [problem for folder in self._folders if (problem := _problem(folder, step))]
            if problems:
                complaints.append(f"the checkpoint of step {step} is not whole: {'; '.join(problems)}")
                continue
            manifest = _manifest(self._own, step)
            if manifest["workers"] != len(self._folders):
                raise ValueError(
                    f"the checkpoints in {self._directory} are those of {manifest['workers']} workers, not of "
                    f"{len(self._folders)}: start as many, or take another --workdir and set train.warm_start to this"
                )
            self._whole = [other for other in steps if other <= step]
            return Found(f"{self._own}/ckpt-{step}", step, manifest["notes"]), complaints
        # A first one that was never finished is no loss.
        if any(_steps(folder, suffix=".json") for folder in self._folders):
            raise ValueError(
                f"{'; '.join(complaints)}; and there is no other. To train from the first step again remove "
                f"{self._directory}, or take another --workdir"
            )
        return None, complaints

    def save(self, step: int, **notes) -> None:
        """Writes a checkpoint, and then removes those that are no longer kept.

        Args:
          notes: JSON values that `find` gives back.

        Raises:
          StorageError: it could not be written; the earlier ones are as they were.
        """
        folder, prefix = self._own, f"{self._own}/ckpt-{step}"
        try:
            tf.io.gfile.makedirs(folder)
            _remove(folder, step)  # what an earlier run left under this name must not lend it a checksum
            self._checkpoint.write(prefix)
            files = {}
            for name in sorted(_files(folder, step)):
                _flush(f"{folder}/{name}")
                files[name] = _fingerprint(f"{folder}/{name}")
            _write_manifest(folder, step, {"workers": len(self._folders), "files": files, "notes": notes})
        except (OSError, tf.errors.OpError) as error:
            with contextlib.suppress(OSError, tf.errors.OpError):
                _remove(folder, step)
            earlier = [other for other in self._whole if other != step]
            last = f"that of step {max(earlier)} is whole" if earlier else "there is none yet"
            raise StorageError(
                f"the checkpoint of step {step} could not be written to {folder} ({_first_line(error)}); {last}. "
                "Make room and start the same command again"
            ) from error
        self._whole = sorted({*self._whole, step})[-self._keep :]
        for other in _steps(folder) - set(self._whole):
            _remove(folder, other)


def _folder(directory, worker):
    return f"{directory}/worker-{worker}" if worker else str(directory)


def _files(folder, step=None):
    """Names of the checkpoint files of a step, or of all; what killed writers left among them."""
    if not tf.io.gfile.isdir(folder):
        return []
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
    matches = {name: match for name in names if (match := _NAME.match(name))}
    return [name for name, match in matches.items() if step is None or int(match[1]) == step]


def _steps(folder, *, suffix=""):
    return {int(_NAME.match(name)[1]) for name in _files(folder) if name.endswith(suffix)}


def _write_manifest(folder, step, content):
    page = {"content": content, "crc32c": _crc32c(content)}
    write_atomically(f"{folder}/ckpt-{step}.json", content=json.dumps(page, indent=1) + "\n")


def _manifest(folder, step):
    with tf.io.gfile.GFile(f"{folder}/ckpt-{step}.json") as file:
        page = json.loads(file.read())
    if _crc32c(page["content"]) != page["crc32c"]:
        raise ValueError("its checksum is not that of its content")
    return page["content"]


def _crc32c(content):
    return f"{google_crc32c.value(json.dumps(content, sort_keys=True).encode()):08x}"


def _problem(folder, step):
    """What is wrong with a checkpoint, None if nothing."""
    path = f"{folder}/ckpt-{step}.json"
    if not tf.io.gfile.exists(path):
        return f"{path} is missing, so its writing was interrupted"
    try:
        files = _manifest(folder, step)["files"]
    except (ValueError, KeyError, TypeError) as error:
        return f"{path} is damaged ({error!r})"
    for name, (size, crc32c) in files.items():
        path = f"{folder}/{name}"
        if not tf.io.gfile.exists(path):
            return f"{path} is missing"
        found = _fingerprint(path)
        if found[0] != size:
            return f"{path} has {found[0]} bytes, not {size}"
        if found[1] != crc32c:
            return f"{path} has other bytes than were written (CRC32C {found[1]}, not {crc32c})"
    return None


def _fingerprint(path):
    """[bytes, CRC32C in hexadecimal] of a file."""
    size, checksum = 0, 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            size, checksum = size + len(chunk), google_crc32c.extend(checksum, chunk)
    return [size, f"{checksum:08x}"]


def _flush(path):
    """To the disk itself, where it is a local one: a machine that loses power then has it."""
    if "://" not in path:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(folder, step):
    """The JSON goes first: what is left of a checkpoint must not look whole."""
    for name in sorted(_files(folder, step), key=lambda name: not name.endswith(".json")):
        path = f"{folder}/{name}"
        if tf.io.gfile.isdir(path):
            tf.io.gfile.rmtree(path)
        else:
            tf.io.gfile.remove(path)


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]
