"""A corpus and records with faults, and the whole command once."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tf_rnnt_kd.health import ERROR, NOTE, OK, WARNING, data
from tf_rnnt_kd.records import DatasetInfo, Split, Utterance, encode_utterance, shard_file, write_shard

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def corpus(tmp_path):
    """Two splits of LibriSpeech layout: of train-labeled one file of three is broken."""
    random = np.random.default_rng(0)
    for split in ("train-labeled", "dev"):
        folder = tmp_path / "corpus" / split / "1" / "1"
        folder.mkdir(parents=True)
        for number in range(3):
            soundfile.write(folder / f"1-1-{number}.flac", random.uniform(-0.3, 0.3, 8000), 16000)
        (folder / "1-1.trans.txt").write_text("".join(f"1-1-{number} YES\n" for number in range(3)))
    (tmp_path / "corpus/train-labeled/1/1/1-1-1.flac").write_bytes(b"no audio")
    return tmp_path / "corpus"


@pytest.fixture
def records(tmp_path):
    folder = tmp_path / "records"
    utterance = Utterance("u-1", np.full(1600, 0.1, np.float32), "YES", "s", "dev")
    shard = write_shard(
        folder, file=shard_file("dev", index=0, num_shards=1), records=[encode_utterance(utterance)]
    )
    splits = {"dev": Split((shard,), 1, 0.1 / 3600, True)}
    DatasetInfo(kind="utterances", splits=splits, counts={}, rejected={}).save(folder)
    return folder


def test_a_corpus(corpus):
    good, bad, note = data.corpus(str(corpus))
    assert good.level == OK and good.text == "dev (librispeech): 3 sources, 3 with a transcript, 3 decoded"
    assert bad.level == WARNING and "unusable: 1 not_audio, such as" in bad.text and "1-1-1.flac" in bad.text
    assert note.level == NOTE and note.text.endswith("train-unlabeled, test")


def test_no_corpus(tmp_path):
    (found,) = data.corpus(str(tmp_path / "nowhere"))
    assert found.level == ERROR and f"--corpus={tmp_path / 'nowhere'}: no such file or folder" in found.text
    folder = tmp_path / "corpus" / "dev" / "1" / "1"
    folder.mkdir(parents=True)
    (folder / "1-1-0.flac").write_bytes(b"no audio")
    (folder / "1-1.trans.txt").write_text("1-1-0 YES\n")
    found, _ = data.corpus(str(tmp_path / "corpus"))
    assert found.level == ERROR and "nothing usable" in found.text


def test_records(records):
    (found,) = data.records(str(records))
    assert found.level == OK
    assert found.text.startswith("dev: 1 labelled utterances, 0.000 hours, e.g. u-1 of 0.1 s; 1 of 1 shards")
    shard = records / "dev" / "dev-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (found,) = data.records(str(records))
    assert found.level == ERROR and f"{shard} is damaged" in found.text
    shard.write_bytes(content[:-1])
    (found,) = data.records(str(records))
    assert found.level == ERROR and f"has {len(content) - 1} bytes" in found.text
    (found,) = data.records(str(records / "dev"))
    assert found.level == ERROR and "holds no complete dataset" in found.text


def test_the_command(corpus, records, tmp_path):
    command = [sys.executable, "-m", "tf_rnnt_kd.doctor", f"--corpus={corpus}", f"--records={records},{tmp_path}"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # tmp_path holds no records
    lines = done.stdout.splitlines()
    assert "\033" not in done.stdout
    assert any(line.startswith("ok      ") and "compiled operations run" in line for line in lines)
    (error,) = [number for number, line in enumerate(lines) if line.startswith("error   ")]
    assert f"--records={tmp_path}" in lines[error] and lines[error + 1].startswith("        -> ")
    assert lines[-1].startswith("1 errors, ")
