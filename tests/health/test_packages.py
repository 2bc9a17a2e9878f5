"""Versions against pins, as importlib.metadata gives them."""

import importlib.metadata
import sys

import pytest

from tf_rnnt_kd.health import ERROR, NOTE, OK, WARNING, packages

INSTALLED = {"keras": "3.15.1", "numpy": "1.26.4", "tensorflow": "2.17.1"}
WANTED = ["keras<=3.15.1,>=3.12.1", "numpy<2", 'old==1; python_version < "3"', 'new-thing>=2; extra == "gpu"']


@pytest.fixture
def installed(monkeypatch):
    """{name: version}, which a test may change."""
    versions = dict(INSTALLED)

    def version(name):
        try:
            return versions[name]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(name) from None

    class Metadata:
        def get_all(self, _):
            return ["gpu"]

    monkeypatch.setattr(packages.importlib.metadata, "version", version)
    monkeypatch.setattr(packages.importlib.metadata, "requires", lambda _: WANTED)
    monkeypatch.setattr(packages.importlib.metadata, "metadata", lambda _: Metadata())
    return versions


def test_what_fits_is_fine_and_an_extra_is_nobodys_duty(installed):
    found = list(packages.required())
    assert [one.level for one in found] == [OK, NOTE]
    assert "[gpu]: new-thing is not installed" in found[1].text
    assert found[1].remedy.startswith("pip install 'tf-rnnt-kd[gpu]'")
    installed["new-thing"] = "2.1"
    assert [one.level for one in packages.required()] == [OK, OK]


def test_what_is_missing_or_of_another_version_is_named_with_the_way_out(installed):
    installed["keras"] = "3.16.0"
    del installed["numpy"]
    wrong = [one for one in packages.required() if one.level == ERROR]
    assert [one.text for one in wrong] == ["keras is 3.16.0, not <=3.15.1,>=3.12.1", "numpy is not installed"]
    assert wrong[1].remedy == "pip install 'numpy<2'"


def test_not_installed_at_all(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.importlib.metadata, "requires", missing)
    (found,) = packages.required()
    assert found.level == WARNING and "pip install -e ." in found.remedy


def test_a_checkouts_lock(installed, monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "_LOCKS", tmp_path)
    assert not list(packages.locked())
    lock = tmp_path / f"python{sys.version_info.major}.{sys.version_info.minor}.lock"
    lock.write_text("keras==3.15.1\nnumpy==1.26.4\n# a comment\n")
    (found,) = packages.locked()
    assert found.level == OK and found.text.startswith("2 packages are those of")
    lock.write_text("".join(f"missing-{number}==1\n" for number in range(7)))
    (found,) = packages.locked()
    assert found.level == WARNING and found.remedy == "make venv" and found.text.endswith(" and 2 more")


def test_this_interpreter_is_one_that_the_project_runs_on(monkeypatch):
    assert OK in [one.level for one in packages.interpreter()]
    monkeypatch.setattr(packages.sys, "version_info", (3, 12, 1))
    (wrong,) = (one for one in packages.interpreter() if one.level == ERROR)
    assert "Python 3.10 or 3.11" in wrong.remedy
