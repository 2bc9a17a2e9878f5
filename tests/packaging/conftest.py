"""The sdist and the wheel, built once from a copy of the checkout."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What setup.py and MANIFEST.in see of a checkout; the tests too, to see that they are left out.
_SEEN = ("beam_pipelines", "configs", "tests", "tf_rnnt_kd", "tools")


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def sdist(tmp_path_factory):
    """Path of the sdist, built where no earlier build has left anything."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in _SEEN:
        shutil.copytree(ROOT / name, folder / name)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    _python("-c", "from setuptools import build_meta; build_meta.build_sdist('dist')", cwd=folder)
    (made,) = (folder / "dist").iterdir()
    return made


@pytest.fixture(scope="session")
def wheel(sdist, tmp_path_factory):
    """Path of the wheel, built from the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    _python("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(sdist), cwd=folder)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """Folder of an environment that has the wheel and, beside it, the packages that it depends on; not the checkout."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    _python("-m", "venv", "--without-pip", str(folder), cwd=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    python = folder / "bin" / "python"
    _python("-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel), cwd=folder)
    # A plain path: .pth files within it, such as the one of the editable install, have no effect.
    mine = pathlib.Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{mine}\n")
    return folder


def _python(*arguments, cwd):
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
