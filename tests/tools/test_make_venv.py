"""tools/make_venv.sh with a stub in place of Python, which notes what it was asked."""

import os
import pathlib
import shutil
import subprocess

import pytest

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_STUB = """#!/bin/bash
case "$*" in
  *version_info*) echo "${STUB_VERSION:-3.11}" ;;
  *ensurepip*) exit 0 ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-m pip install "*) echo "$*" >>"$STUB_LOG"; echo "${PYTHONDONTWRITEBYTECODE-writes bytecode}" >>"$STUB_LOG"
    exit "${STUB_PIP_CODE:-0}" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A folder with the script, a lock of two packages, and `python3.11` on the path."""
    (tmp_path / "tools").mkdir()
    shutil.copy(_PROJECT / "tools" / "make_venv.sh", tmp_path / "tools")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "python3.11.lock").write_text("a==1\nb==2\n")
    (tmp_path / "tf_rnnt_kd").mkdir()
    for name in ("setup.py", "pyproject.toml", "tf_rnnt_kd/programs.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "python3.11"
    stub.write_text(_STUB)
    stub.chmod(0o755)
    return tmp_path


def _call(checkout, **environment):
    """(exit code, what it said, what pip was asked since the call began)."""
    log = checkout / "log"
    log.write_text("")
    environment = {
        "PATH": f"{checkout / 'bin'}:{os.defpath}",
        "HOME": str(checkout),
        "STUB_LOG": str(log),
        "PYTHONDONTWRITEBYTECODE": "1",
        **environment,
    }
    done = subprocess.run(
        ["bash", checkout / "tools" / "make_venv.sh"], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr, [line for line in log.read_text().splitlines() if line.startswith("-m pip")]


def test_installs_lock_then_project_then_nothing(checkout):
    code, _, calls = _call(checkout)
    assert code == 0
    assert len(calls) == 2
    assert "--no-deps" in calls[0] and "--compile" in calls[0] and "-r requirements/python3.11.lock" in calls[0]
    assert "--no-deps --no-build-isolation -e ." in calls[1]
    assert (checkout / "log").read_text().splitlines()[1] == "writes bytecode"
    assert _call(checkout) == (0, "", [])


def test_changed_lock_is_installed_anew_and_changed_project_alone(checkout):
    _call(checkout)
    (checkout / "setup.py").write_text("# another")
    assert len(_call(checkout)[2]) == 1
    (checkout / "requirements" / "python3.11.lock").write_text("a==1\nb==3\n")
    (checkout / ".venv" / "old").touch()
    assert len(_call(checkout)[2]) == 2
    assert not (checkout / ".venv" / "old").exists()


def test_an_active_environment_is_not_made_of_itself(checkout):
    _call(checkout)
    (checkout / ".venv" / "bin" / "python3.11").symlink_to("python")
    (checkout / "requirements" / "python3.11.lock").write_text("a==2\nb==2\n")
    code, said, calls = _call(checkout, PATH=f"{checkout / '.venv/bin'}:{checkout / 'bin'}:{os.defpath}")
    assert code == 0
    assert f"with {checkout / 'bin' / 'python3.11'} " in said
    assert len(calls) == 2


def test_interrupted_install_is_done_again(checkout):
    code, said, _ = _call(checkout, STUB_PIP_CODE="1")
    assert code == 1 and "nothing half-made is kept" in said
    half = checkout / ".venv" / "half"
    half.touch()
    code, _, calls = _call(checkout)
    assert code == 0 and len(calls) == 2 and not half.exists()


def test_moved_checkout_is_made_anew(checkout):
    _call(checkout)
    moved = checkout.with_name("moved")
    checkout.rename(moved)
    assert len(_call(moved)[2]) == 2


def test_foreign_folder_is_left_alone(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").touch()
    code, said, calls = _call(checkout)
    assert code == 1 and "was not made by this script" in said and not calls
    assert (checkout / ".venv" / "mine").exists()
    assert _call(checkout, VENV="other")[0] == 0


def test_python_without_a_lock_or_that_does_not_run(checkout):
    code, said, _ = _call(checkout, PYTHON="python3.11", STUB_VERSION="3.12")
    assert code == 1 and "PYTHON=/path/to/python3.11" in said and len(said.splitlines()) == 1
    broken = checkout / "bin" / "python3.11"
    broken.rename(checkout / "bin" / "python3")
    broken.write_text("#!/bin/bash\nexit 127\n")  # as a version manager's shim without that version
    broken.chmod(0o755)
    code, said, _ = _call(checkout)
    assert code == 0 and f"{checkout}/bin/python3 " in said
