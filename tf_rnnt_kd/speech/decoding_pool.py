"""Decoding in processes of its own, so that a crash or a hang in native code costs one file and not the job.

A decoder that reads untrusted bytes in C can end its process (SIGSEGV, SIGABRT, the kernel's memory killer) or never
return. No `except` helps against either; another process does. Why these are no `multiprocessing` processes:
docs/decisions/0012-decoding-processes.md.
"""

import collections
import concurrent.futures
import contextlib
import functools
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from tf_rnnt_kd.speech import decoding_process
from tf_rnnt_kd.speech.errors import AudioError

# A machine under load takes its time to import TensorFlow.
_START_SECONDS = 300.0
# Reasons that are the process's, and perhaps not the file's.
_LOST = ("decoder_crashed", "decoder_timeout")
# The working directory is searched for modules only where this process does so.
_PROGRAM = (
    "import sys; sys.path = [entry for entry in sys.path if entry]; "
    "from tf_rnnt_kd.speech import decoding_process; decoding_process.main()"
)
# Each process decodes one file on one core, and must not take an accelerator from the process that uses it.
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
}


class DecoderPool:
    """A few processes that are started when first needed, used again, and replaced when they die.

    A context manager. Any number of threads may use one pool; keep one per worker process. The processes end with
    it, and with the process that owns it even if that one is killed.
    """

    def __init__(self, *, num_processes: int = 2, timeout_seconds: float = 300.0, attempts: int = 2):
        """
        Args:
            num_processes: 0 runs jobs in this process, without protection, for tests and a handful of files.
            timeout_seconds: of a job, each time that it is tried. It is there against what never ends: a slow machine
                must not refuse what a fast one takes.
            attempts: how often a job that died or did not end is run before it is given up. More than once, because
                processes are killed from outside too, and that is not the file's fault.
        """
        if num_processes < 0 or not timeout_seconds > 0 or attempts < 1:
            raise ValueError(
                "num_processes must be at least 0, timeout_seconds above 0, attempts at least 1: "
                f"got {num_processes}, {timeout_seconds}, {attempts}"
            )
        self._num_processes, self._timeout, self._attempts = num_processes, timeout_seconds, attempts
        self._closed = False
        # A thread for each process waits for it.
        self._threads = concurrent.futures.ThreadPoolExecutor(max(num_processes, 1), "decoder")
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._processes = [_Process() for _ in range(num_processes)]
        for process in self._processes:
            self._idle.put(process)

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes; jobs that have not begun are dropped."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()  # the thread that waits for it sees that it is gone
        self._threads.shutdown(wait=True)
        for process in self._processes:
            process.end()

    def map(self, function: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
        """`function(job)` for each job, in order; few jobs are taken ahead of what has been asked for.

        Args:
            function: importable by its name (of a module's top level, or a `functools.partial` of such a one).
            jobs: anything that can be pickled, as can what the function returns. What is big is best made small in
                there: an hour of samples takes its time through a pipe.

        Yields:
            What the function returns, or an AudioError: the one that it raised, "decoder_crashed" or
            "decoder_timeout".

        Raises:
            Exception: whatever else the function raises.
            RuntimeError: no process can be started.
        """
        if not self._num_processes:
            yield from (decoding_process.run(function, job) for job in jobs)
            return
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        try:
            for job in jobs:
                waiting.append(self._threads.submit(self._run, function, job))
                if len(waiting) >= 2 * self._num_processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def decode(
        self, sources: Iterable[bytes | str | os.PathLike], *, target_rate: int = 16000, min_seconds: float = 0.0
    ) -> Iterator[np.ndarray | AudioError]:
        """`audio.decode_audio` of each source: float32 [S], or why there is none."""
        return self.map(functools.partial(_decode, target_rate=target_rate, min_seconds=min_seconds), sources)

    def _run(self, function: Callable[[Any], Any], job: Any) -> Any:
        request = pickle.dumps((function, job), protocol=pickle.HIGHEST_PROTOCOL)
        process = self._idle.get()
        try:
            for _ in range(self._attempts):
                outcome = process.ask(request, timeout=self._timeout)
                lost = isinstance(outcome, AudioError) and outcome.reason in _LOST
                if not lost or self._closed:
                    break
            return outcome
        finally:
            self._idle.put(process)


class _Process:
    """One process and the line to it; started at the first job, and again after it died."""

    def __init__(self):
        self._child: subprocess.Popen | None = None
        self._line: Connection | None = None

    def ask(self, request: bytes, *, timeout: float) -> Any:
        """The outcome of a job, where its end or its delay is one too."""
        if self._child is None or self._child.poll() is not None:
            self._start()
        try:
            self._line.send_bytes(request)
            if not self._line.poll(timeout):
                self.end()
                return AudioError("decoder_timeout", f"not decoded within {timeout:g} seconds")
            good, *reply = pickle.loads(self._line.recv_bytes())
        except (EOFError, OSError):
            return AudioError("decoder_crashed", f"the decoder's process died: {self._cause()}")
        if good:
            return reply[0]
        error, text = reply
        raise error from RuntimeError(f"in a decoder process:\n{text}")

    def kill(self) -> None:
        child = self._child
        if child is not None:
            child.kill()

    def end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child.stdin.close()
            self._line.close()
            self._child = None

    def _start(self) -> None:
        self.end()
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(_search_path())},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
        self._line = Connection(ours.detach())
        with contextlib.suppress(EOFError, OSError):
            if self._line.poll(_START_SECONDS) and self._line.recv_bytes() == decoding_process.READY:
                return
        raise RuntimeError(f"no decoder process can be started: {self._cause()}; its messages are on standard error")

    def _cause(self) -> str:
        """Ends the process and says how it had ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(5.0)
        status = self._child.poll()
        self.end()
        if status is None:
            return "it hangs"
        if status >= 0:
            return f"exit status {status}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
        return f"signal {-status}"


def _search_path() -> list[str]:
    """So that what this process can import its processes can import too."""
    return [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 ("" is the working directory)


def _decode(source: bytes | str | os.PathLike, *, target_rate: int, min_seconds: float) -> np.ndarray:
    from tf_rnnt_kd.speech.audio import decode_audio

    return decode_audio(source, target_rate=target_rate, min_seconds=min_seconds)
