"""Faults at given places of a training in another process."""

import os
import re
import signal


def arm(fault):
    """Makes one happen, none without a text: SIGTERM in evaluation N, SIGKILL between the files of checkpoint N,
    SIGKILL after step N; evaluations and steps are counted in their process.
    """
    if not fault:
        return
    from tf_rnnt_kd.training import checkpoints
    from tf_rnnt_kd.training.dev import DevEvaluator
    from tf_rnnt_kd.training.session import Session

    number = int(re.search(r"\d+", fault)[0])
    if fault.startswith("SIGTERM in evaluation"):
        _before(DevEvaluator, "word_error_rate", signal.SIGTERM, call=number)
    elif fault.startswith("SIGKILL between the files"):
        _before(checkpoints, "write_atomically", signal.SIGKILL, path=f"ckpt-{number}.json")
    elif fault.startswith("SIGKILL after step"):
        _before(Session, "advance", signal.SIGKILL, call=number + 1)
    else:
        raise ValueError(fault)


def _before(owner, name, number, *, call=None, path=None):
    """Sends this process a signal before a given call of a function, or the one for a given file."""
    original, calls = getattr(owner, name), []

    def wrapped(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call or (path and str(arguments[0]).endswith(path)):
            os.kill(os.getpid(), number)
        return original(*arguments, **options)

    setattr(owner, name, wrapped)
