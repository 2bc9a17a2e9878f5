"""The benchmarks of the pipeline and of records: their bars, their inputs and their figures. No time is asserted."""

import hashlib
import importlib.util
import json
import pathlib

import numpy as np
import pytest

from benchmarks import pipeline, pipeline_inputs, pipeline_runs, records_io
from tf_rnnt_kd.records import DatasetInfo, decode_utterance, read_shard


def test_bars():
    assert pipeline.passed("1", 0.9) and not pipeline.passed("1", 0.899)
    assert pipeline.passed("2", 1.7) and not pipeline.passed("2", 1.6)
    assert pipeline.passed("3", 1.1) and not pipeline.passed("3", 1.11)
    assert pipeline.line("3", 1.25, "peaks") == "bar 3: 1.250 (at most 1.1)  FAIL  peaks"
    assert pipeline.more_input({"few": [3.0, 1.0, 2.0], "many": [9.0, 8.0, 7.0]}) == 6.0


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    return folder, pipeline_inputs.save_records(str(folder), utterances=64)


def test_every_shard_has_the_same_work(records):
    folder, seconds = records
    info = DatasetInfo.load(folder)
    lengths = []
    for path in info.shard_paths(folder, pipeline_inputs.SPLIT):
        waveforms = [decode_utterance(record).waveform for record in read_shard(path)]
        assert all(np.abs(waveform).max() > 0.01 for waveform in waveforms)
        lengths.append(sorted(len(waveform) for waveform in waveforms))
    assert len(lengths) == 8
    assert all(one == lengths[0] for one in lengths)
    assert sum(map(sum, lengths)) / 16_000 == pytest.approx(seconds) == pytest.approx(info.splits["pool"].hours * 3600)
    with pytest.raises(ValueError, match="must be a multiple of 32, got 33"):
        pipeline_inputs.save_records(str(folder), utterances=33)


@pytest.fixture
def fake_teacher():
    """The module tests/beam_pipelines/conftest.py: exporting a real teacher takes a minute."""
    path = pathlib.Path(__file__).parents[1] / "beam_pipelines" / "conftest.py"
    specification = importlib.util.spec_from_file_location("fake_teacher", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_bare_loop_and_the_pipeline_do_the_same(records, tmp_path, monkeypatch, fake_teacher):
    folder, _ = records
    fake_teacher.save(tmp_path / "teacher")
    kept = tmp_path / "kept"
    monkeypatch.setattr(pipeline_runs.tempfile, "TemporaryDirectory", lambda: _Kept(kept))
    seconds = pipeline_runs.label(str(folder), str(tmp_path / "teacher"))
    assert min(seconds["cpu"], seconds["wall"]) > 0
    content = json.loads((kept / "out" / "dataset.json").read_text())
    assert content["counts"]["input"] == 64
    assert content["counts"]["written"] > 32
    batches = pipeline_runs._batches(str(folder))
    samples = sum(int(np.sum(batch["num_samples"])) for batch in batches)
    padded = sum(int(np.prod(batch["waveforms"].shape)) for batch in batches)
    assert content["statistics"]["padding_share"] == pytest.approx(1 - samples / padded, abs=1e-4)


class _Kept:
    """A folder that a with statement does not remove."""

    def __init__(self, path):
        path.mkdir()
        self._path = path

    def __enter__(self):
        return str(self._path)

    def __exit__(self, *_):
        pass


def test_both_writers_write_the_same_bytes(tmp_path):
    found = records_io.measured(str(tmp_path), megabytes=2, kilobytes=100, repetitions=1)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.glob("*.tfrecord")}
    assert len(digests) == 1
    assert len(list(tmp_path.glob("*.tfrecord"))) == 2
    assert found["bytes"] == 20 * 100_000
    lines, _ = records_io.report(found)
    assert [line.split(":")[0] for line in lines] == ["write", "read"]
    good = {"ours": [1.0, 1.09, 5.0], "plain": [1.0, 1.0]}
    bad = {"ours": [1.2], "plain": [1.0]}
    lines, passed = records_io.report({"bytes": 2_000_000, "write": good, "read": good})
    assert passed and lines[0] == "write: 1.090 (at most 1.1)  PASS  2 MB/s, plain TensorFlow 2 MB/s"
    lines, passed = records_io.report({"bytes": 2_000_000, "write": good, "read": bad})
    assert not passed and "FAIL" in lines[1]
