"""The tokenizer binary on records, as a user runs it."""

import subprocess
import sys

import numpy as np
import pytest

from tf_rnnt_kd.records.dataset import DatasetInfo, Split, shard_file, write_shard
from tf_rnnt_kd.records.schema import Utterance, encode_utterance
from tf_rnnt_kd.text import Tokenizer


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    directory = tmp_path_factory.mktemp("records")
    splits = {}
    for split, texts in {"train": ["one two", " Two  three", "ONE"], "audio-only": [None, None]}.items():
        encoded = [
            encode_utterance(Utterance(f"{split}-{i}", np.zeros(160, np.float32), text, "s", split))
            for i, text in enumerate(texts)
        ]
        shards = tuple(
            write_shard(directory, file=shard_file(split, index=i, num_shards=2), records=encoded[i::2]) for i in (0, 1)
        )
        splits[split] = Split(shards=shards, utterances=len(texts), hours=0.0, labelled=texts[0] is not None)
    info = DatasetInfo(kind="utterances", splits=splits, counts={"input": 5, "written": 5, "rejected": 0}, rejected={})
    info.save(directory)
    return directory


def run(**arguments):
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    return subprocess.run(
        [sys.executable, "-m", "tf_rnnt_kd.train_tokenizer", *flags], capture_output=True, text=True, check=False
    )


def test_it_trains_once(records, tmp_path):
    output = tmp_path / "tokenizer"
    first = run(records=records, split="train", output=output)
    assert first.returncode == 0, first.stderr
    tokenizer = Tokenizer.load(output)
    assert sorted(tokenizer.pieces[1:]) == ["▁ONE", "▁THREE", "▁TWO"] and tokenizer.hash in first.stdout
    before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    again = run(records=records, split="train", output=output)
    assert again.returncode == 0 and "already done" in again.stdout
    assert before == {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    other = run(records=records, split="train", output=output, kind="characters")
    assert other.returncode == 1 and "choose another --output" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--records=DIR is missing"),
        ({"split": "audio-only"}, "has no transcripts"),
        ({"split": "dev"}, "it has: audio-only, train"),
    ],
)
def test_mistakes_give_one_line(records, tmp_path, arguments, message):
    if arguments:
        arguments = {"records": records, "output": tmp_path / "out", **arguments}
    result = run(**arguments)
    lines = [line for line in result.stderr.splitlines() if line.startswith("train_tokenizer: ")]
    assert result.returncode == 1 and len(lines) == 1 and message in lines[0]
    assert "Traceback" not in result.stderr and not (tmp_path / "out").exists()
