"""A whole run over a small corpus with all kinds of bad records, labelled by a fake teacher.

Records are compared with direct calls of the teacher's signatures. Artifacts: `test_artifacts`.
"""

import collections
import json
import pathlib
import shutil
import subprocess
import sys

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from apache_beam.options.pipeline_options import PipelineOptions
from labelled_corpus import (
    FRAME,
    NUM_SHARDS,
    best_path,
    corpus,
    dead_letter,
    direct,
    label,
    naive_nodes,
    options,
    read,
    speech,
    tree,
    utterance,
)

from beam_pipelines import command_line, labelling
from beam_pipelines import pseudo_label as pseudo_label_binary
from beam_pipelines.labelling import pseudo_label
from beam_pipelines.transforms.filters import Filters
from beam_pipelines.transforms.infer import Teacher
from tf_rnnt_kd.records import DatasetInfo, Split, shard_file, write_shard
from tf_rnnt_kd.text import Tokenizer

ALL = options("collapsed", "factored")


@pytest.fixture(scope="module")
def world(tmp_path_factory, fake_teacher):
    """A corpus, a teacher and the labelled result, made once; tests only read them."""
    root = tmp_path_factory.mktemp("pseudo")
    fake_teacher.save(root / "teacher")
    good, rejected = corpus(root / "records")
    info = label(root, root / "output", options=ALL)
    return {"root": root, "good": good, "rejected": rejected, "info": info, "output": root / "output"}


