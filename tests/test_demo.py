"""The demo in miniature: words are tones, the models tiny, and it is killed twice on the way."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from tf_rnnt_kd.records import DatasetInfo

_PROJECT = pathlib.Path(__file__).resolve().parents[1]
_HERTZ = {"GO": 300, "STOP": 600, "LEFT": 1200, "RIGHT": 2400}
_SIZES = {"train-labeled": 48, "train-unlabeled": 24, "dev": 8, "test": 8}
_TINY = [
    "frontend.num_mel_bins=20",
    "model.encoder.width=32",
    "model.encoder.num_layers=1",
    "model.encoder.num_heads=2",
    "model.encoder.kernel_size=3",
    "model.encoder.dropout=0.0",
    "model.predictor.width=16",
    "model.joint_width=32",
    "train.steps=100",
    "train.eval_every=50",
    "train.checkpoint_every=50",
    "train.jit_compile=False",
    "train.memory_limit_gb=-1",
    "optimizer.warmup_steps=10",
    "optimizer.peak_learning_rate=0.005",
    "optimizer.ema_decay=0.9",
    "data.frames_per_batch=1600",
    "data.num_buckets=1",
    "augment.freq_masks=0",
    "augment.time_masks=0",
    "augment.speed_factors=()",
]
_SYSTEMS = ["teacher", "student-labeled", "student-hard", "student-distill"]


def _make_corpus(root):
    """Words as tones in a little noise, eight utterances a speaker, in LibriSpeech layout."""
    generator = np.random.default_rng(0)
    speaker = 0
    for split, size in _SIZES.items():
        alignments = ["utt\tword\tstart_s\tend_s"]
        for index in range(size):
            if index % 8 == 0:
                speaker, lines = speaker + 1, []
            chapter = root / split / str(speaker) / "1"
            chapter.mkdir(parents=True, exist_ok=True)
            name = f"{speaker}-1-{index}"
            words = generator.choice(list(_HERTZ), generator.integers(1, 4))
            pieces, start = [np.zeros(1600)], 0.1
            for word in words:
                time_axis = np.arange(int(16000 * generator.uniform(0.2, 0.35))) / 16000
                pitch = _HERTZ[word] * (1 + 0.05 * generator.normal())
                tone = 0.3 * np.sin(2 * np.pi * pitch * time_axis) * np.hanning(len(time_axis)) ** 0.3
                pieces += [tone, np.zeros(2400)]
                alignments.append(f"{name}\t{word}\t{start:.3f}\t{start + len(tone) / 16000:.3f}")
                start += len(tone) / 16000 + 0.15
            waveform = np.concatenate(pieces)
            waveform = waveform + 0.01 * generator.normal(size=len(waveform))
            soundfile.write(chapter / f"{name}.flac", waveform.astype(np.float32), 16000)
            lines.append(f"{name} {' '.join(words)}")
            if split != "train-unlabeled":
                (chapter / f"{speaker}-1.trans.txt").write_text("\n".join(lines) + "\n")
        if split != "train-unlabeled":
            (root / split / "alignments.tsv").write_text("\n".join(alignments) + "\n")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "corpus"
    _make_corpus(root)
    chapter = root / "test" / "11" / "1"
    (chapter / "11-0-0.flac").write_bytes(b"")
    transcript = chapter / "11-1.trans.txt"
    transcript.write_text(transcript.read_text() + "11-0-0 GO\n11-0-1 STOP\n")
    return root


def _start(workdir, corpus):
    flags = [f"--{which}_flag=--config.{setting}" for which in ("teacher", "student") for setting in _TINY]
    command = [sys.executable, "-m", "tf_rnnt_kd.demo", f"--workdir={workdir}", f"--corpus={corpus}", *flags]
    log = (workdir.parent / "log").open("w")
    return subprocess.Popen(command, cwd=_PROJECT, stdout=log, stderr=subprocess.STDOUT)


def _log(workdir):
    return (workdir.parent / "log").read_text()


def _finish(workdir, corpus):
    process = _start(workdir, corpus)
    assert process.wait() == 0, _log(workdir)[-5000:]
    return _log(workdir)


def _kill_when(condition, *, workdir, corpus):
    process = _start(workdir, corpus)
    while not condition():
        assert process.poll() is None, _log(workdir)[-5000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.timeout(1800)
def test_miniature_from_audio_to_report_killed_on_the_way(corpus, tmp_path):
    workdir = tmp_path / "run"
    checkpoint = workdir / "teacher" / "checkpoints"
    _kill_when(lambda: any(checkpoint.glob("*.index")), workdir=workdir, corpus=corpus)
    assert not (workdir / "teacher" / "done.json").exists()
    _kill_when(lambda: any((workdir / "pseudo_labels").rglob("*.tfrecord*")), workdir=workdir, corpus=corpus)
    log = _finish(workdir, corpus)

    info = DatasetInfo.load(workdir / "records")
    assert {name: split.utterances for name, split in info.splits.items()} == _SIZES
    assert info.counts == {"input": 90, "written": 88, "rejected": 2}
    pseudo = DatasetInfo.load(workdir / "pseudo_labels")
    assert pseudo.counts["input"] == 24 and set(pseudo.artifacts) == {"hard", "collapsed", "factored"}

    results = json.loads((workdir / "results.json").read_text())
    assert [system["name"] for system in results["systems"]] == _SYSTEMS
    for system in results["systems"]:
        assert system["split"] == "test" and system["utterances"] == 8
        assert system["interval"][0] <= system["wer"] <= system["interval"][1]
        assert system["parameters"] > 10_000 and system["real_time_factor"] > 0 and system["delay"] is not None
        assert (system["improvement_over_baseline"] is None) == (system["name"] == "student-labeled")
        assert system["name"] in log.rpartition("] Write the report")[2]
    assert min(system["wer"] for system in results["systems"]) < 0.9, "nothing was learnt at all"
    assert results["pseudo_labels"]["pseudo_labels"]["counts"]["input"] == 24
    page = (workdir / "report.html").read_text()
    commands = [json.loads(line) for line in (workdir / "commands.jsonl").read_text().splitlines()]
    assert len(commands) == 16 and page.count("<img ") >= 4
    assert all(entry["command"].startswith("python -m ") for entry in commands)

    # The best student on dev is the one exported, and its text of the first test file is printed.
    rates = {name: json.loads((workdir / name / "best" / "best.json").read_text())["dev_wer"] for name in _SYSTEMS[1:]}
    (exported,) = [path.name for path in (workdir / "exported").glob("student-*")]
    assert rates[exported] == min(rates.values())
    assert "11-1-0.flac\t" in log

    again = _finish(workdir, corpus)
    assert again.count("done before") == 14
    assert json.loads((workdir / "results.json").read_text()) == results


def _refuse(workdir, *arguments):
    command = [sys.executable, "-m", "tf_rnnt_kd.demo", f"--workdir={workdir}", *map(str, arguments)]
    done = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == "", done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_missing_splits_are_named(corpus, tmp_path):
    assert "is not a folder" in _refuse(tmp_path / "run", f"--corpus={tmp_path / 'nowhere'}")
    copy = shutil.copytree(corpus, tmp_path / "copy")
    shutil.rmtree(copy / "dev")
    shutil.rmtree(copy / "train-unlabeled")
    assert "lacks the splits train-unlabeled, dev: a corpus for the demo has" in _refuse(
        tmp_path / "run", f"--corpus={copy}"
    )
    copy = shutil.copytree(corpus, tmp_path / "mute")
    for path in (copy / "test").rglob("*.trans.txt"):
        path.unlink()
    assert "no transcripts (*.trans.txt) in test" in _refuse(tmp_path / "run", f"--corpus={copy}")


def test_another_corpus_in_the_same_folder_is_refused(corpus, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "corpus.json").write_text(json.dumps({"corpus": "synthesised"}))
    line = _refuse(workdir, f"--corpus={corpus}")
    assert f"was made from synthesised, not from {corpus}" in line and "WORKDIR=DIR" in line
    claim = {"corpus": str(corpus.resolve()), "files": "other"}
    (workdir / "corpus.json").write_text(json.dumps(claim))
    assert "an earlier state of" in _refuse(workdir, f"--corpus={corpus}")
    assert sorted(path.name for path in workdir.iterdir()) == [".lock", "corpus.json"]  # nothing was begun
