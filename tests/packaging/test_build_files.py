"""The BUILD files in the tree are those of its imports, and what they are made from reads imports right."""

import ast
import pathlib
import re

import pytest

from tf_rnnt_kd.programs import PROGRAMS
from tools.bazel_rules import build_files, imports
from tools.bazel_rules.imports import ROOT

_CALLS = {"py_library", "py_binary", "filegroup", "pytest_tests", "exports_files", "package", "load"}


@pytest.fixture(scope="module")
def targets():
    """(label, {argument: value}) of all rules in the tree, by Python's parser: the files' syntax is Python's too."""
    found = {}
    for path in build_files.written_before():
        for node in ast.parse((ROOT / path).read_text()).body:
            assert isinstance(node.value, ast.Call) and node.value.func.id in _CALLS, path
            given = {keyword.arg: keyword.value for keyword in node.value.keywords}
            if "name" in given:
                folder = "" if path.parent == pathlib.Path() else str(path.parent)
                found[f"//{folder}:{given['name'].value}"] = (folder, given)
    return found


def _labels(folder, value):
    """Full labels of a list of them; of files that a pattern names, none."""
    if not isinstance(value, ast.List):
        return set()
    names = {one.value for one in value.elts}
    short = {f"//{folder}{name}" if name.startswith(":") else name for name in names}
    return {label if ":" in label else f"{label}:{label.rpartition('/')[2]}" for label in short}


def test_the_tree_has_what_would_be_written():
    wanted, there = build_files.build_files(), build_files.written_before()
    differ = {path for path in wanted if path not in there or (ROOT / path).read_text() != wanted[path]}
    assert not differ | there - wanted.keys(), "run `make bazel-files`"


def test_all_labels_exist_and_there_is_no_circle(targets):
    needs = {
        label: set().union(*(_labels(folder, given.get(argument)) for argument in ("data", "deps", "helper_deps")))
        for label, (folder, given) in targets.items()
    }
    known = needs.keys() | {f"{label.partition(':')[0]}:helpers" for label in needs if label.endswith(":tests")}
    assert set().union(*needs.values()) <= known
    left = {label: {need for need in found if need in needs} for label, found in needs.items()}
    while free := {label for label, found in left.items() if not found}:
        left = {label: found - free for label, found in left.items() if label not in free}
    assert not left, "these need each other"


def test_every_package_and_test_folder_has_targets(targets):
    folders = {folder for folder, _ in targets.values()}
    packages = {path.parent for top in ("tf_rnnt_kd", "beam_pipelines") for path in (ROOT / top).rglob("*.py")}
    for package in packages:
        relative = package.relative_to(ROOT)
        owners = {str(relative), str(relative.parent)}  # records/codecs belongs to records, which imports it
        assert owners & folders, relative
    tested = {path.parent.relative_to(ROOT).parts for path in (ROOT / "tests").rglob("test_*.py")}
    for parts in tested:
        assert "/".join(parts) in folders or set(parts) & set(build_files.OF_THE_CHECKOUT), parts


def test_programs_can_be_run_and_say_so(targets):
    for module in PROGRAMS.values():
        folder, name = module.rpartition(".")[::2]
        label = f"//{folder.replace('.', '/')}:{'main' if name == '__main__' else name}"
        assert label in targets, module


def test_labels_commands_and_links_of_the_pages_exist(targets):
    names = ("docs/how_to/bazel.md", "docs/how_to/install.md", "CONTRIBUTING.md")
    pages = {name: (ROOT / name).read_text() for name in names}
    rules = re.findall(r"//[\w/]+:\w+", pages["docs/how_to/bazel.md"])
    assert len(rules) > 5
    for label in rules:
        folder, name = label[2:].split(":")
        is_test = (ROOT / folder / f"{name}.py").exists() and f"//{folder}:tests" in targets
        assert label in targets or is_test, label
    makefile = (ROOT / "Makefile").read_text()
    for page, text in pages.items():
        assert set(re.findall(r"rnnt-kd-[a-z][a-z-]*", text)) <= PROGRAMS.keys(), page
        goals = set(re.findall(r"\bmake ([a-z-]+)", text)) - {"it"}
        assert goals and all(f"\n{goal}:" in makefile for goal in goals), page
        for link in re.findall(r"\]\(([^):#]+)\)", text):
            assert (ROOT / page).parent.joinpath(link).exists(), link


def test_imports_are_found_anywhere_in_a_file_and_names_in_strings(tmp_path, monkeypatch):
    package = tmp_path / "tf_rnnt_kd"
    for name, text in {
        "__init__.py": "",
        "a.py": "import tf_rnnt_kd.b\n\ndef f():\n    from tf_rnnt_kd import c\n    from tf_rnnt_kd.d import x\n",
        "b.py": "COMMAND = ['-m', 'tf_rnnt_kd.d']\nPROSE = 'see tf_rnnt_kd.c, or'\n",
        "c.py": "import helper\n",
        "d/__init__.py": "x = 1\n",
        "d/__main__.py": "",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    cached = (imports.modules, imports._parsed, imports._imports, imports._strings)
    for function in cached:
        function.cache_clear()
    try:
        known = imports.modules()
        path = {name.rpartition(".")[2]: path for name, path in known.items()}
        assert imports.imported(path["a"]) == {path[name] for name in ("tf_rnnt_kd", "b", "c", "d")}
        assert imports.started(path["b"]) == {path["__main__"]}
        assert imports.mentioned(path["b"]) == {path["__main__"], path["c"]}
        assert imports.imported(path["c"]) == set()
        assert imports.imported(path["c"], by_name={"helper": path["a"]}) == {path["a"]}
    finally:
        for function in cached:
            function.cache_clear()
