"""The Dockerfiles: linted, and of one mind with setup.py and the lock. Building them needs a container engine."""

import fnmatch
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import pytest
import setuptools
from packaging.requirements import Requirement

_ROOT = pathlib.Path(__file__).parents[2]
_FOLDER = _ROOT / "containers"
_NAMES = ("server", "trainer", "worker")
_WITH_PYTHON = ("trainer", "worker")


@pytest.fixture(scope="module")
def requirements():
    """What setup.py installs: {name: its versions}."""
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
        runpy.run_path(str(_ROOT / "setup.py"))
    return {found.name: found.specifier for found in map(Requirement, given["install_requires"])}


def _dockerfile(name):
    return _FOLDER / f"{name}.Dockerfile"


def _instructions(name, keyword):
    lines = [line for line in _dockerfile(name).read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [line.removeprefix(keyword).strip() for line in joined.splitlines() if line.startswith(f"{keyword} ")]


def _arguments(name):
    return dict(argument.partition("=")[::2] for argument in _instructions(name, "ARG"))


def _lock(version):
    lines = (_ROOT / "requirements" / f"python{version}.lock").read_text().splitlines()
    found = [Requirement(line) for line in lines if "==" in line]
    return {one.name.lower().replace("_", "-"): next(iter(one.specifier)).version for one in found}


def test_all_dockerfiles_are_tested_here():
    assert {path.name for path in _FOLDER.glob("*.Dockerfile")} == {f"{name}.Dockerfile" for name in _NAMES}


def test_the_linter_has_nothing_to_say():
    hadolint = pathlib.Path(sys.executable).with_name("hadolint")
    files = [_dockerfile(name) for name in _NAMES]
    done = subprocess.run([hadolint, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", _NAMES)
def test_bases_are_pinned_and_what_is_ours_to_choose_does_not_run_as_root(name):
    (image,) = _instructions(name, "FROM")
    for argument, value in _arguments(name).items():
        image = image.replace(f"${{{argument}}}", value)
    assert re.search(r":.*\d+\.\d+\.\d+", image), image
    users = _instructions(name, "USER")
    # Dataflow and Flink start the worker by its base's entry point, with the user of their choice.
    assert users == [] if name == "worker" else int(users[-1].partition(":")[0]) >= 1000


@pytest.mark.parametrize("name", _WITH_PYTHON)
def test_versions_are_those_of_setup_py_and_the_lock(name, requirements):
    arguments = _arguments(name)
    (image,) = _instructions(name, "FROM")
    (version,) = re.findall(r"python:?(3\.\d+)", image)
    assert f"requirements/python{version}.lock" in " ".join(_instructions(name, "COPY"))
    versions = {"tensorflow": arguments["TENSORFLOW_VERSION"]}
    if name == "worker":
        versions["apache-beam"] = arguments["BEAM_VERSION"]
    for package, pinned in versions.items():
        assert str(requirements[package]) == f"=={pinned}" and _lock(version)[package] == pinned


def test_the_locks_satisfy_setup_py_so_that_images_install_nothing_else(requirements):
    for version in ("3.10", "3.11"):
        lock = _lock(version)
        for name, specifier in requirements.items():
            assert specifier.contains(lock[name.lower().replace("_", "-")]), (version, name)


@pytest.mark.parametrize("name", _NAMES)
def test_what_is_copied_is_there_and_not_ignored(name):
    patterns = _FOLDER.joinpath(f"{name}.Dockerfile.dockerignore").read_text().split()
    copied = [source for line in _instructions(name, "COPY") for source in line.split()[:-1]]
    for source in copied:
        if source == "${MODEL}":  # an argument of the build
            continue
        assert (_ROOT / source).exists(), source
        kept = True
        for pattern in patterns:
            if fnmatch.fnmatch(source, pattern.lstrip("!")):
                kept = pattern.startswith("!")
        assert kept, source
    if name in _WITH_PYTHON:  # all that setup.py reads
        assert {"tf_rnnt_kd", "beam_pipelines", "configs", "setup.py", "pyproject.toml", "README.md"} <= set(copied)


def test_the_server_is_started_as_compose_starts_it():
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load((_ROOT / "serving" / "compose.yaml").read_text())["services"]["student"]
    (entry,) = _instructions("server", "ENTRYPOINT")
    words = shlex.split(entry.strip("[]").replace(",", " "))
    assert set(service["command"]) == set(words[1:]) - {"--port=8500", "--rest_api_port=8501"}
    assert _instructions("server", "FROM") == [service["image"]]
