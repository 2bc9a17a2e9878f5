"""The folder that tells of a study: results.json, README.md and pictures."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_rnnt_kd.stages import duration, write_atomically
from tf_rnnt_kd.studies import page, pictures, run
from tf_rnnt_kd.studies.plan import Study

_PACKAGES = ("tensorflow", "keras", "apache-beam", "numpy")


def write(
    study: Study, summary: dict[str, Any], *, folder: Path, commands: Sequence[str], about: Sequence[str] = ()
) -> str:
    """Writes the folder of a study that was run.

    Args:
      study: with all its jobs done.
      summary: of results.summarise; {"made": provenance, commands, about} is added to it.
      commands: that make it again. about: paragraphs for the page.

    Returns:
      Tables and the page's path, for the terminal.
    """
    summary = summary | {"made": {**provenance(study), "commands": list(commands), "about": list(about)}}
    render(summary, folder)
    lines = ["", *page.table(summary), "", *page.claims(summary), *about, "", f"The page: {folder / 'README.md'}"]
    return "\n".join(lines) + "\n"


def render(summary: Mapping[str, Any], folder: Path) -> None:
    """Writes the folder of a summary with "made", as results.json holds it."""
    files = pictures.draw_all(summary, folder)
    made = summary["made"]
    text = page.render(summary, pictures=files, commands=made["commands"], about=[*made["about"], describe(made)])
    write_atomically(folder / "results.json", content=json.dumps(summary, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / "README.md", content=text)


def provenance(study: Study) -> dict[str, Any]:
    """What made the results: revisions of the code in the order of their jobs, numbers of jobs, seconds, machine."""
    markers = [marker for job in study.jobs.values() if (marker := run.done(study.workdir, job))]
    kinds = [marker["kind"] for marker in markers]
    return {
        "revisions": list(dict.fromkeys(marker.get("revision", "unknown") for marker in markers)),
        "jobs": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "seconds": round(sum(marker["seconds"] for marker in markers), 1),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def describe(made: dict[str, Any]) -> str:
    """Provenance in words."""
    jobs = ", ".join(f"{count} {kind}" for kind, count in made["jobs"].items())
    packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
    return (
        f"Revision {', '.join(made['revisions'])}. Jobs: {jobs}; together they took {duration(made['seconds'])} on "
        f"{made['cores']} cores ({made['machine']}), with Python {made['python']}, {packages}. `results.json` beside "
        "this page holds all numbers."
    )
