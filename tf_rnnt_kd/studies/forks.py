"""Jobs as forks of a process that has imported what they import: a study has hundreds, and imports take seconds.

A fork starts as `python -m MODULE FLAGS` would, with its own flags, and does all that it does in its own memory. The
process that forks must never use TensorFlow itself, whose threads do not survive in a fork.
"""

import importlib
import multiprocessing
import runpy
import sys
import time
from collections.abc import Sequence

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


def call(arguments: Sequence[str], *, name: str) -> float:
    """As stages.call, in a fork of this process; returns the seconds that it took.

    Raises:
      StageError: it failed.
    """
    for module in _IMPORTED_BEFORE:
        importlib.import_module(module)
    say(f"      {as_typed(arguments)}\n")
    start = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(list(arguments),))
    process.start()
    process.join()
    if process.exitcode:
        code = process.exitcode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise StageError(f"job {name!r} {how}, see above; when the cause is mended, the same command goes on")
    return time.monotonic() - start


def _run(arguments):
    die_with_parent()
    # This program's own flags, which the other one may define for itself.
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.partition(".")[0] not in _WITH_FLAGS_OF_THEIR_OWN:
            for flag in list(defined):
                delattr(flags.FLAGS, flag.name)
    module, *given = arguments
    sys.argv = [module, *given]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