def test_hard_labels_are_what_the_signature_says(world):
    records = read(world["output"])
    assert records.keys() == world["good"].keys()
    assert any(len(record["teacher/tokens"]) > 2 for record in records.values())
    for name, record in records.items():
        expected = direct(world["root"], world["good"][name])["teacher"]
        assert record["teacher/tokens"] == expected["tokens"].tolist()
        assert record["teacher/token_frames"] == expected["token_frames"].tolist()
        assert record["teacher/text"] == [expected["text"]]
        assert record["teacher/id"] == [b"fake-teacher"] and "teacher/agreement" not in record
        assert record["teacher/num_frames"] == [-(-len(world["good"][name]) // FRAME)] == [expected["num_frames"]]
        np.testing.assert_allclose(record["teacher/log_prob"], expected["full_sum_log_prob"], rtol=1e-6)
        np.testing.assert_allclose(record["teacher/token_confidence"], expected["token_confidence"], rtol=1e-6)
        np.testing.assert_allclose(record["teacher/word_confidence"], expected["word_confidence"], rtol=1e-6)


def test_the_utterance_is_carried_over_and_keeps_its_place(world):
    source, labelled = read(world["root"] / "records"), read(world["output"])
    for name, record in labelled.items():
        assert {key: record[key] for key in source[name]} == source[name]
        assert "text" not in record
    for index in range(NUM_SHARDS):
        source, labelled = (read(folder, f"{index:05d}") for folder in (world["root"] / "records", world["output"]))
        assert list(labelled) == [name for name in source if name in world["good"]]


def test_bad_records_are_counted_listed_and_add_up(world):
    info, total = world["info"], len(world["good"]) + sum(world["rejected"].values())
    assert info.rejected == world["rejected"]
    assert info.counts == {"input": total, "written": 14, "rejected": total - 14}
    entries = dead_letter(world["output"])
    assert collections.Counter(entry["reason"] for entry in entries) == world["rejected"]
    by_reason = {entry["reason"]: entry for entry in entries}
    assert by_reason["inference_failed"]["id"] == "crashing"
    assert "the teacher broke on this audio" in by_reason["inference_failed"]["error"]
    assert by_reason["too_long"] == {
        "id": "long", "split": "pool", "source": by_reason["too_long"]["source"], "reason": "too_long",
        "error": by_reason["too_long"]["error"],
    }  # fmt: skip
    assert by_reason["too_long"]["source"].startswith("pool/pool-0000")
    assert {e["id"] for e in entries if e["reason"] == "corrupt_record"} <= {f"pool-{i:05d}#{p}" for i in range(3)
                                                                               for p in range(8)}


def test_dataset_json_describes_what_is_there(world):
    content = json.loads((world["output"] / "dataset.json").read_text())
    records = read(world["output"]).values()
    assert content["kind"] == "distillation"
    assert content["teacher"] == {
        "model_id": "fake-teacher", "tokenizer_hash": "fake", "frame_seconds": 0.08, "vocab_size": 5, "joint_width": 5,
        "teachers": [{"model_id": "fake-teacher", "domain": "", "labels": True}],
    }  # fmt: skip
    seconds = sum(record["num_samples"][0] for record in records) / 16000
    split = content["splits"]["pool"]
    assert split["utterances"] == 14 == sum(shard["records"] for shard in split["shards"])
    assert split["hours"] == content["statistics"]["hours"] == pytest.approx(seconds / 3600, abs=1e-6)
    for shard in split["shards"]:
        assert shard["crc32c"] == f"{google_crc32c.value((world['output'] / shard['file']).read_bytes()):08x}"
    payload = sum(len(record["collapsed"][0]) for record in records)
    assert payload < content["artifacts"]["collapsed"]["bytes"] < payload + 14 * 10
    payload = sum(len(r["factored/encoder"][0]) + len(r["factored/predictor"][0]) for r in records)
    assert payload < content["artifacts"]["factored"]["bytes"] < payload + 14 * 60
    assert content["artifacts"]["hard"]["bytes_per_hour"] == pytest.approx(
        content["artifacts"]["hard"]["bytes"] / seconds * 3600, abs=1
    )
    statistics = content["statistics"]
    confidence = [np.exp(np.mean(np.log(record["teacher/token_confidence"]))) for record in records]
    scores = [record["teacher/log_prob"][0] / len(record["teacher/tokens"]) for record in records]
    for name, values in (("confidence", confidence), ("log_prob_per_token", scores)):
        edges = statistics[name]["edges"]
        assert statistics[name]["utterances"] == np.histogram(values, edges)[0].tolist()
        assert sum(statistics[name]["utterances"]) == 14
    assert 0 < statistics["padding_share"] < 1


def test_runs_give_the_same_bytes_whatever_the_workers(world, tmp_path):
    label(world["root"], tmp_path / "again", options=ALL)
    assert tree(tmp_path / "again") == tree(world["output"])
    threads = PipelineOptions(["--direct_num_workers=2", "--direct_running_mode=multi_threading"])
    label(world["root"], tmp_path / "two", options=ALL, beam_options=threads)
    assert tree(tmp_path / "two") == tree(world["output"])


def test_a_complete_dataset_is_left_alone(world, monkeypatch):
    monkeypatch.setattr(labelling, "build", None)
    assert label(world["root"], world["output"], options=ALL) == world["info"]
    with pytest.raises(ValueError, match=r"holds other records \(artifacts \['hard', 'collapsed', 'factored'\], not"):
        label(world["root"], world["output"], options=options())


def test_an_older_schema_never_mixes_with_this_one(world, tmp_path):
    shutil.copytree(world["output"], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 1}))
    with pytest.raises(ValueError, match="schema version 1, this code reads 2.*choose another --output"):
        label(world["root"], tmp_path, options=ALL)
    assert world["info"].settings["schema_version"] == 2


