"""The workers' Dockerfile: linted, and of one mind with setup.py and the lock. Building it needs a container engine."""

import ast
import fnmatch
import pathlib
import re
import subprocess
import sys

from packaging.requirements import Requirement

_ROOT = pathlib.Path(__file__).parents[2]
_DOCKERFILE = _ROOT / "containers" / "worker.Dockerfile"


def _instructions(name):
    joined = _DOCKERFILE.read_text().replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in joined.splitlines() if line.startswith(f"{name} ")]


def _arguments():
    return dict(argument.split("=", 1) for argument in _instructions("ARG"))


def _requirements():
    """What setup.py installs, read without running it."""
    call = next(
        node for node in ast.walk(ast.parse((_ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )  # fmt: skip
    (listed,) = (keyword.value for keyword in call.keywords if keyword.arg == "install_requires")
    return {found.name: found.specifier for found in map(Requirement, ast.literal_eval(listed))}


def _lock(version):
    lines = (_ROOT / "requirements" / f"python{version}.lock").read_text().splitlines()
    found = [Requirement(line) for line in lines if "==" in line]
    return {one.name.lower().replace("_", "-"): next(iter(one.specifier)).version for one in found}


def test_the_linter_has_nothing_to_say():
    hadolint = pathlib.Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, _DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_versions_are_those_of_setup_py_and_the_lock():
    arguments, requirements = _arguments(), _requirements()
    assert str(requirements["apache-beam"]) == f"=={arguments['BEAM_VERSION']}"
    assert str(requirements["tensorflow"]) == f"=={arguments['TENSORFLOW_VERSION']}"
    (image,) = _instructions("FROM")
    (version,) = re.findall(r"beam_python(3\.\d+)_sdk", image)
    assert f"requirements/python{version}.lock" in " ".join(_instructions("COPY"))
    assert _lock(version)["apache-beam"] == arguments["BEAM_VERSION"]
    assert _lock(version)["tensorflow"] == arguments["TENSORFLOW_VERSION"]


def test_the_locks_satisfy_setup_py_so_that_workers_install_nothing_else():
    for version in ("3.10", "3.11"):
        lock = _lock(version)
        for name, specifier in _requirements().items():
            assert specifier.contains(lock[name.lower().replace("_", "-")]), (version, name)


def test_what_is_copied_is_there_and_not_ignored():
    patterns = _DOCKERFILE.with_name("worker.Dockerfile.dockerignore").read_text().split()
    for instruction in _instructions("COPY"):
        for source in instruction.split()[:-1]:
            assert (_ROOT / source).exists(), source
            kept = False
            for pattern in patterns:
                if fnmatch.fnmatch(source, pattern.lstrip("!")):
                    kept = pattern.startswith("!")
            assert kept, source
    # Every package that setup.py names is in the image.
    copied = " ".join(_instructions("COPY"))
    assert all(package in copied for package in ("tf_rnnt_kd", "beam_pipelines", "setup.py"))
