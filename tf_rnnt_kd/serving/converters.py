"""Converts a frozen recogniser for devices (freeze.py) to LiteRT (TFLite), with LiteRT's own operations alone.

| format | weights |
|---|---|
| float32, float16 | of that width |
| int8 | matrices in 8 bits with a scale each (dynamic range), products with them in 8 bits |
| sparse, sparse_int8 | the first and the third, without the zeros of a pruned model |
"""

import concurrent.futures
import multiprocessing
import os
import pathlib

import tensorflow as tf

from tf_rnnt_kd.serving.freeze import DEVICE_SIGNATURE

DENSE_FORMATS = ("float32", "float16", "int8")
SPARSE_FORMATS = ("sparse", "sparse_int8")
FORMATS = (*DENSE_FORMATS, *SPARSE_FORMATS)


def file_name(file_format) -> str:
    """Of the file in a folder of such exports."""
    return f"{file_format}.tflite"


def convert(frozen, *, formats, output_dir) -> None:
    """Writes a file of each format, see `file_name`, into the folder `output_dir`.

    Args:
      frozen: folder that freeze_signature wrote.
      formats: of FORMATS.

    Raises:
      ValueError: the converter failed.
    """
    # In a process of its own: an error in the converter's C++ part ends the process that it runs in.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, initializer=_without_stderr) as pool:
        for file_format in formats:
            output = str(pathlib.Path(output_dir) / file_name(file_format))
            try:
                pool.submit(_convert_one, str(frozen), file_format, output).result()
            except concurrent.futures.process.BrokenProcessPool:
                raise ValueError(f"LiteRT's converter died of the model in the format {file_format}") from None


def _without_stderr():
    """The converter writes a page of warnings there; what matters is raised."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _convert_one(frozen, file_format, output):
    converter = tf.lite.TFLiteConverter.from_saved_model(frozen, signature_keys=[DEVICE_SIGNATURE])
    if file_format in ("float16", "int8", "sparse_int8"):
        converter.optimizations.add(tf.lite.Optimize.DEFAULT)
    if file_format == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if file_format in SPARSE_FORMATS:
        converter.optimizations.add(tf.lite.Optimize.EXPERIMENTAL_SPARSITY)
    try:
        content = converter.convert()
    except Exception as error:  # it raises what it likes, and some of it cannot be sent between processes
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"LiteRT's converter refuses the format {file_format}: {lines[0]}") from None
    pathlib.Path(output).write_bytes(content)
