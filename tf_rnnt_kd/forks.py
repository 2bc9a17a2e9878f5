"""Stages as forks of a process that has imported what they import: a study has hundreds, and imports take seconds.

A fork starts as `python -m MODULE FLAGS` would, with its own flags, and does all that it does in its own memory. The
process that forks must never use TensorFlow itself, whose threads do not survive in a fork.
"""

import importlib
import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from tf_rnnt_kd.stages import StageError, as_typed, die_with_parent, say

_IMPORTED_BEFORE = (
    "beam_pipelines.corpus",
    "beam_pipelines.labelling",
    "tf_rnnt_kd.evaluation.systems",
    "tf_rnnt_kd.serving",
    "tf_rnnt_kd.training.trainer",
)
_WITH_FLAGS_OF_THEIR_OWN = ("absl", "apache_beam", "tensorflow")


def prepare() -> None:
    """Imports what stages import: before threads call `call`."""
    for module in _IMPORTED_BEFORE:
        importlib.import_module(module)


def call(arguments: Sequence[str], *, name: str, log: Path | None = None, cores: int | None = None) -> float:
    """As stages.call, in a fork of this process that ends with the calling thread; returns the seconds that it took.

    Args:
      log: where its output goes, instead of this process's own: for stages that run beside others.
      cores: how many TensorFlow takes; all if not given.

    Raises:
      StageError: it failed.
    """
    prepare()
    say(f"      {as_typed(arguments)}\n")
    start = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(list(arguments), log, cores))
    process.start()
    process.join()
    if process.exitcode:
        code = process.exitcode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        where = log or "above"
        raise StageError(f"stage {name!r} {how}, see {where}; when the cause is mended, the same command goes on")
    return time.monotonic() - start


def _run(arguments, log, cores):
    die_with_parent()
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    if cores:
        for kind in ("INTRAOP", "INTEROP"):
            os.environ.setdefault(f"TF_NUM_{kind}_THREADS", str(cores))
    # This program's own flags, which the other one may define for itself.
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.partition(".")[0] not in _WITH_FLAGS_OF_THEIR_OWN:
            for flag in list(defined):
                delattr(flags.FLAGS, flag.name)
    module, *given = arguments
    sys.argv = [module, *given]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
