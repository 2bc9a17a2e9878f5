"""The machine: variables that lead packages astray, memory, disk, programs that some jobs call."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tf_rnnt_kd.health.finding import ERROR, NOTE, OK, WARNING, Finding

_GB = 1e9
_LEAST_DISK, _ENOUGH_DISK = 1 * _GB, 10 * _GB
# program: what needs it
_PROGRAMS = {
    "docker": "images of containers/, tensorflow/serving",
    "gcloud": "Dataflow",
    "go": "make engines: Prism",
    "java": "make engines: Flink",
    "mvn": "make engines: Flink",
}


def variables(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Variables that slow imports down or change what is imported."""
    if environ.get("PYTHONDONTWRITEBYTECODE"):
        remedy = "unset PYTHONDONTWRITEBYTECODE"
        yield Finding(WARNING, "PYTHONDONTWRITEBYTECODE is set: TensorFlow and Beam import ten times slower", remedy)
    backend = environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        yield Finding(ERROR, f"KERAS_BACKEND={backend}: the models run on TensorFlow", "unset KERAS_BACKEND")
    if environ.get("TF_USE_LEGACY_KERAS", "0").lower() not in ("", "0", "false"):
        yield Finding(ERROR, "TF_USE_LEGACY_KERAS is set: the models are of Keras 3", "unset TF_USE_LEGACY_KERAS")


def disk(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Room in folders, {what is written there: folder}; one that does not exist yet counts as its parent."""
    for purpose, folder in folders.items():
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free
        text = f"{free / _GB:.1f} GB free in {existing}, for {purpose}"
        if not os.access(existing, os.W_OK):
            yield Finding(ERROR, f"{existing}, for {purpose}, cannot be written", "choose another folder")
        elif free < _ENOUGH_DISK:
            level = ERROR if free < _LEAST_DISK else WARNING
            yield Finding(level, text, "make room: a demo takes about 1 GB, an hour of audio in records 115 MB")
        else:
            yield Finding(OK, text)


def temporary_folder() -> Path:
    """Where TMPDIR leads."""
    return Path(tempfile.gettempdir())


def optional_programs() -> Iterator[Finding]:
    """Programs that nothing needs but what is named with them."""
    missing = [f"{name} ({use})" for name, use in _PROGRAMS.items() if not shutil.which(name)]
    if missing:
        yield Finding(NOTE, f"not on PATH, and needed only for what is in brackets: {', '.join(missing)}")
