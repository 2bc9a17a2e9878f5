"""Variables, room on the disk, programs."""

import collections
import os

import pytest

from tf_rnnt_kd.health import ERROR, NOTE, OK, WARNING, environment

_Usage = collections.namedtuple("_Usage", "total used free")


@pytest.mark.parametrize(
    ("environ", "level", "name"),
    [
        ({"PYTHONDONTWRITEBYTECODE": "1"}, WARNING, "PYTHONDONTWRITEBYTECODE"),
        ({"KERAS_BACKEND": "jax"}, ERROR, "KERAS_BACKEND"),
        ({"TF_USE_LEGACY_KERAS": "1"}, ERROR, "TF_USE_LEGACY_KERAS"),
    ],
)
def test_variables_that_lead_astray(environ, level, name):
    (found,) = environment.variables(environ)
    assert found.level == level and found.remedy == f"unset {name}"


def test_variables_that_do_no_harm():
    assert not list(environment.variables({"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"}))


@pytest.mark.parametrize(("gigabytes", "level"), [(0.5, ERROR), (5, WARNING), (50, OK)])
def test_room(tmp_path, monkeypatch, gigabytes, level):
    asked = []
    monkeypatch.setattr(
        environment.shutil, "disk_usage", lambda path: asked.append(path) or _Usage(0, 0, gigabytes * 1e9)
    )
    (found,) = environment.disk({"records": tmp_path / "not" / "yet"})
    assert found.level == level and f"{gigabytes:.1f} GB free in {tmp_path}, for records" in found.text
    assert asked == [tmp_path]


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(environment.os, "access", lambda path, mode: mode != os.W_OK)
    (found,) = environment.disk({"records": tmp_path})
    assert found.level == ERROR and "cannot be written" in found.text


def test_programs_that_only_some_jobs_need(monkeypatch):
    monkeypatch.setattr(environment.shutil, "which", lambda name: None if name == "go" else f"/bin/{name}")
    (found,) = environment.optional_programs()
    assert found.level == NOTE and found.text.endswith("go (make engines: Prism)")
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/bin/{name}")
    assert not list(environment.optional_programs())
