"""Writes the BUILD files of all packages from what their modules import.

    python -m tools.bazel_rules.build_files

A package is a library; a folder with programs has a target for each module. A test file is a target, with what its
folder's tests import. CI compares the tree with what this writes.
"""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from tools.bazel_rules.imports import ROOT, imported, mentioned, modules, started
from tools.bazel_rules.starlark import call, glob, joined

# Their modules are targets of their own, because programs lie there.
BY_MODULE = set(map(Path, ("tf_rnnt_kd", "beam_pipelines", "benchmarks", "tools", "tools/docs", "tools/engines")))
# What is no module but needed: pages, settings, a listing. By target.
DATA = {
    Path("tf_rnnt_kd/serving/server"): glob("page/*"),
    Path("tf_rnnt_kd/config_files"): ["//configs"],
    Path("tools/public_api"): glob("public_api.txt"),
}
# Tests of the checkout as a whole, its pages, scripts, images and packages: only `make test` has them.
OF_THE_CHECKOUT = ("containers", "docs", "engines", "packaging", "tools")
# So are these: of the tree, of the machine that a sandbox hides, of all programs in a row.
NOT_HERE = set(map(Path, ("tests/test_architecture.py", "tests/health/test_doctor.py", "tests/test_demo.py")))
# What tests read by its path.
TEST_DATA = {
    Path("tests"): {"//configs"},
    Path("tests/benchmarks"): {"//tests/beam_pipelines:helpers"},
    Path("tests/losses"): {"//configs"},
    Path("tests/serving"): {"//:docs"},
    Path("tests/serving/server"): {"//:serving"},
    Path("tests/studies"): {"//configs"},
    Path("tests/training"): {"//configs"},
}
FILES = {
    Path(): [
        call("exports_files", ["pyproject.toml"]),
        call("filegroup", name="docs", srcs=glob("docs/**/*.md", "docs/*.py")),
        call("filegroup", name="serving", srcs=glob("serving/*")),
    ],
    Path("configs"): [call("filegroup", name="configs", srcs=glob("**/*.py"))],
}
_HEADER = "# Written by `make bazel-files` from what the modules import.\n"
_PUBLIC = call("package", default_visibility=["//visibility:public"])


def build_files() -> dict[Path, str]:
    """All that is written: content by path below ROOT."""
    parts = {folder: [_PUBLIC, *texts] for folder, texts in FILES.items()}
    for folder in sorted({path.parent for path in modules().values()}):
        if targets := _package(folder):
            parts[folder] = [_PUBLIC, *targets]
    for folder in _test_folders():
        load, tests = _tests(folder)
        parts[folder] = [load, _PUBLIC, tests]
    return {folder / "BUILD.bazel": "\n".join([_HEADER, *texts]) for folder, texts in parts.items()}


def written_before() -> set[Path]:
    """BUILD files in the tree that came from here, below ROOT."""
    tops = {path.parts[0] for path in modules().values()} | {"configs", "tests"}
    found = [ROOT / "BUILD.bazel", *(path for top in sorted(tops) for path in (ROOT / top).rglob("BUILD.bazel"))]
    return {path.relative_to(ROOT) for path in found if path.exists()}


def main() -> None:
    wanted = build_files()
    for path in written_before() - wanted.keys():
        (ROOT / path).unlink()
    for path, text in wanted.items():
        (ROOT / path).write_text(text, encoding="utf-8")


def _package(folder: Path) -> list[str]:
    files = [path for path in modules().values() if path.parent == folder]
    if folder == Path("tools/bazel_rules"):
        return [call("exports_files", ["run_pytest.py"])]
    if folder in BY_MODULE:
        return [_module(path) for path in sorted(files)]
    if _owner(folder) != folder:
        return []
    return [_library(folder), *(_module(path) for path in sorted(files) if _is_program(path))]


def _library(folder: Path) -> str:
    """Of a package and what belongs to it."""
    files = [path for path in modules().values() if _owner(path.parent) == folder and path.name != "__main__.py"]
    nested = any(path.parent != folder for path in files)
    has_main = (ROOT / folder / "__main__.py").exists()
    deps, data = _needs(files, folder)
    return call(
        "py_library",
        name=folder.name,
        srcs=glob("**/*.py" if nested else "*.py", exclude=["__main__.py"] if has_main else []),
        data=joined(DATA.get(folder), data),
        deps=deps,
    )


def _module(path: Path) -> str:
    """A program, or a module of a folder of BY_MODULE."""
    folder = path.parent
    name = {"__init__": folder.name, "__main__": "main"}.get(path.stem, path.stem)
    deps, data = _needs([path], folder)
    return call(
        "py_binary" if _is_program(path) else "py_library",
        name=name,
        srcs=[path.name],
        main=path.name if path.name == "__main__.py" else None,
        data=joined(DATA.get(path.with_suffix("")), data),
        deps=deps,
    )


