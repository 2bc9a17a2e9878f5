"""What the jobs of a study have found so far, for what it declares next and for what it reports."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tf_rnnt_kd.evaluation.results import Result
from tf_rnnt_kd.studies.jobs import System, Undecided


class Outcomes:
    """Of a study.

    Attributes:
      systems: by name.
      results: {(system's name, where, seed): JSON file of its evaluation}.
    """

    systems: Mapping[str, System]
    results: Mapping[tuple[str, str, int], str]

    def measured(self, system: System, where: str) -> list[Result]:
        """Of all its seeds.

        Raises:
          Undecided: not all of them are measured.
        """
        paths = [self.results[system.name, where, seed] for seed in system.folders]
        if not all(Path(path).exists() for path in paths):
            raise Undecided(f"the errors of {system.name} on {where}")
        return [Result.load(path) for path in paths]

    def best_on_dev(self, systems: Sequence[System]) -> System:
        """That of the lowest dev word error rate, averaged over its seeds.

        Raises:
          Undecided: not all of them are trained.
        """
        rates = {}
        for system in systems:
            found = [rate for folder in system.folders.values() if (rate := dev_wer(folder)) is not None]
            if len(found) < len(system.folders):
                raise Undecided(f"which of {', '.join(s.name for s in systems)} is best on dev")
            rates[system.name] = sum(found) / len(found)
        return self.systems[min(rates, key=rates.__getitem__)]


def dev_wer(folder: str) -> float | None:
    """Best dev word error rate of a finished training, else None."""
    done = Path(folder, "done.json")
    return json.loads(done.read_text())["best_dev_wer"] if done.exists() else None


def stored_bytes(labels: str) -> float:
    """What labelled records (DIR:split[,DIR:split...]) store of a teacher, in bytes per hour of audio."""
    info = json.loads(Path(labels.partition(":")[0], "dataset.json").read_text())
    return sum(artifact["bytes_per_hour"] for artifact in info["artifacts"].values())
