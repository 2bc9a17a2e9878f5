"""`tf_rnnt_kd.export` and `tf_rnnt_kd.transcribe` as users start them."""

import os
import pathlib
import subprocess
import sys
import wave

import numpy as np
import pytest

from tf_rnnt_kd.serving import read_metadata
from tf_rnnt_kd.serving.local import LocalRecognizer
from tf_rnnt_kd.training.workdir import save_best, write_json


def start(module, *arguments, cwd=None):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if cwd:
        environment["PYTHONPATH"] = str(pathlib.Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", f"tf_rnnt_kd.{module}", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
    )


def write_wav(path, waveform):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes(np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())


def test_export_of_a_workdir(student, tmp_path):
    config = {
        "model": {
            "encoder": {"width": 16, "num_layers": 2, "num_heads": 2, "kernel_size": 3, "left_context": 5},
            "predictor": {"width": 8, "context_size": 2},
            "joint_width": 12,
        },
        "frontend": {"num_mel_bins": 20},
        "search": {"max_symbols_per_frame": 2, "blank_penalty": 0.0},
    }
    workdir, output = tmp_path / "work", tmp_path / "out" / "model"
    write_json(workdir / "config.json", {"config": config, "train": ["records:train"], "dev": "records:dev"})
    student.tokenizer.save(workdir / "tokenizer")
    save_best(workdir, model=student.model, step=7, dev_wer=0.25)
    first = start("export", f"--workdir={workdir}", f"--output={output}")
    assert first.returncode == 0, first.stderr
    assert "step 7, dev WER 25.00 %" in first.stdout
    assert "streams by 1280 samples" in first.stdout
    assert [path.name for path in output.iterdir()] == ["1"]
    card = read_metadata(output / "1")["card"]
    assert (card["dev_wer"], card["step"], card["train_records"]) == (0.25, 7, ["records:train"])
    second = start("export", f"--workdir={workdir}", f"--output={output}")
    assert second.returncode == 0, second.stderr
    assert f"{output}/1 is already done" in second.stdout


def test_transcribe_goes_on_after_bad_files(student, audio, tmp_path):
    expected = []
    for name, b in (("a.wav", 0), ("b.wav", 1)):
        waveform = audio[0][b, : audio[1][b]]
        write_wav(tmp_path / name, waveform)
        samples = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.float32)[None] / 32768
        text = student.recognizer.recognise(samples, audio[1][b : b + 1])["text"].numpy()[0].decode()
        expected.append(f"{name}\t{text}")
    (tmp_path / "empty.flac").touch()
    (tmp_path / "text.wav").write_text("not audio at all")
    result = start(
        "transcribe", f"--model={student.path}", "--batch_size=2",
        "empty.flac", "a.wav", "text.wav", "missing.wav", "b.wav", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stdout.splitlines() == expected
    errors = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in errors] == [
        ["empty.flac", "empty_file"], ["text.wav", "not_audio"], ["missing.wav", "missing_audio"],
    ]


@pytest.mark.parametrize(
    ("module", "arguments", "hint"),
    [
        ("export", [], "--workdir=DIR is missing"),
        ("export", ["--workdir=here"], "--output=DIR is missing"),
        ("export_lite", ["--output=there"], "--model=DIR is missing"),
        ("export_lite", ["--model=here", "--output=there"], "--model=here: there is no such file or folder"),
        ("transcribe", ["a.wav"], "--model=DIR is missing"),
        ("transcribe", ["--model=here"], "name at least one audio file"),
    ],
)
def test_what_is_missing_is_said_in_one_line(module, arguments, hint):
    result = start(module, *arguments)
    assert result.returncode == 1
    assert hint in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout


@pytest.mark.parametrize("module", ["export", "export_lite", "transcribe"])
def test_help_has_an_example(module):
    assert f"python -m tf_rnnt_kd.{module} --" in start(module, "--help").stdout


def test_a_folder_that_is_no_export(tmp_path):
    with pytest.raises(ValueError, match="no exported model: make one with"):
        LocalRecognizer(tmp_path)
