"""A small corpus with all kinds of bad records, labelled by a fake teacher.

Records are read back with plain TensorFlow and compared with direct calls of the teacher's signatures.
"""

import collections
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import command_line, labelling
from beam_pipelines import pseudo_label as pseudo_label_binary
from beam_pipelines.labelling import LabellingOptions, pseudo_label
from beam_pipelines.transforms import artifacts as artifact_transforms
from beam_pipelines.transforms.batch import Pending, batch_rows, bucket_samples, form_batches
from beam_pipelines.transforms.infer import Teacher, TeacherHandler
from tf_rnnt_kd.records import DatasetInfo, Split, Utterance, codecs, encode_utterance, shard_file, write_shard
from tf_rnnt_kd.text import Tokenizer

ALL = LabellingOptions(artifacts=("hard", "collapsed", "factored"), batch_size=4, max_seconds=5.0)
NUM_SHARDS = 3
FRAME = 1280  # samples of the fake teacher's frames


def speech(seed, *, words=3, frames=20):
    """Bursts of noise of various loudness with silence between, float32; never as loud as what upsets the teacher."""
    random = np.random.default_rng(seed)
    waveform = np.zeros(frames * FRAME + int(random.integers(0, FRAME)), np.float32)
    for start in np.arange(words) * (frames // words):
        burst = random.uniform(0.2, 0.8) * random.uniform(-1, 1, 2 * FRAME)
        waveform[start * FRAME + 7 : start * FRAME + 7 + 2 * FRAME] = burst
    return waveform


def utterance(name, waveform, *, text=None):
    return encode_utterance(Utterance(name, waveform, text, "speaker", "pool"))


def corpus(directory, *, labelled=False):
    """{utterance id: waveform} of the good records, and the reasons to refuse the others, written in `directory`."""
    good = {f"good-{i}": speech(i, words=1 + i % 4, frames=8 + 3 * i) for i in range(14)}
    crashing, nan = speech(100), speech(101)
    crashing[5], nan[5] = -1.0, 0.95
    bad = {
        "silent": (np.zeros(9000, np.float32), "empty_hypothesis"),
        "crashing": (crashing, "inference_failed"),
        "nan": (nan, "non_finite_score"),
        "long": (speech(102, frames=80), "too_long"),
        "empty": (np.zeros(0, np.float32), "empty_audio"),
    }
    texts = {name: "ONE TWO" if labelled else None for name in [*good, *bad]}
    records = [utterance(name, waveform, text=texts[name]) for name, waveform in good.items()]
    records += [utterance(name, waveform, text=texts[name]) for name, (waveform, _) in bad.items()]
    records += [b"no example at all", tf.train.Example().SerializeToString()]
    rejected = collections.Counter(reason for _, reason in bad.values()) + collections.Counter(corrupt_record=2)
    shards = [
        write_shard(directory, file=shard_file("pool", index=i, num_shards=NUM_SHARDS), records=records[i::NUM_SHARDS])
        for i in range(NUM_SHARDS)
    ]
    split = Split(shards=tuple(shards), utterances=len(records), hours=0.01, labelled=labelled)
    counts = {"input": len(records), "written": len(records), "rejected": 0}
    DatasetInfo(kind="utterances", splits={"pool": split}, counts=counts, rejected={}).save(directory)
    return good, dict(rejected)


def tree(directory):
    """{relative path: SHA-256} of all files."""
    files = sorted(path for path in pathlib.Path(directory).rglob("*") if path.is_file())
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read(directory, shards="*"):
    """{utterance id: {feature: list of values}}, with TensorFlow's own reader, in order; what has no id is left out."""
    found = {}
    for path in sorted(pathlib.Path(directory, "pool").glob(f"pool-{shards}-of-*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            if b"utterance_id" not in record.numpy():
                continue
            features = tf.train.Example.FromString(record.numpy()).features.feature
            values = {name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in features.items()}
            found[values["utterance_id"][0].decode()] = values
    return found


def dead_letter(directory):
    return [json.loads(line) for line in pathlib.Path(directory, "dead_letter.jsonl").read_text().splitlines()]


def naive_nodes(encoder, predictor, tokens, kernel, bias):
    """[T, U+1, 3] float64 by the definition; the label at u = U is -inf."""
    logits = np.tanh(encoder[:, None].astype(np.float64) + predictor[None]) @ kernel + bias
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nodes = np.full([*logits.shape[:2], 3], -np.inf)
    nodes[..., 0] = log_probs[..., 0]
    for u in range(len(tokens) + 1):
        others = set(range(1, len(bias))) - set(tokens[u : u + 1])
        nodes[:, u, 2] = np.log(np.exp(log_probs[:, u, sorted(others)]).sum(-1))
        if u < len(tokens):
            nodes[:, u, 1] = log_probs[:, u, tokens[u]]
    return nodes


@pytest.fixture(scope="module")
def world(tmp_path_factory, fake_teacher):
    """A corpus, a teacher and the labelled result, made once; tests only read them."""
    root = tmp_path_factory.mktemp("pseudo")
    fake_teacher.save(root / "teacher")
    good, rejected = corpus(root / "records")
    info = label(root, root / "output")
    loaded = tf.saved_model.load(str(root / "teacher"))
    return {
        "root": root, "good": good, "rejected": rejected, "info": info, "output": root / "output", "loaded": loaded,
    }  # fmt: skip


def label(root, output, *, options=ALL, **kwargs):
    arguments = {"splits": ["pool"], "teacher": str(root / "teacher"), "output": str(output), **kwargs}
    return pseudo_label(str(kwargs.pop("records", root / "records")), options=options, **{
        name: value for name, value in arguments.items() if name != "records"
    })


def direct(world, name):
    """The teacher's own answer to one utterance, alone and without padding."""
    pcm = np.rint(world["good"][name] * 32768.0).clip(-32768, 32767) / 32768.0
    outputs = world["loaded"].signatures["teacher"](
        waveforms=tf.constant(pcm[None], tf.float32), num_samples=tf.constant([len(pcm)])
    )
    return {key: value.numpy()[0] for key, value in outputs.items()}


def test_hard_labels_are_what_the_signature_says(world):
    records = read(world["output"])
    assert records.keys() == world["good"].keys()
    assert any(len(record["teacher/tokens"]) > 2 for record in records.values())
    for name, record in records.items():
        expected = direct(world, name)
        assert record["teacher/tokens"] == expected["tokens"].tolist()
        assert record["teacher/token_frames"] == expected["token_frames"].tolist()
        assert record["teacher/text"] == [expected["text"]]
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


def test_lattices_are_those_of_the_projections(world, fake_teacher):
    joint = np.load(world["output"] / "joint.npz")
    teacher = fake_teacher.FakeTeacher(5)
    np.testing.assert_array_equal(joint["kernel"], teacher.kernel.numpy())
    np.testing.assert_array_equal(joint["bias"], teacher.bias.numpy())
    for name, record in read(world["output"]).items():
        expected = direct(world, name)
        for part in ("encoder", "predictor"):
            shape = record[f"factored/{part}_shape"]
            stored = codecs.decode_bfloat16(record[f"factored/{part}"][0], shape=tuple(shape))
            exact = expected[f"{part}_projection"]
            assert list(exact.shape) == shape
            np.testing.assert_allclose(stored, exact, rtol=2**-8, atol=1e-6)
        tokens = record["teacher/tokens"]
        nodes = naive_nodes(expected["encoder_projection"], expected["predictor_projection"], tokens, **joint)
        stored = codecs.decode_collapsed(
            record["collapsed"][0], num_frames=record["teacher/num_frames"][0], num_labels=len(tokens)
        )
        exact = np.where(np.isinf(nodes), stored, nodes)
        assert (np.abs(stored - exact) <= 0.02 * (1 + np.abs(exact))).all()


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
    }  # fmt: skip
    seconds = sum(record["num_samples"][0] for record in records) / 16000
    split = content["splits"]["pool"]
    assert split["utterances"] == 14 == sum(shard["records"] for shard in split["shards"])
    assert split["hours"] == content["statistics"]["hours"] == pytest.approx(seconds / 3600, abs=1e-6)
    files = tree(world["output"])
    assert all(files[shard["file"]] == shard["sha256"] for shard in split["shards"])
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
    label(world["root"], tmp_path / "again")
    assert tree(tmp_path / "again") == tree(world["output"])
    threads = PipelineOptions(["--direct_num_workers=2", "--direct_running_mode=multi_threading"])
    label(world["root"], tmp_path / "two", beam_options=threads)
    assert tree(tmp_path / "two") == tree(world["output"])


def test_a_complete_dataset_is_left_alone(world, monkeypatch):
    monkeypatch.setattr(labelling, "run_pipeline", None)
    assert label(world["root"], world["output"]) == world["info"]
    different = LabellingOptions(artifacts=("hard",), batch_size=4, max_seconds=5.0)
    with pytest.raises(ValueError, match=r"holds other records \(artifacts \['hard', 'collapsed', 'factored'\], not"):
        label(world["root"], world["output"], options=different)


def test_a_run_that_died_is_completed_to_the_same_bytes(world, tmp_path, monkeypatch):
    write = artifact_transforms.write_shard

    def dying(directory, *, file, records):
        if "00001" in file.partition("-of-")[0]:
            write(directory, file=file, records=(record for record, _ in zip(records, range(1), strict=False)))
            pathlib.Path(directory, file).rename(f"{directory}/{file}.tmp")
            raise SystemError("killed")
        return write(directory, file=file, records=records)

    monkeypatch.setattr(artifact_transforms, "write_shard", dying)
    with pytest.raises(Exception, match="killed"):
        label(world["root"], tmp_path)
    assert not (tmp_path / "dataset.json").exists()
    monkeypatch.setattr(artifact_transforms, "write_shard", write)
    label(world["root"], tmp_path)
    assert tree(tmp_path) == tree(world["output"])


def test_only_what_is_missing_is_labelled_again(world, tmp_path, monkeypatch):
    shutil.copytree(world["output"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "pool" / "pool-00002-of-00003.tfrecord").unlink()
    run, labelled = labelling.run_pipeline, []

    def watched(tasks, **kwargs):
        labelled.extend(task.index for task in tasks)
        run(tasks, **kwargs)

    monkeypatch.setattr(labelling, "run_pipeline", watched)
    label(world["root"], tmp_path)
    assert labelled == [2]
    assert tree(tmp_path) == tree(world["output"])
    # Another setting, and nothing of the old run is used.
    (tmp_path / "dataset.json").unlink()
    info = label(world["root"], tmp_path, options=LabellingOptions(batch_size=3, max_seconds=5.0))
    assert labelled == [2, 0, 1, 2]
    assert list(info.artifacts) == ["hard"]
    assert not any("collapsed" in record or "factored/encoder" in record for record in read(tmp_path).values())


def test_damage_in_a_shard_costs_only_what_lies_behind_it(world, tmp_path):
    shutil.copytree(world["root"] / "records", tmp_path / "records")
    path = tmp_path / "records" / "pool" / "pool-00000-of-00003.tfrecord"
    content = bytearray(path.read_bytes())
    second = 12 + int.from_bytes(content[:8], "little") + 4
    content[second + 40] ^= 0xFF
    path.write_bytes(content)
    info = label(world["root"], tmp_path / "output", records=tmp_path / "records")
    lost = sum(1 for _ in tf.data.TFRecordDataset(str(world["root"] / "records" / "pool" / path.name))) - 1
    assert info.rejected["damaged_shard"] == lost
    assert info.counts["input"] == world["info"].counts["input"] == info.counts["written"] + info.counts["rejected"]
    whole = read(world["output"])
    survivors = read(tmp_path / "output")
    assert "good-0" in survivors
    assert all(whole[name] == record for name, record in survivors.items())


def test_filters(world, tmp_path):
    confidences = {
        name: np.exp(np.mean(np.log(record["teacher/token_confidence"])))
        for name, record in read(world["output"]).items()
    }
    threshold = float(np.median(list(confidences.values())))
    options = LabellingOptions(min_confidence=threshold, max_seconds=5.0)
    info = label(world["root"], tmp_path / "confident", options=options)
    kept = read(tmp_path / "confident")
    assert kept.keys() == {name for name, confidence in confidences.items() if confidence >= threshold}
    assert info.rejected["low_confidence"] == 14 - len(kept)

    hours = world["info"].statistics["hours"] / 2
    info = label(world["root"], tmp_path / "some", options=LabellingOptions(max_hours=hours, max_seconds=5.0))
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
    options = LabellingOptions(artifacts=("collapsed",), targets="reference", batch_size=4)
    arguments = {"splits": ["pool"], "teacher": str(tmp_path / "teacher"), "output": str(tmp_path / "output")}
    with pytest.raises(ValueError, match="--targets=reference needs --tokenizer"):
        pseudo_label(str(root / "records"), options=options, **arguments)
    info = pseudo_label(str(root / "records"), options=options, tokenizer=str(root / "tokenizer"), **arguments)
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
    frames = best_frames(nodes)
    assert record["teacher/token_frames"] == frames
    confidence = [np.exp(nodes[frame, u, 1]) for u, frame in enumerate(frames)]
    np.testing.assert_allclose(record["teacher/token_confidence"], confidence, rtol=1e-4)
    # The mark before each word is a token of its own here; a word is as sure as its least sure token.
    starts = [u for u, token in enumerate(tokens) if tokenizer.pieces[token] == "\u2581"] + [len(tokens)]
    words = [min(confidence[a:b]) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    np.testing.assert_allclose(record["teacher/word_confidence"], words, rtol=1e-4)


def best_frames(nodes):
    """Emission frames of the best path, by plain dynamic programming over all nodes."""
    num_frames, num_labels = nodes.shape[0], nodes.shape[1] - 1
    best = np.full([num_frames, num_labels + 1], -np.inf)
    back = {}
    for t in range(num_frames):
        for u in range(num_labels + 1):
            choices = [(0.0, None)] if t == u == 0 else []
            choices += [(best[t - 1, u] + nodes[t - 1, u, 0], "blank")] if t else []
            choices += [(best[t, u - 1] + nodes[t, u - 1, 1], "label")] if u else []
            best[t, u], back[t, u] = max(choices, key=lambda choice: choice[0])
    t, u, frames = num_frames - 1, num_labels, []
    while back[t, u]:
        if back[t, u] == "label":
            u -= 1
            frames.append(t)
        else:
            t -= 1
    return frames[::-1]


def test_batches_have_few_shapes_and_little_padding():
    lengths = np.random.default_rng(0).integers(1, 40 * 16000, 2000)
    buckets = [bucket_samples(int(length)) for length in lengths]
    assert len(set(buckets)) < 30
    long = lengths > 8000
    assert (np.array(buckets) >= lengths).all()
    assert (np.array(buckets)[long] <= 1.35 * lengths[long]).all()
    assert bucket_samples(8000) == 8000 < bucket_samples(8001)
    pending = [Pending("s", 0, i, str(i), np.zeros(int(n), np.float32)) for i, n in enumerate(lengths[:200])]
    batches = list(form_batches(pending, batch_size=8))
    assert sorted(one.position for batch in batches for one in batch) == list(range(200))
    for batch in batches:
        assert len({bucket_samples(len(one.waveform)) for one in batch}) == 1
        assert len(batch) <= 8
    full = [len(batch) == 8 for batch in batches]
    assert full == sorted(full, reverse=True)
    assert [batch_rows(count, batch_size=12) for count in (1, 2, 3, 4, 5, 8, 9, 12)] == [1, 2, 4, 4, 8, 8, 12, 12]


def test_a_result_does_not_depend_on_its_neighbours(world):
    teacher = Teacher(str(world["root"] / "teacher"), targets="hypothesis", batch_size=4, with_nodes=True)
    one, *others = (Pending("pool", 0, i, str(i), speech(i, words=3, frames=30)) for i in range(4))
    (alone,) = teacher.label([one])
    for batch in ([one, *others], [one, one], [one, others[2]]):
        together = teacher.label(batch)[0]
        assert together.tokens.tolist() == alone.tokens.tolist()
        np.testing.assert_allclose(together.log_prob, alone.log_prob, rtol=1e-6)
        np.testing.assert_allclose(together.nodes, alone.nodes, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(together.encoder, alone.encoder, rtol=1e-6)
        again = teacher.label(batch)[0]
        np.testing.assert_array_equal(together.nodes, again.nodes)


def test_a_teacher_that_always_fails_ends_in_one_line(world, tmp_path, monkeypatch):
    def broken(self, utterances):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    monkeypatch.setattr(Teacher, "label", broken)
    handler = TeacherHandler("unused", targets="hypothesis", batch_size=4, with_nodes=False)
    pending = [Pending("pool", 0, i, f"u{i}", np.zeros(9, np.float32)) for i in range(2)]
    results = handler.run_inference(pending, Teacher.__new__(Teacher))
    assert [(result.labels, result.error) for result in results] == [
        (None, "ResourceExhaustedError: out of memory")
    ] * 2
    with pytest.raises(ValueError, match=r"none of 21 utterances was labelled .*dead_letter.jsonl"):
        label(world["root"], tmp_path)
    assert not (tmp_path / "dataset.json").exists()


def test_teachers_that_cannot_teach_are_named(world, tmp_path):
    with pytest.raises(ValueError, match="holds no SavedModel"):
        label(world["root"], tmp_path / "output", teacher=str(tmp_path))
    shutil.copytree(world["root"] / "teacher", tmp_path / "teacher")
    metadata = tmp_path / "teacher" / "assets.extra" / "metadata.json"
    content = json.loads(metadata.read_text())
    metadata.write_text(json.dumps({**content, "sample_rate": 8000}))
    with pytest.raises(ValueError, match="has sample rate 8000, this pipeline needs 16000"):
        label(world["root"], tmp_path / "output", teacher=str(tmp_path / "teacher"))
    metadata.unlink()
    with pytest.raises(ValueError, match="lacks assets.extra/metadata.json"):
        label(world["root"], tmp_path / "output", teacher=str(tmp_path / "teacher"))
    tf.saved_model.save(tf.Module(), str(tmp_path / "plain"))
    with pytest.raises(ValueError, match="lacks the signatures teacher, teacher_forced, joint"):
        label(world["root"], tmp_path / "output", teacher=str(tmp_path / "plain"))


def test_options_are_checked():
    with pytest.raises(ValueError, match="no artifact dense: choose of hard, collapsed, factored"):
        LabellingOptions(artifacts=("hard", "dense"))
    with pytest.raises(ValueError, match="min_confidence must lie in 0..1, got 7"):
        LabellingOptions(min_confidence=7)


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
