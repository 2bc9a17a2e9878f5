"""TensorFlow and what it can run on. Imports TensorFlow, tensorflow-text, tensorflow-io, Keras and Beam."""

import importlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np

from tf_rnnt_kd.health.finding import ERROR, NOTE, OK, WARNING, Finding

_MODULES = ("tensorflow", "tensorflow_text", "tensorflow_io", "keras", "apache_beam")
_LEAST_MEMORY = 4e9


def imports() -> Iterator[Finding]:
    """Whether the big packages load, and compiled operations of tensorflow-io, which fail at their first use."""
    failed = False
    for module in _MODULES:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a broken package raises is the finding
            failed = True
            yield Finding(ERROR, f"import {module} fails: {_line(error)}", "install the pinned versions (make venv)")
    if failed:
        return
    try:
        from tf_rnnt_kd.speech.audio import resample

        resample(np.zeros(800, np.float32), from_rate=8000, to_rate=16000)
    except Exception as error:
        remedy = "tensorflow-io 0.37.1 works with tensorflow 2.17.1 only"
        yield Finding(ERROR, f"tensorflow-io cannot resample: {_line(error)}", remedy)
    else:
        yield Finding(OK, f"{', '.join(_MODULES)} load, and their compiled operations run")


def accelerators() -> Iterator[Finding]:
    """GPUs that TensorFlow sees, GPUs that it should see, and what it has without one."""
    import tensorflow as tf

    from tf_rnnt_kd.training.memory import device_memory

    found = tf.config.list_physical_devices("GPU")
    present = _nvidia_gpus()
    memory = device_memory()
    size = f"{memory / 1e9:.1f} GB" if memory else "memory of unknown size"
    if found:
        names = {tf.config.experimental.get_device_details(device).get("device_name", "GPU") for device in found}
        yield Finding(OK, f"{len(found)} GPUs ({', '.join(sorted(names))}), {size} each")
        if len(found) > 1:
            yield Finding(NOTE, "all of them train together with --strategy=mirrored")
        return
    if present:
        remedy = "pip install 'tensorflow[and-cuda]==2.17.1', and see that CUDA_VISIBLE_DEVICES does not hide it"
        yield Finding(WARNING, f"TensorFlow does not see the GPU of this machine ({', '.join(present)})", remedy)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"no accelerator in use: {cores} CPU cores, {size}"
    if memory and memory < _LEAST_MEMORY:
        yield Finding(WARNING, text, "the demo takes about 3 GB: close other programs")
    else:
        yield Finding(OK, text)


def _nvidia_gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
