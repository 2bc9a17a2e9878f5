"""The export as a directory: complete or absent, never overwritten, described by its metadata."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from tf_rnnt_kd.decoding import GreedySearch
from tf_rnnt_kd.model_versions import version_folder, versions
from tf_rnnt_kd.serving import Recognizer, check_parity, describe_model, export_saved_model, read_metadata
from tf_rnnt_kd.serving import export as export_module
from tf_rnnt_kd.serving.provenance import git_revision
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer


def export_again(served, output, *, config=None, version=None):
    return export_saved_model(
        served.model,
        tokenizer=served.tokenizer,
        frontend=served.frontend,
        config=served.export.metadata["config"] if config is None else config,
        output_dir=output,
        search=GreedySearch(max_symbols_per_frame=2),
        version=version,
    )


def test_metadata_says_what_a_user_must_know(student, teacher):
    metadata = json.loads((student.path / "assets.extra" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata == student.export.metadata == read_metadata(student.path)
    assert metadata["pieces"] == student.tokenizer.pieces
    assert metadata["tokenizer"] == {"hash": student.tokenizer.hash, "kind": "characters"}
    expected = {
        "blank_index": 0,
        "sample_rate": 16000,
        "frame_seconds": 0.08,
        "look_ahead_seconds": 0.0,
        "chunk_samples": 1280,
        "streaming": True,
        "search": {"max_symbols_per_frame": 2, "blank_penalty": 0.0},
        "joint": {
            "width": 12, "vocab_size": len(student.tokenizer.pieces), "activation": "tanh", "combination": "add",
            "factorised_blank": False,
        },
        "num_parameters": sum(int(np.prod(weight.shape)) for weight in student.model.weights),
        "config": {"name": "student"},
    }
    assert {key: metadata[key] for key in expected} == expected
    assert metadata["model_id"] != teacher.export.metadata["model_id"]
    whole = teacher.export.metadata
    assert (whole["streaming"], whole["chunk_samples"], whole["look_ahead_seconds"]) == (False, None, None)


def test_the_model_id_follows_weights_and_settings(student):
    def model_id(config):
        return describe_model(student.recognizer, config=config)["model_id"]

    first = model_id({"name": "student"})
    assert first == student.export.metadata["model_id"]
    assert model_id({"name": "other"}) != first
    bias = student.model.joint_bias.numpy()
    try:
        student.model.joint_bias.assign(bias + np.float32(1e-3))
        assert model_id({"name": "student"}) != first
    finally:
        student.model.joint_bias.assign(bias)


@pytest.fixture
def quick(student, monkeypatch):
    """Exports of the student without the work: an earlier SavedModel stands in. Saving is tested by the fixtures."""

    def save(recognizer, *, path):
        shutil.copytree(student.path, path, ignore=shutil.ignore_patterns("assets.extra"))

    monkeypatch.setattr(export_module, "save_module", save)
    monkeypatch.setattr(export_module, "check_parity", lambda path, *, recognizer: {"serving_default": 0.0})
    return monkeypatch


def test_the_same_model_again_changes_nothing(student):
    before = {path: path.stat().st_mtime_ns for path in student.path.parent.rglob("*")}
    again = export_again(student, student.path.parent)
    assert (again.path, again.differences) == (str(student.path), None)
    assert {path: path.stat().st_mtime_ns for path in student.path.parent.rglob("*")} == before


def test_versions_count_up_and_readers_take_the_highest(student, tmp_path, quick):
    base = tmp_path / "model"
    assert export_again(student, base).path == str(base / "1")
    assert export_again(student, base, config={"name": "other"}).path == str(base / "2")
    # By hand: not the next but the one after nine, and the first model once more so that servers go back to it.
    assert export_again(student, base, config={"name": "third"}, version=10).path == str(base / "10")
    assert export_again(student, base, version=11).path == str(base / "11")
    assert sorted(path.name for path in base.iterdir()) == ["1", "10", "11", "2"]
    assert version_folder(base) == version_folder(f"{base}/") == str(base / "11")
    assert version_folder(base / "2") == str(base / "2")
    # Without a number a model is where it is, in its newest version.
    assert export_again(student, base).path == str(base / "11")
    assert read_metadata(base / "11")["model_id"] == read_metadata(base / "1")["model_id"]
    (base / "12").mkdir()  # no SavedModel in it, yet not free
    assert export_again(student, base, config={"name": "last"}).path == str(base / "13")


def test_nothing_is_overwritten(student, tmp_path, quick):
    with pytest.raises(ValueError, match="holds another model"):
        export_again(student, student.path.parent, config={"name": "other"}, version=1)
    with pytest.raises(ValueError, match="is a model itself"):
        export_again(student, student.path)
    with pytest.raises(ValueError, match="from 1, not 0"):
        export_again(student, tmp_path, version=0)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "3").mkdir()
    with pytest.raises(ValueError, match="3 exists and is no export of ours"):
        export_again(student, tmp_path, version=3)
    with pytest.raises(ValueError, match="is a file"):
        export_again(student, tmp_path / "notes.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "notes.txt"]
    assert not list((tmp_path / "3").iterdir())


def test_two_at_once_do_not_take_the_same_number(student, tmp_path, quick):
    def save(recognizer, *, path):
        with pytest.raises(ValueError, match="another process exports"):
            export_again(student, tmp_path)
        shutil.copytree(student.path, path, ignore=shutil.ignore_patterns("assets.extra"))

    quick.setattr(export_module, "save_module", save)
    export_again(student, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_an_export_that_fails_leaves_no_version_and_is_cleared_by_the_next(student, tmp_path, quick):
    def refuse(path, *, recognizer):
        assert (path / "assets.extra" / "metadata.json").exists()
        raise ValueError("differs")

    quick.setattr(export_module, "check_parity", refuse)
    with pytest.raises(ValueError, match="differs"):
        export_again(student, tmp_path)
    assert versions(tmp_path) == [] and version_folder(tmp_path) == str(tmp_path)
    (left,) = tmp_path.iterdir()
    (left / "rubbish").write_text("of a killed export")
    quick.setattr(export_module, "check_parity", lambda path, *, recognizer: {})
    path = export_again(student, tmp_path).path
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert sorted(file.name for file in (tmp_path / "1" / "assets.extra").iterdir()) == [
        "metadata.json", "tf_serving_warmup_requests",
    ]
    assert not (tmp_path / "1" / "rubbish").exists()
    assert read_metadata(path) == student.export.metadata


def test_the_commit_is_named_where_there_is_one(tmp_path):
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", git_revision() or "0" * 40)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    assert git_revision(package) is None
    git = ["git", "-C", tmp_path, "-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert git_revision(package) is None  # within a repository, and not of it
    for arguments in (["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True)
    revision = git_revision(package)
    assert re.fullmatch(r"[0-9a-f]{40}", revision)
    (package / "__init__.py").write_text("changed = True")
    assert git_revision(package) == f"{revision}+changes"


def test_parity_was_checked_for_every_signature(student, teacher):
    every = {"serving_default", "teacher", "teacher_forced", "score", "nbest", "nbest_biased", "hidden", "joint"}
    assert set(teacher.export.differences) == every
    assert set(student.export.differences) == every | {"stream_finalize", "stream_ids"}
    assert max(student.export.differences.values()) < 1e-3


def test_parity_fails_on_other_weights(teacher):
    bias = teacher.model.joint_bias.numpy()
    try:
        teacher.model.joint_bias.assign(bias + [0.01, *np.zeros(len(bias) - 1)])
        with pytest.raises(ValueError, match="differ in"):
            check_parity(teacher.path, recognizer=teacher.recognizer)
    finally:
        teacher.model.joint_bias.assign(bias)


def test_parts_that_do_not_belong_together_are_refused(student):
    with pytest.raises(ValueError, match="different trainings"):
        Recognizer(student.model, tokenizer=Tokenizer.train_characters(["ABC"]), frontend=student.frontend)
    with pytest.raises(ValueError, match="20 features and the frontend gives 21"):
        Recognizer(student.model, tokenizer=student.tokenizer, frontend=LogMelFrontend(num_mel_bins=21))
