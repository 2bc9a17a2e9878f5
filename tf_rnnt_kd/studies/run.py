"""Runs the jobs of a study that are not done, and again from where it stopped."""

import functools
import json
import queue
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tf_rnnt_kd.stages import call, duration, say, write_atomically
from tf_rnnt_kd.studies.jobs import Job
from tf_rnnt_kd.studies.plan import Study


class Runner:
    """Goes through a study's jobs.

    A job that is done has a marker WORKDIR/done/KEY.json {command, seconds, size, kind, revision}. The jobs' own
    binaries resume what was begun, so a kill costs what the job that it fell into has not saved. A training that
    another study did under another name is linked to, not done again.

    Args:
      make: makes the Study anew; asked again whenever what follows depended on results.
      execute: (arguments, name=key) -> seconds, called from threads; for tests.
      at_once: jobs that run at the same time, as far as none needs what another has not made yet.
    """

    def __init__(self, make: Callable[[], Study], *, execute: Callable[..., float] = call, at_once: int = 1):
        self._make, self._execute, self._at_once = make, execute, at_once
        self._start = time.monotonic()

    def run(self) -> Study:
        """Runs all jobs; returns the study as it was declared in the end.

        Raises:
          StageError: a job failed; those that ran beside it were let end.
          ValueError: what follows is undecided although all jobs are done.
        """
        while True:
            study = self._make()
            undecided = study.declare()
            left = [job for job in study.jobs.values() if done(study.workdir, job) is None]
            self._run_all(left, study=study, undecided=undecided)
            if undecided is None:
                return study
            if not left:
                raise ValueError(f"{study.definition.name}: all jobs are done, and it is still undecided {undecided}")

    def _run_all(self, left, *, study, undecided):
        finished, failure = markers(study.workdir), None
        running: list[Job] = []
        ended: queue.SimpleQueue = queue.SimpleQueue()

        def run(job):
            try:
                ended.put((job, self._run_one(job, study.workdir), None))
            except BaseException as error:  # for the thread that waits
                ended.put((job, None, error))

        while running or (left and failure is None):
            for job in [] if failure else _ready(left, running, self._at_once):
                self._announce(job, left, finished=finished, study=study, undecided=undecided)
                left = [other for other in left if other is not job]
                running.append(job)
                # Not a pool's, which a process that is forked from it would try to join when it ends.
                threading.Thread(target=run, args=(job,)).start()
            job, marker, error = ended.get()
            running.remove(job)
            failure = failure or error
            finished += [marker] if marker and marker["seconds"] else []
        if failure is not None:
            raise failure

    def _announce(self, job, left, *, finished, study, undecided):
        guess = remaining(left, finished=finished)
        guess = guess and guess / self._at_once
        place = len(study.jobs) - len(left) + 1
        say(f"\n[{place}/{len(study.jobs)}{'+' if undecided else ''}] {job.title}")
        say(f"      {duration(time.monotonic() - self._start)} so far, {_about(guess, undecided=undecided)}")

    def _run_one(self, job, workdir):
        """Its marker."""
        Path(workdir, job.kind).mkdir(parents=True, exist_ok=True)
        content = {"command": job.command, "size": job.size, "kind": job.kind, "revision": revision()}
        twin = _twin(workdir, job)
        if twin:
            say(f"      is what {twin} is already")
            _link(Path(workdir, job.kind), job.key, twin)
        content["seconds"] = 0.0 if twin else round(self._execute(job.arguments, name=job.key), 1)
        marker = _marker(workdir, job)
        marker.parent.mkdir(exist_ok=True)
        write_atomically(marker, content=json.dumps(content, indent=1) + "\n")
        return content


def _ready(left, running, at_once) -> list[Job]:
    """The first jobs that can run beside those that do: as many as there is room for.

    Jobs name the folders that they read, so one that names an unfinished job's folder waits for it; so does a training
    that another, which is not finished, is a twin of.
    """
    chosen: list[Job] = []
    for index, job in enumerate(left):
        if len(running) + len(chosen) >= at_once:
            break
        unfinished = [*running, *left[:index]]
        if not any(_needs(job, other) for other in unfinished):
            chosen.append(job)
    return chosen


def _needs(job, other) -> bool:
    same_training = job.kind == other.kind == "training" and _digest(job.key) == _digest(other.key)
    return same_training or any(other.key in argument for argument in job.arguments)


def done(workdir: str, job: Job) -> dict | None:
    """The marker of a finished job, else None."""
    marker = _marker(workdir, job)
    return json.loads(marker.read_text()) if marker.exists() else None


def markers(workdir: str) -> list[dict]:
    """Of all finished jobs in a work folder, without those that were linked."""
    found = [json.loads(path.read_text()) for path in sorted(Path(workdir, "done").glob("*.json"))]
    return [marker for marker in found if marker["seconds"]]


def remaining(jobs: Iterable[Job], *, finished: Iterable[Mapping]) -> float | None:
    """Seconds that jobs will take, by the median of finished ones of their kind; None before one of each is known."""
    pace: dict[str, list[float]] = {}
    for marker in finished:
        pace.setdefault(marker["kind"], []).append(marker["seconds"] / marker["size"])
    try:
        return sum(job.size * statistics.median(pace[job.kind]) for job in jobs)
    except KeyError:
        return None


@functools.cache
def revision() -> str:
    """Of the code when it was first asked for, as git describes it; "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return git.stdout.strip() or "unknown"


def _about(seconds, *, undecided):
    if seconds is None:
        return "the time left is not known yet"
    return f"about {duration(seconds)} left" + (f", and what depends on {undecided}" if undecided else "")


def _twin(workdir, job) -> str | None:
    """Key of a finished training of the same digest, which stands for the same settings and data."""
    if job.kind != "training":
        return None
    found = [path.stem for path in sorted(Path(workdir, "done").glob(f"*-{_digest(job.key)}.json"))]
    return next((key for key in found if Path(workdir, job.kind, key).is_dir()), None)


def _digest(key):
    return key.rpartition("-")[2]


def _link(folder, name, target):
    """What an interrupted run began under that name gives way."""
    place = folder / name
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def _marker(workdir, job):
    return Path(workdir, "done", f"{job.key}.json")
