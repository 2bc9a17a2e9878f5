"""A small teacher and a small streaming student, exported once."""

import sys
from pathlib import Path

import pytest

# --import-mode=importlib gives tests no package; the helpers here are imported by name.
sys.path.insert(0, str(Path(__file__).parent))

from serving_models import export_model, make_audio  # noqa: E402


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    return export_model(tmp_path_factory, "teacher", None)


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    return export_model(tmp_path_factory, "student", 5)


@pytest.fixture(scope="session")
def audio():
    return make_audio()
