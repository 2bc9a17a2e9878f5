"""The corpus binary as a user runs it: layout, repeatability, killed and resumed, mistakes."""

import collections
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

SPLITS = ("train-labeled", "train-unlabeled", "dev", "test")
HOURS = 0.03


def command(output, *flags):
    return [sys.executable, "-m", "tf_rnnt_kd.synthesize_corpus", f"--output={output}", f"--hours={HOURS}", *flags]


def run(output, *flags):
    return subprocess.run(command(output, *flags), capture_output=True, text=True, check=False)


def digests(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus") / "c"
    result = run(root)
    assert result.returncode == 0, result.stderr
    return root


def test_layout_is_that_of_librispeech(corpus):
    names = {path.name for path in corpus.iterdir()}
    assert names == {*SPLITS, "train-unlabeled-truth", "speakers.tsv", "COMPLETE"}
    for split in SPLITS:
        home = corpus / (split + "-truth" if split == "train-unlabeled" else split)
        audio = {path.stem for path in (corpus / split).glob("*/*/*.flac")}
        lines = [line for path in home.glob("*/*/*.trans.txt") for line in path.read_text().splitlines()]
        texts = dict(line.split(" ", 1) for line in lines)
        assert audio and audio == set(texts) and all(text == text.upper() for text in texts.values())
        with open(home / "alignments.tsv") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        spoken = collections.defaultdict(list)
        for row in rows:
            spoken[row["utt"]].append(row["word"])
        assert {name: " ".join(words) for name, words in spoken.items()} == texts
    assert not list((corpus / "train-unlabeled").rglob("*.t*"))
    assert not list((corpus / "train-unlabeled-truth").rglob("*.flac"))


def test_speakers_are_disjoint(corpus):
    speakers = [path.name for split in SPLITS for path in (corpus / split).iterdir() if path.is_dir()]
    with open(corpus / "speakers.tsv") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert sorted(speakers) == sorted(row["speaker"] for row in rows) and len(set(speakers)) == len(speakers)
    assert len({row["voice"].split("+")[1] for row in rows}) == len(rows)


def test_audio_is_speech_where_the_alignments_say(corpus):
    minutes = 0.0
    contrast = []
    for split in ("train-labeled", "dev", "test"):
        spans = collections.defaultdict(list)
        with open(corpus / split / "alignments.tsv") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                spans[row["utt"]].append((float(row["start_s"]), float(row["end_s"])))
        for path in (corpus / split).glob("*/*/*.flac"):
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            samples, _ = soundfile.read(path)
            minutes += len(samples) / 16000 / 60
            words = spans[path.stem]
            assert all(0 < start < end for start, end in words) and words[-1][1] <= len(samples) / 16000
            assert all(before[1] <= after[0] + 1e-3 for before, after in zip(words, words[1:], strict=False))
            first, last = words[0][0], words[-1][1]
            inside = samples[int(first * 16000) : int(last * 16000)]
            assert 0.005 < np.sqrt(np.mean(inside**2)) < 0.5 and np.abs(samples).max() <= 1.0
            contrast.append(10 * np.log10(np.mean(inside**2) / np.mean(samples[: int((first - 0.05) * 16000)] ** 2)))
    assert abs(minutes - 60 * HOURS * 31 / 60) < 0.2 * minutes
    # Speech stands out of the noise before it, by amounts that differ.
    assert min(contrast) > 0 and 5 < np.median(contrast) < 25 and np.std(contrast) > 2


def test_killed_and_resumed_it_is_the_same(corpus, tmp_path):
    root = tmp_path / "c"
    process = subprocess.Popen(
        command(root, "--processes=1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(root.glob("*/*/1/*.flac"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (root / "INCOMPLETE").exists() and not (root / "COMPLETE").exists()
    kept = {path: path.stat().st_mtime_ns for path in root.glob("*/*/1/*.flac")}
    other = run(root, "--seed=2")
    assert other.returncode == 1 and "choose another --output" in other.stderr
    result = run(root, "--processes=3")
    assert result.returncode == 0 and "train-labeled: " in result.stdout
    assert kept and all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert digests(root) == digests(corpus)


def test_another_seed_is_another_corpus(corpus, tmp_path):
    result = run(tmp_path / "c", "--seed=2", "--hours=0.003")
    assert result.returncode == 0, result.stderr
    assert not set(digests(tmp_path / "c").values()) & set(digests(corpus).values())


def test_done_is_done(corpus):
    before = digests(corpus)
    result = run(corpus)
    assert result.returncode == 0 and "already done" in result.stdout and digests(corpus) == before
    totals = json.loads((corpus / "COMPLETE").read_text())["splits"]
    assert totals["dev"]["utterances"] == len(list(corpus.glob("dev/*/*/*.flac")))
    refused = run(corpus, "--seed=7")
    assert refused.returncode == 1 and "--seed=1" in refused.stderr


def test_mistakes_give_one_line(tmp_path):
    nothing = subprocess.run(
        [sys.executable, "-m", "tf_rnnt_kd.synthesize_corpus"], capture_output=True, text=True, check=False
    )
    assert nothing.returncode == 1 and nothing.stderr.count("\n") == 1 and "--output=DIR is missing" in nothing.stderr
    (tmp_path / "mine.txt").write_text("keep")
    foreign = run(tmp_path)
    assert foreign.returncode == 1 and "holds something else" in foreign.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
