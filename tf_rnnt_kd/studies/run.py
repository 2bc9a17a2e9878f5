"""Runs the jobs of a study that are not done, and again from where it stopped."""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tf_rnnt_kd.stages import call, duration, say, write_atomically
from tf_rnnt_kd.studies.jobs import Job
from tf_rnnt_kd.studies.plan import Study


class Runner:
    """Goes through a study's jobs.

    A job that is done has a marker WORKDIR/done/KEY.json {command, seconds, size, kind}. The jobs' own binaries resume
    what was begun, so a kill costs what the job that it fell into has not saved.

    Args:
      make: makes the Study anew; asked again whenever what follows depended on results.
      execute: (arguments, name=key) -> seconds; for tests.
    """

    def __init__(self, make: Callable[[], Study], *, execute: Callable[..., float] = call):
        self._make, self._execute = make, execute

    def run(self) -> Study:
        """Runs all jobs; returns the study as it was declared in the end.

        Raises:
          StageError: a job failed.
          ValueError: what follows is undecided although all jobs are done.
        """
        start = time.monotonic()
        while True:
            study = self._make()
            undecided = study.declare()
            left = [job for job in study.jobs.values() if done(study.workdir, job) is None]
            for index, job in enumerate(left):
                guess = remaining(left[index:], finished=markers(study.workdir))
                place = len(study.jobs) - len(left) + index + 1
                say(f"\n[{place}/{len(study.jobs)}{'+' if undecided else ''}] {job.title}")
                say(f"      {duration(time.monotonic() - start)} so far, {_about(guess, undecided=undecided)}")
                Path(study.workdir, job.kind).mkdir(parents=True, exist_ok=True)
                seconds = self._execute(job.arguments, name=job.key)
                content = {"command": job.command, "seconds": round(seconds, 1), "size": job.size, "kind": job.kind}
                marker = _marker(study.workdir, job)
                marker.parent.mkdir(exist_ok=True)
                write_atomically(marker, content=json.dumps(content, indent=1) + "\n")
            if undecided is None:
                return study
            if not left:
                raise ValueError(f"{study.definition.name}: all jobs are done, and it is still undecided {undecided}")


def done(workdir: str, job: Job) -> dict | None:
    """The marker of a finished job, else None."""
    marker = _marker(workdir, job)
    return json.loads(marker.read_text()) if marker.exists() else None


def markers(workdir: str) -> list[dict]:
    """Of all finished jobs in a work folder."""
    return [json.loads(path.read_text()) for path in sorted(Path(workdir, "done").glob("*.json"))]


def remaining(jobs: Iterable[Job], *, finished: Iterable[Mapping]) -> float | None:
    """Seconds that jobs will take, by the median of finished ones of their kind; None before one of each is known."""
    pace: dict[str, list[float]] = {}
    for marker in finished:
        pace.setdefault(marker["kind"], []).append(marker["seconds"] / marker["size"])
    try:
        return sum(job.size * statistics.median(pace[job.kind]) for job in jobs)
    except KeyError:
        return None


def _about(seconds, *, undecided):
    if seconds is None:
        return "the time left is not known yet"
    return f"about {duration(seconds)} left" + (f", and what depends on {undecided}" if undecided else "")


def _marker(workdir, job):
    return Path(workdir, "done", f"{job.key}.json")
