"""The house rules that machines can check: layers, lint, no machine's paths, binaries that only wire."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from tf_rnnt_kd.programs import PROGRAMS

_PROJECT = pathlib.Path(__file__).resolve().parents[1]
_BIN = pathlib.Path(sys.executable).parent
_PACKAGES = ("tf_rnnt_kd", "beam_pipelines")


def _lint_imports(folder):
    return subprocess.run(
        [_BIN / "lint-imports", "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True, check=False
    )


def _copy(tmp_path):
    for package in _PACKAGES:
        shutil.copytree(_PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


def test_arrows_run_downwards():
    done = _lint_imports(_PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "module, upward",
    [
        ("tf_rnnt_kd/lattice/__init__.py", "import tf_rnnt_kd.speech.frontend"),
        ("tf_rnnt_kd/records/schema.py", "import tf_rnnt_kd.training.trainer"),
        ("tf_rnnt_kd/speech/audio.py", "import tf_rnnt_kd.records.schema"),
        ("tf_rnnt_kd/training/trainer.py", "import tf_rnnt_kd.serving.export"),
        ("beam_pipelines/transforms/__init__.py", "import tf_rnnt_kd.models.transducer"),
        ("tf_rnnt_kd/evaluation/wer.py", "import tf_rnnt_kd.evaluate"),
    ],
)
def test_an_upward_import_would_be_found(tmp_path, module, upward):
    # Run where the copy is found first, so that the contract is checked on it and not on the installed packages.
    folder = _copy(tmp_path)
    path = folder / module
    path.write_text(path.read_text() + f"\n{upward}\n")
    done = _lint_imports(folder)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout, done.stdout + done.stderr


def test_ruff_is_clean():
    done = subprocess.run([_BIN / "ruff", "check", "."], cwd=_PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_module_of_a_library_defines_flags():
    # absl flags are process-wide: a library that defines one breaks every binary that imports two such.
    for package in _PACKAGES:
        for path in (_PROJECT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if "flags.DEFINE" in text or "DEFINE_config" in text:
                module = ".".join(path.relative_to(_PROJECT).with_suffix("").parts)
                assert module in PROGRAMS.values(), f"{module} defines a flag and is not in tf_rnnt_kd/programs.py"
                assert 'if __name__ == "__main__":' in text, f"{module} defines flags but cannot be run"
