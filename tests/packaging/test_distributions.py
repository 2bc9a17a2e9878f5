"""What is built and installed: exactly the packages, programs that start, settings that are found from any folder."""

import email
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from packaging.requirements import Requirement

from tf_rnnt_kd.programs import PROGRAMS


def _sources(root):
    """Files of the packages and settings in the checkout, by where a wheel has them."""
    found = {}
    for top, target in (("tf_rnnt_kd", "tf_rnnt_kd"), ("beam_pipelines", "beam_pipelines"),
                        ("configs", "tf_rnnt_kd/configs")):  # fmt: skip
        for path in (root / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.name != "BUILD.bazel":
                found[f"{target}/{path.relative_to(root / top)}"] = path
    return found


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_wheel_has_the_packages_the_settings_and_nothing_else(wheel, root):
    sources = _sources(root)
    assert "tf_rnnt_kd/serving/server/page/index.html" in sources and "tf_rnnt_kd/configs/studies/hwang.py" in sources
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert inside == set(sources)
        assert all(archive.read(name) == path.read_bytes() for name, path in sources.items())
        information = {pathlib.PurePath(name).name for name in archive.namelist() if ".dist-info/" in name}
    assert information == {"LICENSE", "METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"}
    assert wheel.name == "tf_rnnt_kd-0.1.0-py3-none-any.whl"


def test_the_sdist_has_what_a_build_needs_and_nothing_else(sdist, root):
    sources = {str(path.relative_to(root)) for path in _sources(root).values()}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}
    egg = {name for name in names if ".egg-info/" in name}
    about = {"CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"}
    assert names - egg == sources | about | {"PKG-INFO", "setup.cfg"}


def test_the_licence_is_the_apache_licence_in_full(wheel, metadata):
    assert metadata["License"] == "Apache-2.0" or metadata["License-Expression"] == "Apache-2.0"
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
        text = archive.read(name).decode()
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text and len(text) > 11_000


def test_extras_and_requirements_are_what_requirements_in_names(metadata, root):
    # setup.py says what users need, requirements.in what the lock is made from: each name of one is in the other.
    named = {}
    for line in (root / "requirements" / "requirements.in").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            named.setdefault(_normal(requirement.name), []).append(requirement)
    required = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    assert {_normal(one.name) for one in required} == named.keys()
    for one in required:
        for pinned in named[_normal(one.name)]:
            versions = [specifier.version for specifier in pinned.specifier if specifier.operator == "=="]
            assert all(one.specifier.contains(version) for version in versions), (str(one), str(pinned))
    assert set(metadata.get_all("Provides-Extra")) == {"demo", "dev", "gcp", "gpu", "serving"}
    # The pages' `pip install 'tf-rnnt-kd[...]'`, and what the code says where one is missing.
    for folder in ("tf_rnnt_kd", "docs"):
        for path in (root / folder).rglob("*.[pm][yd]"):
            for extras in re.findall(r"tf-rnnt-kd\[([\w,]+)\]", path.read_text()):
                assert set(extras.split(",")) <= set(metadata.get_all("Provides-Extra")), path


def test_every_program_starts_from_the_wheel_and_shows_its_help(installed, tmp_path):
    scripts = sorted(path.name for path in (installed / "bin").glob("rnnt-kd-*"))
    assert scripts == sorted(PROGRAMS)
    # One process for all: each script's module, by the entry point that the wheel declares.
    program = (
        "import importlib.metadata, sys\n"
        "for script in importlib.metadata.entry_points(group='console_scripts'):\n"
        "    if script.name.startswith('rnnt-kd-'):\n"
        "        assert callable(script.load()), script\n"
        "        print(script.name, sys.modules[script.module].__file__)\n"
    )
    lines = _call(installed / "bin" / "python", "-c", program, cwd=tmp_path).stdout.splitlines()
    assert sorted(line.split()[0] for line in lines) == scripts
    assert all(line.split()[1].startswith(str(installed)) for line in lines), "found in the checkout"
    shown = _call(installed / "bin" / "rnnt-kd-train", "--help", cwd=tmp_path).stdout
    assert "--workdir" in shown and "--config" in shown


def test_settings_are_found_from_any_folder_and_a_file_of_that_name_there_comes_first(installed, tmp_path):
    train = installed / "bin" / "rnnt-kd-train"
    arguments = ("--workdir=run", "--train=none:train", "--dev=none:dev", "--tokenizer=none")
    done = _call(train, "--config=configs/demo.py:nobody", *arguments, cwd=tmp_path, status=1)
    assert "no variant 'nobody': choose one of teacher" in done.stderr
    done = _call(train, "--config=configs/nothing.py:teacher", *arguments, cwd=tmp_path, status=1)
    assert "--config=configs/nothing.py:teacher" in done.stderr
    assert "the project has configs/demo.py, configs/librispeech.py" in done.stderr
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.py").write_text("def get_config(variant):\n    raise ValueError('my own')\n")
    done = _call(train, "--config=configs/demo.py:nobody", *arguments, cwd=tmp_path, status=1)
    assert "my own" in done.stderr and "choose one of" not in done.stderr


def test_a_missing_extra_is_named_in_one_line(installed, tmp_path):
    # As where the extras are not installed: their modules cannot be found.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('aiohttp', 'prometheus_client', 'espeakng_loader'):\n    sys.modules[name] = None\n"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "model").mkdir()
    for extra, command in {
        "serving": ["rnnt-kd-serve", f"--model={tmp_path / 'model'}"],
        "demo": ["rnnt-kd-synthesize-corpus", f"--output={tmp_path / 'corpus'}", "--hours=0.01"],
    }.items():
        done = _call(installed / "bin" / command[0], *command[1:], cwd=tmp_path, status=1, **environment)
        line = done.stderr.splitlines()[-1]
        assert f"is not installed, which comes with the extra [{extra}]: pip install 'tf-rnnt-kd[{extra}]'" in line
        assert "Traceback" not in done.stderr


def test_other_pythons_are_refused_with_the_reason(root):
    for version, fits in (((3, 12, 1), False), ((3, 9, 18), False), ((3, 11, 0), True)):
        program = f"import runpy, sys; sys.version_info = {version}; runpy.run_path('setup.py')"
        command = [sys.executable, "-c", program, "--name"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if fits:
            assert done.stdout == "tf-rnnt-kd\n"
        else:
            assert done.returncode and f"this is {version[0]}.{version[1]}: tensorflow-text" in done.stderr


def _call(*command, cwd, status=0, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def _normal(name):
    return name.lower().replace("_", "-")
