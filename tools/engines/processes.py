"""Servers as child processes: started with a log file, waited for, stopped or killed."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

_ROOT = pathlib.Path(__file__).resolve().parents[2]


class Server:
    """A child process in a process group of its own, its output in a file.

    Args:
        command: program and arguments.
        log: file for what it prints.
        environment: variables to set beside those of `worker_environment`.
    """

    def __init__(self, command: Sequence[str], *, log: pathlib.Path, environment: Mapping[str, str] | None = None):
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                env={**worker_environment(), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait_for_port(self, port: int, *, seconds: float = 60.0) -> None:
        """Returns when something listens on `port` of this machine.

        Raises:
            RuntimeError: the process ended, or nothing listens after `seconds`; with the end of the log.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.running:
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1.0):
                return
            time.sleep(0.1)
        state = "is not listening" if self.running else f"ended with status {self._process.returncode}"
        raise RuntimeError(f"{self.log.stem} {state}; {self.log} ends with:\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL for the process itself; its own children live on, as they do when a machine's supervisor dies."""
        self._process.kill()
        self._process.wait()

    def stop(self, *, seconds: float = 10.0) -> None:
        """SIGTERM for the whole group, SIGKILL for what is left of it after `seconds`."""
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=seconds)
        self._signal_group(signal.SIGKILL)
        self._process.wait()

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def worker_environment() -> dict[str, str]:
    """The environment of processes that run pipeline code: this interpreter is their `python`, this tree their code."""
    # Beam's worker pool starts whatever `python` comes first.
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", "")])
    code = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PATH": path, "PYTHONPATH": code, "TF_CPP_MIN_LOG_LEVEL": "3"}


def free_port() -> int:
    """A port that nothing listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
