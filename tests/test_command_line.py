"""What all binaries share, seen from outside: exit codes, one line per mistake, quiet logs."""

import os
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PROGRAM = """
import os
from absl import flags, logging
from tf_rnnt_kd import command_line

def define_flags(values):
    flags.DEFINE_string("output", None, "A folder.", flag_values=values)
    flags.DEFINE_string("split", None, "A split.", flag_values=values)

def body():
    command_line.require(flags.FLAGS, {"output=DIR": "where to"})
    command_line.require(flags.FLAGS, ("output", "split"))
    logging.info("an informing line")
    logging.warning("TensorFlow's level is " + os.environ["TF_CPP_MIN_LOG_LEVEL"])
    if flags.FLAGS.split == "wrong":
        raise ValueError("no such split")
    return 3 if flags.FLAGS.split == "three" else None

command_line.start(body, define_flags)
"""


@pytest.fixture
def run(tmp_path):
    program = tmp_path / "binary.py"
    program.write_text(_PROGRAM)
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, program, *arguments], capture_output=True, text=True, check=False,
            env={**environment, "PYTHONPATH": str(_ROOT)},
        )  # fmt: skip
        return done.returncode, done.stderr

    return call


def test_missing_flags_and_wrong_values_are_one_line(run):
    assert run() == (1, "binary: --output=DIR is missing: where to\n")
    assert run("--output=x") == (1, "binary: --split missing; see --help for an example\n")
    code, errors = run("--output=x", "--split=wrong")
    assert code == 1
    assert errors.splitlines()[-1] == "binary: no such split"
    code, errors = run("--output=x", "--split=y", "stray")
    assert code == 1
    assert "unexpected argument 'stray'" in errors


def test_only_warnings_are_logged_unless_more_is_asked_for(run):
    code, errors = run("--output=x", "--split=three")
    assert code == 3
    assert "informing" not in errors
    assert "TensorFlow's level is 3" in errors
    code, errors = run("--output=x", "--split=y", "--verbosity=0")
    assert code == 0
    assert "an informing line" in errors
