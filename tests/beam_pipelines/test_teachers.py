"""Several teachers in one run: what --teacher may say, agreement, routing by domain, and what cannot stand together."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from labelled_corpus import FRAME, read

from beam_pipelines.job import LabellingOptions
from beam_pipelines.labelling import pseudo_label
from beam_pipelines.transforms import teachers as teachers_module
from beam_pipelines.transforms.artifacts import Encoding
from beam_pipelines.transforms.filters import Filters
from beam_pipelines.transforms.routes import Route, load_teaching, parse_routes
from tf_rnnt_kd.records import DatasetInfo, Split, Utterance, encode_utterance, shard_file, write_shard

DOMAINS = ("en", "de", "fr")


def test_what_the_flag_may_say():
    for text, expected in {
        "run/teacher": [("", "run/teacher", ())],
        "gs://bucket/teacher/": [("", "gs://bucket/teacher", ())],
        "a,b,gs://c/d": [("", "a", ("b", "gs://c/d"))],
        "en:a,de:gs://c/d": [("en", "a", ()), ("de", "gs://c/d", ())],
        "en:a,de:b,en:c": [("en", "a", ("c",)), ("de", "b", ())],
        "de-AT:/x/y:z": [("de-AT", "/x/y:z", ())],
        "./en:a": [("", "./en:a", ())],
    }.items():
        assert parse_routes(text) == tuple(Route(*route) for route in expected)
    with pytest.raises(ValueError, match="--teacher=a,,b has an empty place"):
        parse_routes("a,,b")
    with pytest.raises(ValueError, match="--teacher=en:a,de:a,en:a has a twice"):
        parse_routes("en:a,de:a,en:a")
    with pytest.raises(ValueError, match="--teacher=a,de:b has folders with and without a domain"):
        parse_routes("a,de:b")


class Listening(tf.Module):
    """Says one word for each second of audio that is begun, and nothing else: a teacher only for agreement."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)])
    def recognise(self, waveforms, num_samples):
        tf.debugging.assert_none_equal(waveforms, -1.0, message="cannot hear this")
        words = tf.sequence_mask(-(-num_samples // 16000))
        return {"text": tf.strings.reduce_join(tf.where(words, "one ", ""), axis=-1)}


def save_listener(directory, **metadata):
    module = Listening()
    tf.saved_model.save(module, str(directory), {"serving_default": module.recognise})
    path = pathlib.Path(directory, "assets.extra", "metadata.json")
    path.parent.mkdir()
    content = {"model_id": "listener", "sample_rate": 16000, "blank_index": 0, "joint": {"activation": "tanh"}}
    path.write_text(json.dumps({**content, **metadata}))


def edit_distance(one, other):
    """By the definition, row by row."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        above, row = row, [i]
        for j, right in enumerate(other, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right)))
    return row[-1]


def speech(seed, frames):
    """Some bursts of noise, so that the fake teacher hears some words."""
    random = np.random.default_rng(seed)
    waveform = np.zeros(frames * FRAME, np.float32)
    for start in range(0, frames - 2, 6):
        waveform[start * FRAME :][: 2 * FRAME] = random.uniform(0.2, 0.8) * random.uniform(-1, 1, 2 * FRAME)
    return waveform


@pytest.fixture(scope="module")
def world(tmp_path_factory, fake_teacher):
    """Utterances of three domains and of none in two shards; teachers "en", "de", a listener."""
    root = tmp_path_factory.mktemp("teachers")
    fake_teacher.save(root / "en", model_id="english")
    fake_teacher.save(root / "de", model_id="german")
    save_listener(root / "listener")
    records = [
        encode_utterance(Utterance(f"u{i}", speech(i, 8 + 5 * i), None, "speaker", "pool",
                                   domain=(*DOMAINS, "")[i % 4]))
        for i in range(12)
    ]  # fmt: skip
    shards = [write_shard(root / "records", file=shard_file("pool", index=i, num_shards=2), records=records[i::2])
              for i in range(2)]  # fmt: skip
    split = Split(shards=tuple(shards), utterances=12, hours=0.01, labelled=False)
    counts = {"input": 12, "written": 12, "rejected": 0}
    DatasetInfo(kind="utterances", splits={"pool": split}, counts=counts, rejected={}).save(root / "records")
    return root


def label(world, output, *, teacher, artifacts=("hard",), filters=None, **arguments):
    options = LabellingOptions(Encoding(artifacts=artifacts), filters=filters or Filters(), batch_size=4)
    teacher = ",".join(name.replace("@", f"{world}/") for name in teacher.split(","))
    info = pseudo_label(
        str(world / "records"), splits=["pool"], teacher=teacher, output=str(output), options=options, **arguments
    )
    return info, read(output)


def test_the_first_teacher_labels_and_the_others_agree_or_not(world, tmp_path):
    _, alone = label(world, tmp_path / "alone", teacher="@en")
    info, both = label(world, tmp_path / "both", teacher="@en,@listener")
    assert both.keys() == alone.keys()
    values = {}
    for name, record in both.items():
        (values[name],) = record.pop("teacher/agreement")
        assert record == alone[name]
        assert record["teacher/id"] == [b"english"]
        heard = ["ONE"] * -(-record["num_samples"][0] // 16000)
        said = record["teacher/text"][0].decode().split()
        expected = 1 - edit_distance(said, heard) / max(len(said), len(heard))
        assert values[name] == pytest.approx(expected, abs=1e-6)
    assert len(set(values.values())) > 2
    assert info.teacher["model_id"] == "english+listener"
    assert info.teacher["teachers"] == [
        {"model_id": "english", "domain": "", "labels": True},
        {"model_id": "listener", "domain": "", "labels": False},
    ]
    assert sum(info.statistics["agreement"]["utterances"]) == len(both)

    threshold = float(np.median(list(values.values())))
    info, kept = label(
        world, tmp_path / "kept", teacher="@en,@listener", filters=Filters(min_agreement=threshold)
    )
    assert kept.keys() == {name for name, value in values.items() if value >= threshold}
    assert info.rejected == {"low_agreement": len(both) - len(kept)}


def test_the_least_of_several_agreements_counts(world, tmp_path):
    _, two = label(world, tmp_path / "two", teacher="@en,@listener")
    _, three = label(world, tmp_path / "three", teacher="@en,@de,@listener")
    _, equal = label(world, tmp_path / "equal", teacher="@en,@de")
    assert all(record["teacher/agreement"] == [1.0] for record in equal.values())  # the same model, another name
    agreement = {name: record["teacher/agreement"] for name, record in three.items()}
    assert agreement == {name: record["teacher/agreement"] for name, record in two.items()}


def test_each_domain_has_its_teacher(world, tmp_path):
    info, records = label(world, tmp_path, teacher="en:@en,de:@de", artifacts=("hard", "collapsed"))
    ids = {name: record["teacher/id"][0].decode() for name, record in records.items()}
    assert ids == {f"u{i}": ("english", "german")[i % 4] for i in range(12) if i % 4 < 2}
    assert info.rejected == {"no_teacher_for_domain": 6}
    assert info.teacher["model_id"] == "en:english,de:german"
    assert [(one["domain"], one["model_id"]) for one in info.teacher["teachers"]] == [
        ("en", "english"), ("de", "german"),
    ]  # fmt: skip
    entries = [json.loads(line) for line in (tmp_path / "dead_letter.jsonl").read_text().splitlines()]
    assert {entry["id"]: entry["error"].partition(",")[0] for entry in entries}["u2"] == "domain 'fr'"


def test_agreement_by_domain(world, tmp_path):
    _, records = label(world, tmp_path / "one", teacher="en:@en,en:@listener,de:@de")
    assert {name for name, record in records.items() if "teacher/agreement" in record} == {"u0", "u4", "u8"}
    with pytest.raises(ValueError, match="--min_agreement needs a second teacher beside each that labels"):
        label(
            world, tmp_path / "two", teacher="en:@en,en:@listener,de:@de", filters=Filters(min_agreement=0.5)
        )


def test_teachers_that_do_not_fit_are_refused(world, tmp_path, fake_teacher):
    fake_teacher.save(tmp_path / "words", model_id="words", tokenizer={"hash": "other", "kind": "characters"})
    fake_teacher.save(tmp_path / "slow", model_id="slow", frame_seconds=0.04)
    fake_teacher.save(tmp_path / "wide", model_id="wide", pieces=(*fake_teacher.PIECES, "\u2581FIVE"))
    for name, message in (
        ("words", "need the same tokenizer: .* has fake, .*words has other; label each domain into an --output"),
        ("slow", r"need the same frames of \(seconds\): .* has 0.08, .*slow has 0.04"),
    ):
        with pytest.raises(ValueError, match=message):
            load_teaching(f"en:{world}/en,de:{tmp_path}/{name}")
        # For agreement neither matters.
        load_teaching(f"{world}/en,{tmp_path}/{name}")
    with pytest.raises(ValueError, match="factored lattices of one dataset need one joint, .* leave factored out"):
        label(world, tmp_path / "out", teacher=f"en:@en,de:{tmp_path}/wide", artifacts=("hard", "factored"))
    assert not (tmp_path / "out").exists()
    info, _ = label(world, tmp_path / "same", teacher="en:@en,de:@de", artifacts=("hard", "factored"))
    assert "factored" in info.artifacts
    with pytest.raises(ValueError, match="cannot teach, it lacks the signatures teacher, teacher_forced, joint"):
        label(world, tmp_path / "out", teacher="@listener")
    tf.saved_model.save(tf.Module(), str(tmp_path / "mute"))
    with pytest.raises(ValueError, match="cannot teach, it lacks the signatures serving_default"):
        label(world, tmp_path / "out", teacher=f"@en,{tmp_path}/mute")


def test_of_versions_the_newest_labels_whatever_is_exported_meanwhile(tmp_path, fake_teacher):
    for number, name in ((2, "two"), (10, "ten")):
        fake_teacher.save(tmp_path / "teacher" / str(number), model_id=name)
    teaching = load_teaching(f"{tmp_path}/teacher,{tmp_path}/teacher/2")
    fake_teacher.save(tmp_path / "teacher" / "11", model_id="eleven")
    assert teaching.model_id == "ten+two"
    assert teaching.folders == (f"{tmp_path}/teacher/10",) and teaching.routes[0].others == (f"{tmp_path}/teacher/2",)


def test_each_model_is_loaded_once_in_a_process(world, tmp_path, monkeypatch):
    loaded = []
    load = tf.saved_model.load

    def counting(path, *args, **kwargs):
        loaded.append(pathlib.Path(path).name)
        return load(path, *args, **kwargs)

    monkeypatch.setattr(teachers_module.tf.saved_model, "load", counting)
    threads = PipelineOptions(["--direct_num_workers=3", "--direct_running_mode=multi_threading"])
    label(world, tmp_path, teacher="en:@en,de:@de,en:@listener,de:@listener", beam_options=threads)
    assert sorted(loaded) == ["de", "en", "listener"]