def _needs(files: list[Path], folder: Path) -> tuple[list[str], list[str]]:
    """(deps, data) of a target of these files in a folder."""
    # A program of a package has its package's library as any other has.
    own = None if len(files) == 1 and folder not in BY_MODULE else _label(files[0])
    inits = [parent / "__init__.py" for parent in files[0].parents]
    packages = {_label(path) for path in inits if (ROOT / path).exists()}
    deps = _with_packages(_labels(files, imported) - {own}, packages - {own})
    return _listed(deps, str(folder)), _listed(_labels(files, started) - deps - {own}, str(folder))


def _tests(folder: Path) -> list[str]:
    files = sorted(path.relative_to(ROOT) for path in (ROOT / folder).glob("*.py"))
    files = [path for path in files if path not in NOT_HERE]
    tests = [path for path in files if path.name.startswith("test_")]
    # Helpers are imported by their bare name; those of other folders too.
    helpers = {path.stem: path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py")}
    helpers |= {path.stem: path for path in files}
    lent = set().union(*(imported(path, by_name=helpers) for path in files)) & set(tests)  # their fixtures, to others
    shared = [path for path in files if path not in tests or path in lent]

    def needs(some: list[Path]) -> set[str]:
        used = set().union(*(imported(path, by_name=helpers) for path in some))
        of_tests = {path for path in used if path.parts[0] == "tests"}
        ours = _with_packages({_label(path) for path in used - of_tests}, set())
        return ours | {f"//{path.parent}:helpers" for path in of_tests if path.parent != folder}

    deps, helper_deps = needs(files), needs(shared)
    if (ROOT / folder.parent / "conftest.py").exists():
        helper_deps.add(f"//{folder.parent}:helpers")
    data = _labels(files, mentioned) - deps | TEST_DATA.get(folder, set())
    return [
        'load("//tools/bazel_rules:pytest.bzl", "pytest_tests")\n',
        call(
            "pytest_tests",
            name="tests",
            srcs=glob("test_*.py", exclude=sorted(path.name for path in NOT_HERE if path.parent == folder)),
            helpers=[path.name for path in shared],
            helper_deps=_listed(helper_deps, str(folder)),
            data=_listed(data, str(folder)),
            deps=_listed(deps - helper_deps, str(folder)),
        ),
    ]


def _is_program(path: Path) -> bool:
    return '__name__ == "__main__"' in (ROOT / path).read_text(encoding="utf-8")


def _test_folders() -> list[Path]:
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    return sorted(folder for folder in folders if not set(folder.parts) & set(OF_THE_CHECKOUT))


@functools.cache
def _owner(folder: Path) -> Path:
    """The package that a folder's modules belong to: its parent where that imports it, which would be a circle."""
    parent = folder.parent
    if parent in BY_MODULE or parent == Path():
        return folder
    of_parent = [path for path in modules().values() if path.parent == parent]
    circle = any(path.parent == folder for one in of_parent for path in imported(one))
    return _owner(parent) if circle else folder


def _label(path: Path) -> str:
    """Of the target that holds a module."""
    folder = path.parent
    if path.name == "__main__.py":
        return f"//{folder}:main"
    if folder in BY_MODULE:
        return f"//{folder}" if path.name == "__init__.py" else f"//{folder}:{path.stem}"
    return f"//{_owner(folder)}"


def _with_packages(labels: set[str], packages: set[str]) -> set[str]:
    """Adds packages; those of BY_MODULE, which come with any of their modules, only where there is none of these."""
    bare = {f"//{folder}" for folder in BY_MODULE}
    found = labels - bare
    for label in sorted(packages | labels & bare, reverse=True):
        if not any(_within(other, label[2:]) for other in found):
            found.add(label)
    return found


def _within(label: str, folder: str) -> bool:
    return label == f"//{folder}" or label.startswith((f"//{folder}/", f"//{folder}:"))


def _listed(labels: Iterable[str], folder: str) -> list[str]:
    """In the order of Bazel's formatter: those of the same folder first, and without its name."""
    near = {label for label in labels if label.startswith(f"//{folder}:")}
    near |= {label for label in labels if label == f"//{folder}" and ":" not in label}
    far = sorted(set(labels) - near, key=lambda label: label.split(":"))
    name = folder.rpartition("/")[2]
    return sorted(label.removeprefix(f"//{folder}") or f":{name}" for label in near) + far


def _labels(paths: Iterable[Path], needs: Callable[[Path], set[Path]]) -> set[str]:
    """Targets of what files need."""
    return {_label(needed) for path in paths for needed in needs(path)}


if __name__ == "__main__":
    main()
