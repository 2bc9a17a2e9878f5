"""Runs a list of commands in order, and again from where it stopped: what `demo` is made of.

Each stage is a binary that knows itself what it has finished (a marker or a rename as its last act). `stages.json` in
the work folder only spares the start of those that are done.
"""

import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


class StageError(Exception):
    """One line for the user."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One call of one binary.

    Attributes:
      key: its name in stages.json.
      title: for people.
      part: which section of the report it made.
      arguments: what follows `python -m`.
      always: run it although it is done.
    """

    key: str
    title: str
    part: str
    arguments: tuple[str, ...]
    always: bool = False

    @property
    def command(self) -> str:
        """As it is typed in a shell."""
        return as_typed(self.arguments)


class Runner:
    """Goes through the stages and remembers which command of which stage has finished.

    Args:
      workdir: the work folder; stages.json and commands.jsonl (title, part, command, seconds of each stage, written
        before each stage of the part "report") go there.
      stages: makes the list of stages; asked again before each, because later ones may depend on results of earlier
        ones. The number of stages must not change.
      execute: (arguments, name=key) -> seconds: forks.call, or `call` if not given.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        stages: Callable[[], Sequence[Stage]],
        execute: Callable[..., float] | None = None,
    ):
        self._workdir = workdir
        self._stages, self._execute = stages, execute or call
        self._path = workdir / "stages.json"
        self._done: dict[str, dict] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def run(self) -> None:
        """Runs what is not done. A stage that runs makes all after it run, to see for themselves if they must.

        Raises:
          StageError: a stage failed.
        """
        start = time.monotonic()
        count = len(self._stages())
        for index in range(count):
            stage = self._stages()[index]
            done = self._done.get(stage.key)
            say(f"\n[{index + 1}/{count}] {stage.title}")
            if done and done["command"] == stage.command and not stage.always:
                say(f"      done before, in {duration(done['seconds'])}")
                continue
            if not stage.always:
                self._forget(self._stages()[index:])
            if stage.part == "report":
                self._write_commands()
            seconds = self._execute(stage.arguments, name=stage.key)
            self._done[stage.key] = {"command": stage.command, "seconds": round(seconds, 1)}
            write_atomically(self._path, content=json.dumps(self._done, indent=1))
            say(f"      {duration(seconds)}, {duration(time.monotonic() - start)} in all")

    def _forget(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            self._done.pop(stage.key, None)
        write_atomically(self._path, content=json.dumps(self._done, indent=1))

    def _write_commands(self) -> None:
        lines = []
        for stage in self._stages():
            seconds = self._done.get(stage.key, {}).get("seconds")
            entry = {"title": stage.title, "part": stage.part, "command": stage.command, "seconds": seconds}
            lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
        write_atomically(self._workdir / "commands.jsonl", content="".join(lines))


def as_typed(arguments: Sequence[str]) -> str:
    """`python -m` with these arguments, for a shell."""
    return shlex.join(("python", "-m", *arguments))


def call(arguments: Sequence[str], *, name: str) -> float:
    """Runs `python -m` with these arguments to its end; returns the seconds that it took.

    Raises:
      StageError: it failed.
    """
    say(f"      {as_typed(arguments)}\n")
    start = time.monotonic()
    # Without bytecode each stage would take ten times longer to import TensorFlow and Beam.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    code = subprocess.run(
        [sys.executable, "-m", *arguments], env=environment, preexec_fn=die_with_parent
    ).returncode
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise StageError(
            f"stage {name!r} {how}, see above; when the cause is mended, the same command goes on"
        )
    return time.monotonic() - start


@contextlib.contextmanager
def exclusive(workdir: Path) -> Iterator[None]:
    """Makes the folder and keeps others out of it: two runs in one folder would write over each other.

    Raises:
      StageError: another run holds it, or it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("w")
    except OSError as error:
        raise StageError(f"the work folder {workdir} cannot be written: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageError(f"another run is at work in {workdir}: wait for it, or choose another folder") from None
        yield


def write_atomically(path: Path, *, content: str) -> None:
    """As `records.write_atomically`, for local files only and without TensorFlow, which the stages alone import."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)


def duration(seconds: float) -> str:
    """For people: `42 s`, `12 min 3 s`."""
    return f"{int(seconds // 60)} min {int(seconds % 60)} s" if seconds >= 60 else f"{seconds:.0f} s"


def die_with_parent() -> None:
    """A run that is killed takes its stage with it; else the next run would meet it in the same folder."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


_SAYING = threading.Lock()
# A fork that falls into what another thread says would find the terminal's own lock taken for ever.
os.register_at_fork(before=_SAYING.acquire, after_in_parent=_SAYING.release, after_in_child=_SAYING.release)


def say(line: str) -> None:
    """To the terminal, at once."""
    with _SAYING:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
