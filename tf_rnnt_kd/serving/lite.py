"""Exports of a streaming model for devices: one folder with a file for each format, and what a host must know.

    DIR/metadata.json     that of the SavedModel, with `files` {format: {"file", "bytes"}}
    DIR/float16.tflite    and so on, see converters.py
"""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.model_versions import version_folder
from tf_rnnt_kd.serving.converters import DENSE_FORMATS, FORMATS, SPARSE_FORMATS, convert, file_name
from tf_rnnt_kd.serving.device_stream import Transcript, transcribe
from tf_rnnt_kd.serving.freeze import DEVICE_SIGNATURE, freeze_signature
from tf_rnnt_kd.serving.metadata import read_metadata

METADATA_FILE = "metadata.json"


def default_formats(metadata) -> tuple[str, ...]:
    """LiteRT's formats for a model with this metadata: the sparse ones where it was pruned."""
    return (*DENSE_FORMATS, *(SPARSE_FORMATS if metadata["sparsity"]["target"] else ()))


def export_lite(
    saved_model: str | os.PathLike, *, output_dir: str | os.PathLike, formats: Sequence[str] | None = None
) -> dict[str, Any]:
    """Converts an exported model for devices.

    Args:
      saved_model: folder of an export, or of its versions, of which the newest is taken.
      output_dir: made here. Nothing exists under this name until all of it is complete.
      formats: of converters.FORMATS; None: `default_formats`.

    Returns:
      The content of DIR/metadata.json. If output_dir holds these formats of the same model, nothing is written.

    Raises:
      ValueError: the model does not stream, was not pruned and is to be sparse, cannot be converted, or output_dir
        exists and is something else.
    """
    metadata = read_metadata(version_folder(saved_model))
    formats = tuple(formats or default_formats(metadata))
    _check(saved_model, metadata, formats)
    output = pathlib.Path(output_dir).absolute()
    if output.exists():
        return _same(output, model_id=metadata["model_id"], formats=formats)
    output.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        frozen = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) / "frozen"
        incomplete = output.with_name(f".{output.name}.incomplete")
        shutil.rmtree(incomplete, ignore_errors=True)  # of an export that was killed
        incomplete.mkdir()
        stack.callback(shutil.rmtree, incomplete, ignore_errors=True)
        freeze_signature(saved_model, output_dir=frozen)
        convert(frozen, formats=formats, output_dir=incomplete)
        names = {file_format: file_name(file_format) for file_format in formats}
        files = {one: {"file": name, "bytes": (incomplete / name).stat().st_size} for one, name in names.items()}
        metadata = {**metadata, "files": files}
        content = json.dumps(metadata, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        (incomplete / METADATA_FILE).write_text(content, encoding="utf-8")
        incomplete.rename(output)
    return metadata


class LiteRecognizer:
    """A recogniser of one format in a folder of export_lite, run by LiteRT.

    Args:
      folder: what export_lite made. file_format: which of its files. num_threads: of the runtime.

    Attributes:
      metadata: of the folder. step: see DeviceStream.

    Raises:
      ValueError: no such folder, or it lacks the format.
    """

    def __init__(self, folder: str | os.PathLike, *, file_format: str, num_threads: int = 1):
        self.metadata = read_lite_metadata(folder)
        files = self.metadata["files"]
        if file_format not in files:
            raise ValueError(f"{folder} has no {file_format}, it has {', '.join(files)}")
        path = pathlib.Path(folder) / files[file_format]["file"]
        self.step = load_step(path, num_threads=num_threads)

    def transcribe(self, waveform: np.ndarray) -> Transcript:
        """Of one utterance, float32 [S] at metadata['sample_rate']."""
        return transcribe(self.step, waveform, metadata=self.metadata)


def load_step(path, *, num_threads=1):
    """What is in a .tflite file as a function of arrays by name, see DeviceRecognizer.step."""
    # The runner holds the interpreter.
    return tf.lite.Interpreter(model_path=str(path), num_threads=num_threads).get_signature_runner(DEVICE_SIGNATURE)


def read_lite_metadata(folder):
    """metadata.json of a folder of export_lite.

    Raises:
      ValueError: the folder is no such thing.
    """
    path = pathlib.Path(folder) / METADATA_FILE
    if not path.exists():
        raise ValueError(f"{folder} is no export for devices: make one with python -m tf_rnnt_kd.export_lite")
    return json.loads(path.read_text(encoding="utf-8"))


def _check(saved_model, metadata, formats):
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise ValueError(f"unknown format {', '.join(unknown)}: choose of {', '.join(FORMATS)}")
    if not metadata["streaming"]:
        raise ValueError(
            f"{saved_model} needs whole utterances: only models that stream (with a left_context, or a causal LSTM) "
            "are exported for devices"
        )
    if "device" not in metadata:
        raise ValueError(f"{saved_model} was exported by an earlier version: export it again")
    if set(formats) & set(SPARSE_FORMATS) and not metadata["sparsity"]["target"]:
        raise ValueError(
            f"{saved_model} was not pruned, a sparse format has nothing to leave out: train with sparsity.target "
            "(docs/training/sparsity.md), or leave out the sparse formats"
        )


def _same(output, *, model_id, formats):
    try:
        existing = read_lite_metadata(output)
    except ValueError:
        raise ValueError(f"{output} exists and is no export for devices: choose another --output") from None
    missing = sorted(set(formats) - set(existing["files"]))
    if existing["model_id"] != model_id or missing:
        what = f"lacks {', '.join(missing)}" if missing else f"is of another model ({existing['model_id']})"
        raise ValueError(f"{output} exists and {what}: choose another --output, or remove it")
    return existing
