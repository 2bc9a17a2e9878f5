"""The export as a directory: complete or absent, never overwritten, described by its metadata."""

import json
import shutil

import numpy as np
import pytest

from tf_rnnt_kd.decoding import GreedySearch
from tf_rnnt_kd.serving import Recognizer, check_parity, describe_model, export_saved_model, read_metadata
from tf_rnnt_kd.serving import export as export_module
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer


def export_again(served, output, *, config=None):
    return export_saved_model(
        served.model,
        tokenizer=served.tokenizer,
        frontend=served.frontend,
        config=served.export.metadata["config"] if config is None else config,
        output_dir=output,
        search=GreedySearch(max_symbols_per_frame=2),
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


def test_the_same_model_again_changes_nothing(student):
    before = {path: path.stat().st_mtime_ns for path in student.path.rglob("*")}
    assert export_again(student, student.path).differences is None
    assert {path: path.stat().st_mtime_ns for path in student.path.rglob("*")} == before


def test_another_model_or_folder_is_not_overwritten(student, tmp_path):
    with pytest.raises(ValueError, match="holds another model"):
        export_again(student, student.path, config={"name": "other"})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="no export of ours"):
        export_again(student, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_export_that_fails_leaves_no_output_and_is_cleared_by_the_next(student, tmp_path, monkeypatch):
    output = tmp_path / "model"

    def save(recognizer, *, path):
        shutil.copytree(student.path, path, ignore=shutil.ignore_patterns("assets.extra"))

    def refuse(path, *, recognizer):
        assert (path / "assets.extra" / "metadata.json").exists()
        raise ValueError("differs")

    # Saving is tested by the fixture; here an earlier result of it stands in to save time.
    monkeypatch.setattr(export_module, "save_module", save)
    monkeypatch.setattr(export_module, "check_parity", refuse)
    with pytest.raises(ValueError, match="differs"):
        export_again(student, output)
    assert not output.exists()
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    (left[0] / "rubbish").write_text("of a killed export")
    monkeypatch.setattr(export_module, "check_parity", lambda path, *, recognizer: {})
    export_again(student, output)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (output / "rubbish").exists()
    assert read_metadata(output) == student.export.metadata


def test_parity_was_checked_for_every_signature(student, teacher):
    every = {"serving_default", "teacher", "teacher_forced", "score", "nbest", "hidden", "joint"}
    assert set(teacher.export.differences) == every
    assert set(student.export.differences) == every | {"stream_finalize"}
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