def test_damage_in_a_shard_costs_only_what_lies_behind_it(world, tmp_path):
    shutil.copytree(world["root"] / "records", tmp_path / "records")
    path = tmp_path / "records" / "pool" / "pool-00000-of-00003.tfrecord"
    content = bytearray(path.read_bytes())
    second = 12 + int.from_bytes(content[:8], "little") + 4
    content[second + 40] ^= 0xFF
    path.write_bytes(content)
    info = label(world["root"], tmp_path / "output", options=ALL, records=tmp_path / "records")
    lost = sum(1 for _ in tf.data.TFRecordDataset(str(world["root"] / "records" / "pool" / path.name))) - 1
    assert info.rejected["damaged_shard"] == lost
    assert info.counts["input"] == world["info"].counts["input"] == info.counts["written"] + info.counts["rejected"]
    whole = read(world["output"])
    survivors = read(tmp_path / "output")
    assert "good-0" in survivors
    assert all(whole[name] == record for name, record in survivors.items())


def test_filters_and_hours_refuse_by_reason(world, tmp_path):
    confidences = {
        name: np.exp(np.mean(np.log(record["teacher/token_confidence"])))
        for name, record in read(world["output"]).items()
    }
    threshold = float(np.median(list(confidences.values())))
    info = label(world["root"], tmp_path / "confident", options=options(filters=Filters(min_confidence=threshold)))
    kept = read(tmp_path / "confident")
    assert kept.keys() == {name for name, confidence in confidences.items() if confidence >= threshold}
    assert info.rejected["low_confidence"] == 14 - len(kept)

    hours = world["info"].statistics["hours"] / 2
    info = label(world["root"], tmp_path / "some", options=options(max_hours=hours))
    assert 0 < info.statistics["hours"] <= hours
    assert info.rejected["beyond_max_hours"] > 0
    assert info.counts["input"] == info.counts["written"] + info.counts["rejected"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The same corpus with transcripts, and a teacher that has a tokenizer."""
    root = tmp_path_factory.mktemp("reference")
    Tokenizer.train_characters(["ONE TWO"]).save(root / "tokenizer")
    tokenizer = Tokenizer.load(root / "tokenizer")
    records = [
        utterance("fine", speech(1, frames=30), text="ONE TWO"),
        utterance("foreign", speech(2, frames=30), text="ONE ZEBRA"),
        utterance("tight", speech(3, words=1, frames=3), text="ONE TWO"),
        utterance("unlabelled", speech(4, frames=30)),
    ]
    shard = write_shard(root / "records", file=shard_file("pool", index=0, num_shards=1), records=records)
    split = Split(shards=(shard,), utterances=4, hours=0.01, labelled=True)
    DatasetInfo(
        kind="utterances", splits={"pool": split}, counts={"input": 4, "written": 4, "rejected": 0}, rejected={}
    ).save(root / "records")
    return root, tokenizer


def test_reference_targets_come_from_the_records(reference, tmp_path, fake_teacher):
    root, tokenizer = reference
    fake_teacher.save(tmp_path / "teacher", pieces=tokenizer.pieces, tokenizer={"hash": tokenizer.hash})
    chosen = options("collapsed", targets="reference")
    arguments = {"splits": ["pool"], "teacher": str(tmp_path / "teacher"), "output": str(tmp_path / "output")}
    with pytest.raises(ValueError, match="--targets=reference needs --tokenizer"):
        pseudo_label(str(root / "records"), options=chosen, **arguments)
    info = pseudo_label(str(root / "records"), options=chosen, tokenizer=str(root / "tokenizer"), **arguments)
    assert info.rejected == {"no_transcript": 1, "tokens_longer_than_frames": 1, "unknown_characters": 1}
    ((name, record),) = read(tmp_path / "output").items()
    assert name == "fine"
    assert record["teacher/text"] == record["text"] == [b"ONE TWO"]
    tokens = tokenizer.encode("ONE TWO")
    assert record["teacher/tokens"] == tokens

    loaded = tf.saved_model.load(str(tmp_path / "teacher"))
    waveform = tf.io.decode_raw(record["audio"][0], tf.int16)
    forced = loaded.signatures["teacher_forced"](
        waveforms=tf.cast(waveform[None], tf.float32) / 32768, num_samples=tf.size(waveform)[None],
        tokens=tf.constant([tokens]), num_tokens=tf.constant([len(tokens)]),
    )  # fmt: skip
    np.testing.assert_allclose(record["teacher/log_prob"], forced["full_sum_log_prob"], rtol=1e-6)
    joint = {key: value.numpy() for key, value in loaded.signatures["joint"]().items()}
    nodes = naive_nodes(
        forced["encoder_projection"][0].numpy(), forced["predictor_projection"][0].numpy(), tokens, **joint
    )
    _, frames = best_path(nodes)
    assert record["teacher/token_frames"] == frames
    confidence = [np.exp(nodes[frame, u, 1]) for u, frame in enumerate(frames)]
    np.testing.assert_allclose(record["teacher/token_confidence"], confidence, rtol=1e-4)
    # The mark before each word is a token of its own here; a word is as sure as its least sure token.
    starts = [u for u, token in enumerate(tokens) if tokenizer.pieces[token] == "\u2581"] + [len(tokens)]
    words = [min(confidence[a:b]) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    np.testing.assert_allclose(record["teacher/word_confidence"], words, rtol=1e-4)


def test_a_teacher_that_always_fails_ends_in_one_line(world, tmp_path, monkeypatch):
    def broken(self, utterances):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    monkeypatch.setattr(Teacher, "label", broken)
    with pytest.raises(ValueError, match=r"none of 21 utterances was labelled .*dead_letter.jsonl"):
        label(world["root"], tmp_path, options=options())
    assert not (tmp_path / "dataset.json").exists()


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "beam_pipelines.pseudo_label", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, cwd=pathlib.Path(__file__).parents[2],
    )  # fmt: skip


def test_the_command_line(world, tmp_path):
    done = command(
        f"--records={world['root'] / 'records'}", "--runner", "FnApiRunner", f"--teacher={world['root'] / 'teacher'}",
        "--split=pool", "--batch_size=4", "--max_seconds=5", "--artifacts=hard,collapsed,factored",
        f"--output={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "21 utterances = 14 labelled + 7 refused" in done.stderr
    assert "pseudo_label: 21 of 21 utterances (100 %)" in done.stderr
    assert tree(tmp_path) == tree(world["output"])
    help_text = command("--help").stdout
    assert "python -m beam_pipelines.pseudo_label --records=" in help_text
    assert all(f"--{name}" in help_text for name in ("records", "split", "teacher", "output", "artifacts", "targets"))
    failed = command("--records=x", "--split=y", "--teacher=z")
    assert failed.returncode == 1
    assert failed.stderr == "pseudo_label: --output is missing: Folder for the distillation records.\n"


def test_mistakes_in_flags_end_in_one_line(world, tmp_path):
    flags_of = {"records": world["root"] / "records", "split": "pool", "teacher": world["root"] / "teacher",
                "output": tmp_path}  # fmt: skip

    def run(*more, **changed):
        values = flags.FlagValues()
        pseudo_label_binary.define_flags(values)
        arguments = [f"--{name}={value}" for name, value in {**flags_of, **changed}.items()]
        left = command_line.parse(["program", *arguments, *more], values=values, required={"split": "a split"})
        return pseudo_label_binary.run(values, left)

    with pytest.raises(command_line.CommandLineError, match="--split is missing: a split"):
        run(split="")
    with pytest.raises(command_line.CommandLineError, match="batch_size=many"):
        run(batch_size="many")
    with pytest.raises(command_line.CommandLineError, match="unexpected argument 'stray'"):
        run("stray")
    with pytest.raises(command_line.CommandLineError, match="no flag --bach_size, neither here nor in Apache Beam"):
        run(bach_size=3)
    with pytest.raises(ValueError, match="no split 'nowhere' in this dataset, it has: pool"):
        run(split="nowhere")
    with pytest.raises(ValueError, match="holds no complete dataset"):
        run(records=tmp_path)
    assert list(tmp_path.iterdir()) == []
