"""The benchmark of artifacts, on random joints and with a SavedModel without weights."""

import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import artifact_errors, artifact_variants
from tf_rnnt_kd.records import (
    DatasetInfo,
    Split,
    TeacherLabels,
    Utterance,
    encode_utterance,
    features,
    shard_file,
    write_shard,
)

_PROJECT = pathlib.Path(__file__).resolve().parents[2]


def case(seed, *, vocab_size=300):
    random = np.random.default_rng(seed)
    num_frames, num_labels, width = 20 + seed, 6 + seed, 32
    joint = {"kernel": random.normal(size=[width, vocab_size]), "bias": random.normal(size=[vocab_size])}
    arrays = [np.cumsum(random.normal(size=[n, width]), axis=0).astype(np.float32) / 3 for n in
              (num_frames, num_labels + 1)]  # fmt: skip
    tokens = random.integers(1, vocab_size, num_labels)
    nbest = features.NBest((tokens, tokens[1:]), np.array([-3.0, -4.5], np.float32), ("A B", "B"))
    hidden = {"block_1": random.normal(size=[num_frames, 5]).astype(np.float32)}
    joint = {name: array.astype(np.float32) for name, array in joint.items()}
    scores = [0.5] * num_labels
    hard = TeacherLabels(tokens.tolist(), "A B", -3.0, num_frames, list(range(num_labels)), scores, [0.5, 0.5])
    seconds = 0.04 * num_frames
    return artifact_variants.Case(tokens, *arrays, joint, seconds, hard=hard, nbest=nbest, hidden=hidden)


@pytest.fixture(scope="module")
def figures():
    """{(artifact, name): what was measured} over two utterances."""
    joint = case(0).joint
    cases = [case(seed) for seed in (0, 1)]
    cases = [dataclasses.replace(one, joint=joint) for one in cases]
    variants = artifact_errors.variants_for(cases, bands=[3], top_k=[2, 4, 400])
    return {(one.artifact, one.name): artifact_errors.measure(one, cases) for one in variants}


def test_every_artifact_and_precision_is_there(figures):
    assert list(figures) == [
        ("hard", "float32 scores"), ("nbest", "float32 scores"),
        *[("collapsed", f"{bits} bit, {nodes}") for nodes in ("all nodes", "band of 3") for bits in (8, 16)],
        ("factored", "bfloat16"), ("factored", "int8"),
        *[("top_k", f"K = {k}, {nodes}") for nodes in ("all nodes", "band of 3") for k in (2, 4)],
        ("hidden", "bfloat16"), ("dense", "float16"),
    ]  # fmt: skip


def test_more_bits_cost_more_and_err_less(figures):
    def found(artifact, name, key=None, loss=None):
        content = figures[artifact, name]
        return content[key] if key else content["losses"][loss]["gradient"]

    for exact, rough, loss in (
        (("collapsed", "16 bit, all nodes"), ("collapsed", "8 bit, all nodes"), "collapsed"),
        (("factored", "bfloat16"), ("factored", "int8"), "soft"),
        (("collapsed", "8 bit, all nodes"), ("collapsed", "8 bit, band of 3"), "alignment_kl"),
        (("top_k", "K = 4, all nodes"), ("top_k", "K = 4, band of 3"), "top_k"),
    ):
        assert found(*exact, loss=loss) < found(*rough, loss=loss) < 1.5
        assert found(*exact, "megabytes_per_hour") > found(*rough, "megabytes_per_hour")
    for name in ("bfloat16", "int8"):
        assert 0 < found("factored", name, "divergence") < 1e-3
    assert found("collapsed", "8 bit, all nodes", "divergence") < 1e-4
    assert 0 <= found("top_k", "K = 4, all nodes", "divergence") < 1e-4
    assert figures["hard", "float32 scores"]["losses"]["full_sum"] == {"value": 0.0, "gradient": 0.0}
    assert figures["nbest", "float32 scores"]["losses"]["sequence_posterior"] == {"value": 0.0, "gradient": 0.0}
    assert 0 < figures["hidden", "bfloat16"]["losses"]["hidden"]["gradient"] < 0.02


def test_bytes_are_those_of_the_features():
    one = case(0)
    variant = artifact_variants.factored("int8")
    size = sum(feature.ByteSize() for feature in variant.write(one).values())
    found = artifact_errors.measure(variant, [one])
    assert found["megabytes_per_hour"] == pytest.approx(size / one.seconds * 3600 / 1e6)
    assert found["share_of_raw"] == pytest.approx(size / ((20 + 7) * (32 + 4)))


def test_tables_have_a_row_for_each_variant(figures):
    listed = [(*key, found) for key, found in figures.items()]
    lines = artifact_errors.tables(listed, markdown=True)
    assert lines[0] == "| hard | MB per hour | of raw | divergence | full_sum |"
    assert sum(line.startswith("| ") for line in lines) == len(figures) + 7
    assert "| 8 bit, band of 3 | " in "\n".join(lines)
    plain = artifact_errors.tables(listed, markdown=False)
    assert not any("|" in line for line in plain)


def test_the_command_line(tmp_path):
    spec = importlib.util.spec_from_file_location("fake_teacher", _PROJECT / "tests" / "beam_pipelines" / "conftest.py")
    fake_teacher = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake_teacher)
    fake_teacher.save(tmp_path / "teacher")
    random = np.random.default_rng(0)
    records = []
    for index in range(3):
        waveform = np.zeros(20 * 1280, np.float32)
        for start in range(0, 20, 5):
            waveform[start * 1280 :][: 2 * 1280] = random.uniform(0.2, 0.8) * random.uniform(-1, 1, 2 * 1280)
        records.append(encode_utterance(Utterance(f"u{index}", waveform * (index > 0), None, "s", "dev")))
    shard = write_shard(tmp_path / "records", file=shard_file("dev", index=0, num_shards=1), records=records)
    split = Split(shards=(shard,), utterances=3, hours=0.001, labelled=False)
    DatasetInfo(kind="utterances", splits={"dev": split}, counts={}, rejected={}).save(tmp_path / "records")
    command = [sys.executable, "-m", "benchmarks.artifact_errors", f"--teacher={tmp_path / 'teacher'}",
               f"--records={tmp_path / 'records'}", "--bands=3", "--top_k=2,9", f"--json={tmp_path / 'all.json'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_PROJECT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("utterances 2, seconds 3.2, mean_frames 20, mean_tokens 4, vocab_size 5, joint_width")
    content = json.loads((tmp_path / "all.json").read_text())
    assert {one["artifact"] for one in content["figures"]} == {
        "hard", "nbest", "collapsed", "factored", "top_k", "hidden", "dense",
    }  # fmt: skip
    assert "K = 9" not in done.stdout and "K = 2" in done.stdout
    wrong = subprocess.run([*command, "--bands=wide"], capture_output=True, text=True, check=False, cwd=_PROJECT)
    assert wrong.returncode == 1 and wrong.stderr == "artifact_errors: --bands=wide: give integers, with commas\n"
