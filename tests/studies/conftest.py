"""The toy study as fixtures."""

import pathlib
import sys

import pytest

from tf_rnnt_kd.studies import Definition, Study

# --import-mode=importlib gives tests no package; what they share is imported by name.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

from toy_study import toy_config, toy_study


@pytest.fixture
def definition():
    return Definition("toy", "toy.py", "A toy", "Does it run?", toy_config, toy_study, {"train.steps": 3})


@pytest.fixture
def make(definition, tmp_path):
    """Makes the study in a temporary work folder; keyword arguments as of Study."""

    def make(**changes):
        arguments = {"workdir": str(tmp_path / "work"), "corpus": "speech", "seeds": (1, 2)} | changes
        return Study(arguments.pop("definition", definition), **arguments)

    return make
