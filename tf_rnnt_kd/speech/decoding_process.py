"""The other side of `decoding_pool`: a process that runs one job after another until its owner is gone.

Started as a program of its own, so it has neither the owner's threads nor its `__main__`. Jobs come and outcomes go
through the socket whose number is the first argument; standard input is open as long as the owner lives.
"""

import contextlib
import os
import pickle
import resource
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

READY = b"ready"


def main() -> None:
    """Runs jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who then ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_owner, daemon=True).start()
    connection = Connection(int(sys.argv[1]))
    preload()
    connection.send_bytes(READY)
    with contextlib.suppress(EOFError, ConnectionError):  # the owner is gone
        while True:
            connection.send_bytes(_reply(connection.recv_bytes()))
    os._exit(0)  # there is nothing to tidy up


def preload() -> None:
    """What takes seconds the first time, so that it is no part of a job's time."""
    import numpy as np
    import tensorflow as tf

    from tf_rnnt_kd.speech import audio

    tf.get_logger().setLevel("ERROR")  # tensorflow-io's resampler warns about itself
    audio.resample(np.zeros(800, np.float32), from_rate=8000, to_rate=16000)


def run(function, job) -> Any:
    """What `function(job)` returns, or the AudioError that it raises."""
    from tf_rnnt_kd.speech.errors import AudioError

    try:
        return function(job)
    except AudioError as error:
        return error
    except MemoryError as error:
        return AudioError("decoder_crashed", f"not enough memory: {error}")


def _reply(request: bytes) -> bytes:
    """(True, outcome), or (False, what else was raised, its traceback as text), pickled."""
    try:
        function, job = pickle.loads(request)
        return pickle.dumps((True, run(function, job)), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # a fault of the program: the owner raises it
        text = traceback.format_exc()
        try:
            return pickle.dumps((False, error, text))
        except Exception:
            return pickle.dumps((False, RuntimeError(repr(error)), text))


def _end_with_owner() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os._exit(1)  # the main thread may be stuck in native code
