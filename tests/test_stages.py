"""The stage runner with small Python modules as binaries: order, resuming, failure, and being killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tf_rnnt_kd import stages
from tf_rnnt_kd.stages import Runner, Stage, StageError

_MODULE = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "log").open("a") as log:
    log.write(sys.argv[2] + (" bytecode" if not sys.dont_write_bytecode else "") + "\\n")
if (folder / f"fail-{sys.argv[2]}").exists():
    sys.exit(3)
while (folder / f"hang-{sys.argv[2]}").exists():
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(0.05)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "stage_stub.py").write_text(_MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return tmp_path


def _stages(folder, *names, always=()):
    return [
        Stage(
            name, f"Do {name}", "report" if name == "report" else "x", ("stage_stub", str(folder), name), name in always
        )
        for name in names
    ]


def _run(folder, *names, always=()):
    (folder / "log").write_text("")
    Runner(folder, stages=lambda: _stages(folder, *names, always=always)).run()
    return [line.split()[0] for line in (folder / "log").read_text().splitlines()]


def test_runs_in_order_once_then_only_what_must(folder):
    assert _run(folder, "a", "b", "report", always=("report",)) == ["a", "b", "report"]
    assert "a bytecode" in (folder / "log").read_text()
    assert _run(folder, "a", "b", "report", always=("report",)) == ["report"]
    commands = [json.loads(line) for line in (folder / "commands.jsonl").read_text().splitlines()]
    assert [entry["title"] for entry in commands] == ["Do a", "Do b", "Do report"]
    assert commands[0]["command"] == f"python -m stage_stub {folder} a" and commands[0]["seconds"] >= 0


def test_failure_stops_and_the_next_run_goes_on(folder):
    (folder / "fail-b").touch()
    with pytest.raises(StageError, match="stage 'b' ended with code 3"):
        _run(folder, "a", "b", "c")
    (folder / "fail-b").unlink()
    assert _run(folder, "a", "b", "c") == ["b", "c"]


def test_a_stage_that_runs_makes_later_ones_run(folder):
    _run(folder, "a", "b", "c")
    content = json.loads((folder / "stages.json").read_text())
    content["b"]["command"] = "another"
    (folder / "stages.json").write_text(json.dumps(content))
    assert _run(folder, "a", "b", "c") == ["b", "c"]


def test_later_stages_may_depend_on_earlier_ones(folder):
    def plan():
        best = "x" if (folder / "log").exists() and "a" in (folder / "log").read_text() else "unknown"
        return [*_stages(folder, "a"), Stage("b", "B", "x", ("stage_stub", str(folder), best))]

    Runner(folder, stages=plan).run()
    assert [line.split()[0] for line in (folder / "log").read_text().splitlines()] == ["a", "x"]


def test_only_one_run_in_a_folder(folder):
    with (
        stages.exclusive(folder / "run"),
        pytest.raises(StageError, match="another run"),
        stages.exclusive(folder / "run"),
    ):
        pass
    with stages.exclusive(folder / "run"):  # free again
        pass
    (folder / "file").touch()
    with pytest.raises(StageError, match="cannot be written"), stages.exclusive(folder / "file" / "run"):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a child that dies with its parent needs Linux")
def test_a_killed_run_takes_its_stage_with_it(folder):
    (folder / "hang-a").touch()
    script = f"""
        import pathlib
        from tf_rnnt_kd.stages import Runner, Stage
        folder = pathlib.Path({str(folder)!r})
        Runner(folder, stages=lambda: [Stage("a", "A", "x", ("stage_stub", str(folder), "a"))]).run()
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.DEVNULL)
    child = int(_wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait_for(lambda: not _runs(child))
    (folder / "hang-a").unlink()
    assert _run(folder, "a") == ["a"]


def _runs(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def _wait_for(condition, *, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return value
