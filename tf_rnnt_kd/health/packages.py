"""The interpreter and the installed packages, against what the project is pinned to. Imports nothing slow."""

import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tf_rnnt_kd.health.finding import ERROR, NOTE, OK, WARNING, Finding

DISTRIBUTION = "tf-rnnt-kd"
_LOCKS = Path(__file__).parents[2] / "requirements"
_NAMED = 5


def interpreter() -> Iterator[Finding]:
    """Python, and the machine it was built for."""
    version, machine = platform.python_version(), platform.machine()
    if sys.version_info[:2] in ((3, 10), (3, 11)) and sys.platform == "linux":
        yield Finding(OK, f"Python {version} on {platform.system()} {machine}")
    else:
        remedy = "use Python 3.10 or 3.11 on Linux: tensorflow-text 2.17 and tensorflow-io 0.37 exist for no other"
        yield Finding(ERROR, f"Python {version} on {platform.system()} {machine}", remedy)
    if sys.prefix == sys.base_prefix:
        yield Finding(NOTE, "no virtual environment: other projects may change these packages")


def required() -> Iterator[Finding]:
    """What setup.py requires, and what it leaves to extras."""
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Finding(WARNING, f"{DISTRIBUTION} is not installed: versions are not checked", "pip install -e .")
        return
    wanted = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    for problem, requirement in _problems(wanted):
        yield Finding(ERROR, problem, f"pip install '{requirement}'")
    if not list(_problems(wanted)):
        yield Finding(OK, f"{len(wanted)} required packages have versions that work together")
    for extra in sorted(importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ()):
        of_extra = [
            one for one in requirements
            if one not in wanted and one.marker is not None and one.marker.evaluate({"extra": extra})
        ]
        problems = [problem for problem, _ in _problems(of_extra)]
        if problems:
            remedy = f"pip install '{DISTRIBUTION}[{extra}]', if you want it"
            yield Finding(NOTE, f"extra [{extra}]: {'; '.join(problems)}", remedy)
        else:
            yield Finding(OK, f"extra [{extra}] is there")


def locked() -> Iterator[Finding]:
    """Of a checkout: the lock that tests and figures belong to."""
    lock = _LOCKS / f"python{sys.version_info.major}.{sys.version_info.minor}.lock"
    if not lock.exists():
        return
    pins = [Requirement(line) for line in lock.read_text().splitlines() if "==" in line]
    problems = [problem for problem, _ in _problems(pins)]
    if problems:
        more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        named = "; ".join(problems[:_NAMED])
        yield Finding(WARNING, f"not as in requirements/{lock.name}: {named}{more}", "make venv")
    else:
        yield Finding(OK, f"{len(pins)} packages are those of requirements/{lock.name}")


def _problems(requirements) -> Iterator[tuple[str, Requirement]]:
    for requirement in requirements:
        if requirement.marker is not None and "extra" not in str(requirement.marker) and not (
            requirement.marker.evaluate()
        ):
            continue
        name = canonicalize_name(requirement.name)
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed", requirement
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} is {version}, not {requirement.specifier}", requirement
