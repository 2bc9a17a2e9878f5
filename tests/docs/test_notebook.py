"""The notebook runs from its first cell to its last, and what it shows is what it says."""

import json
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PATH = _ROOT / "notebooks" / "from_audio_to_student.ipynb"


def test_it_is_kept_without_outputs():
    notebook = nbformat.read(_PATH, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "clear all outputs before you save it"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(_PATH, as_version=4)
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(folder)}}).execute()
    return folder / "notebook_run", notebook


@pytest.mark.timeout(1800)
def test_it_goes_from_audio_to_a_distilled_student(executed):
    folder, notebook = executed
    results = json.loads((folder / "results.json").read_text())
    assert 0 <= results["student"] < 0.5 and 0 <= results["teacher"] < 0.5, "nothing was learnt"
    done = {name: json.loads((folder / name / "done.json").read_text()) for name in ("teacher", "student")}
    assert all(one["steps"] > 0 for one in done.values())
    config = json.loads((folder / "student" / "config.json").read_text())["config"]
    assert set(config["losses"]) == {"rnnt", "collapsed"}


def test_it_has_pictures(executed):
    _, notebook = executed
    shown = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(shown) >= 4
