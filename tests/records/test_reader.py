"""Training batches, against the utterances they were written from."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.records import codecs, dataset, reader, schema
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer

FRONTEND = LogMelFrontend(num_mel_bins=20)
WORDS = ["ONE", "TWO", "THREE", "FOUR"]


def utterance(index):
    rng = np.random.default_rng(index)
    waveform = np.round(rng.normal(size=int(rng.integers(6000, 20000))) * 3000) / 32768
    text = " ".join(rng.choice(WORDS, size=rng.integers(1, 5)))
    return schema.Utterance(f"u-{index:03d}", waveform.astype(np.float32), text, "speaker", "train")


def write(directory, records, *, split="train", teacher=None):
    shards = []
    for index in range(2):
        file = dataset.shard_file(split, index=index, num_shards=2)
        shards.append(dataset.write_shard(directory, file=file, records=records[index::2]))
    splits = {split: dataset.Split(tuple(shards), len(records), 1.0, True)}
    info = dataset.DatasetInfo(kind="utterances", splits=splits, counts={}, rejected={}, teacher=teacher)
    info.save(directory)
    return reader.Source(str(directory), split)


@pytest.fixture(scope="module")
def utterances():
    return {u.utterance_id: u for u in map(utterance, range(24))}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train_characters(WORDS)


@pytest.fixture(scope="module")
def source(tmp_path_factory, utterances):
    return write(tmp_path_factory.mktemp("records"), [schema.encode_utterance(u) for u in utterances.values()])


def batches(source, tokenizer, **changes):
    inventory = reader.take_inventory([source], tokenizer=tokenizer, frontend=FRONTEND, subsampling=4)
    buckets = reader.plan_buckets(inventory, num_buckets=2, frames_per_batch=500, multiple=8)
    settings = {"seed": 1, "shuffle_buffer": 8, "subsampling": 4, "buckets": buckets, **changes}
    return buckets, reader.training_batches([source], tokenizer=tokenizer, frontend=FRONTEND, **settings)


def test_every_batch_has_its_buckets_shape_and_the_utterances_content(source, tokenizer, utterances):
    buckets, dataset_ = batches(source, tokenizer)
    shapes = {(b.batch_size, b.num_frames, 20) for b in buckets}
    labels = {b.num_frames: b.num_labels for b in buckets}
    seen = set()
    for batch in dataset_.take(60).as_numpy_iterator():
        assert batch["features"].shape in shapes
        assert batch["tokens"].shape[1] == labels[batch["features"].shape[1]]
        for i, name in enumerate(batch["utterance_id"]):
            original = utterances[name.decode()]
            seen.add(original.utterance_id)
            features, num_frames = FRONTEND(original.waveform[None], tf.constant([len(original.waveform)]))
            assert batch["num_frames"][i] == num_frames[0]
            np.testing.assert_allclose(batch["features"][i, : num_frames[0]], features[0], atol=1e-4)
            assert not batch["features"][i, int(num_frames[0]) :].any()
            ids = batch["tokens"][i][: batch["num_tokens"][i]]
            assert tokenizer.decode(ids.tolist()) == original.text
            assert not batch["tokens"][i][batch["num_tokens"][i] :].any()
    frames = {u.utterance_id: math.ceil(math.ceil(len(u.waveform) / 160) / 4) for u in utterances.values()}
    # The others have more tokens than encoder frames.
    assert seen == {name for name, u in utterances.items() if len(tokenizer.encode(u.text)) <= frames[name]}
    assert len(seen) == 22


def test_same_seed_same_batches_and_a_saved_iterator_goes_on_where_it_was(source, tokenizer, tmp_path):
    def names(iterator, count):
        return [next(iterator)["utterance_id"].numpy().tolist() for _ in range(count)]

    first = iter(batches(source, tokenizer)[1])
    names(first, 5)
    path = tf.train.Checkpoint(iterator=first).save(str(tmp_path / "state"))
    expected = names(first, 12)
    second = iter(batches(source, tokenizer)[1])
    tf.train.Checkpoint(iterator=second).restore(path)
    assert names(second, 12) == expected
    other = iter(batches(source, tokenizer, seed=2)[1])
    names(other, 5)
    assert names(other, 12) != expected


def test_untrainable_records_are_named_with_their_reason(tokenizer, tmp_path, utterances):
    good = list(utterances.values())[:4]
    bad = [
        dataclasses.replace(good[0], utterance_id="unknown", text="ONE KÖLN"),
        dataclasses.replace(good[0], utterance_id="long", waveform=np.ones(1600, np.float32) * 0.1),
        dataclasses.replace(good[0], utterance_id="unlabelled", text=None),
    ]
    source = write(tmp_path, [schema.encode_utterance(u) for u in [*good, *bad]])
    inventory = reader.take_inventory([source], tokenizer=tokenizer, frontend=FRONTEND, subsampling=4)
    reasons = {entry["id"]: entry["reason"] for entry in inventory.rejected}
    assert reasons == {
        "unknown": reader.UNKNOWN_CHARACTERS, "long": reader.TRANSCRIPT_TOO_LONG, "unlabelled": reader.NO_TRANSCRIPT
    }
    assert len(inventory.num_frames) + len(inventory.rejected) == 7
    assert inventory.counts() == {reason: 1 for reason in reasons.values()}
    _, dataset_ = batches(source, tokenizer)
    seen = {name.decode() for batch in dataset_.take(20) for name in batch["utterance_id"].numpy()}
    assert seen <= {u.utterance_id for u in good}


def lattice_record(u, tokenizer, *, with_lattice=True):
    tokens = tokenizer.encode(u.text)
    num_frames = math.ceil(math.ceil(len(u.waveform) / 160) / 4)
    logits = np.random.default_rng(7).normal(size=[num_frames, len(tokens) + 1, 3])
    nodes = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nodes[:, -1] = np.log([0.75, 1e-30, 0.25])
    teacher = schema.TeacherLabels(
        tokens=tokens, text=u.text, log_prob=-1.0, num_frames=num_frames, token_frames=[0] * len(tokens),
        token_confidence=[1.0] * len(tokens), word_confidence=[1.0],
    )
    artifacts = {}
    if with_lattice:
        encoded = codecs.encode_collapsed(nodes[..., 0], label=nodes[..., 1], rest=nodes[..., 2], bits=16)
        artifacts = {"collapsed": schema.bytes_feature(encoded)}
    return schema.encode_distillation(schema.encode_utterance(u), teacher=teacher, artifacts=artifacts), nodes


def test_stored_lattices_arrive_and_utterances_without_one_weigh_nothing(tokenizer, tmp_path, utterances):
    chosen = list(utterances.values())[:8]
    lattices, records = {}, []
    for index, u in enumerate(chosen):
        record, nodes = lattice_record(u, tokenizer, with_lattice=index % 2 == 0)
        records.append(record)
        lattices[u.utterance_id] = nodes if index % 2 == 0 else None
    source = write(tmp_path, records)
    _, dataset_ = batches(source, tokenizer, artifacts=("collapsed",))
    compared = 0
    for batch in dataset_.take(8).as_numpy_iterator():
        assert batch["teacher_nodes"].shape[1:] == (batch["features"].shape[1] // 4, batch["tokens"].shape[1] + 1, 3)
        for i, name in enumerate(batch["utterance_id"]):
            expected = lattices[name.decode()]
            assert batch["has_teacher"][i] == (expected is not None)
            if expected is not None:
                frames, labels = expected.shape[0], expected.shape[1] - 1
                stored = batch["teacher_nodes"][i, :frames, : labels + 1]
                np.testing.assert_allclose(stored[:, :labels], expected[:, :labels], atol=2e-3)
                np.testing.assert_allclose(stored[:, labels, [0, 2]], expected[:, labels, [0, 2]], atol=2e-3)
                compared += 1
    assert compared


def test_factored_lattices_arrive_with_the_teachers_joint(tokenizer, tmp_path, utterances):
    rng = np.random.default_rng(3)
    chosen, projections, records = list(utterances.values())[:6], {}, []
    for index, u in enumerate(chosen):
        record, nodes = lattice_record(u, tokenizer, with_lattice=False)
        if index % 3:
            pair = [rng.normal(size=[n, 5]).astype(np.float32) for n in nodes.shape[:2]]
            teacher = schema.decode_teacher(record)
            artifacts = {}
            for name, array in zip(("encoder", "predictor"), pair, strict=True):
                artifacts[f"factored/{name}"] = schema.bytes_feature(codecs.encode_bfloat16(array))
                artifacts[f"factored/{name}_shape"] = schema.int64_feature(array.shape)
            record = schema.encode_distillation(schema.encode_utterance(u), teacher=teacher, artifacts=artifacts)
            projections[u.utterance_id] = pair
        records.append(record)
    kernel, bias = rng.normal(size=[5, 4]).astype(np.float32), np.arange(4, dtype=np.float32)
    np.savez(tmp_path / "joint.npz", kernel=kernel, bias=bias)
    source = write(tmp_path, records, teacher={"model_id": "a", "tokenizer_hash": "t", "frame_seconds": 0.04})
    for got, want in zip(reader.teacher_joint([source]), (kernel, bias), strict=True):
        np.testing.assert_array_equal(got, want)
    _, dataset_ = batches(source, tokenizer, artifacts=("factored",))
    compared = 0
    for batch in dataset_.take(8).as_numpy_iterator():
        assert batch["teacher_encoder"].shape[1:] == (batch["features"].shape[1] // 4, 5)
        assert batch["teacher_predictor"].shape[1:] == (batch["tokens"].shape[1] + 1, 5)
        for i, name in enumerate(batch["utterance_id"]):
            pair = projections.get(name.decode())
            assert batch["has_teacher"][i] == (pair is not None)
            for part, array in zip(("encoder", "predictor"), pair or (), strict=False):
                np.testing.assert_allclose(batch[f"teacher_{part}"][i, : len(array)], array, rtol=2**-8)
                assert not np.any(batch[f"teacher_{part}"][i, len(array) :])
                compared += 1
    assert compared
    with pytest.raises(ValueError, match="factored lattices of one teacher, found none"):
        reader.teacher_joint([])


def test_speed_changes_the_length_and_is_refused_with_lattices(source, tokenizer, utterances):
    _, dataset_ = batches(source, tokenizer, speed_factors=(0.5, 1.0))
    ratios = {
        round(int(n) / -(-len(utterances[name.decode()].waveform) // 160))
        for batch in dataset_.take(10).as_numpy_iterator()
        for n, name in zip(batch["num_frames"], batch["utterance_id"], strict=True)
    }
    assert ratios == {1, 2} or ratios == {1}  # the longest ones do not fit their buckets at half speed
    with pytest.raises(ValueError, match="speed_factors"):
        batches(source, tokenizer, speed_factors=(0.9,), artifacts=("collapsed",))


def test_a_teacher_of_another_tokenizer_or_frame_rate_is_refused(tokenizer, tmp_path, utterances):
    teacher = {"tokenizer_hash": "abc", "frame_seconds": 0.04}
    source = write(tmp_path, [schema.encode_utterance(u) for u in utterances.values()], teacher=teacher)
    with pytest.raises(ValueError, match="abc.*def"):
        reader.check_teacher([source], tokenizer_hash="def", frame_seconds=0.04, node_level=False)
    with pytest.raises(ValueError, match="40 ms.*80 ms"):
        reader.check_teacher([source], tokenizer_hash="abc", frame_seconds=0.08, node_level=True)
    reader.check_teacher([source], tokenizer_hash="abc", frame_seconds=0.08, node_level=False)
    reader.check_teacher([source], tokenizer_hash="abc", frame_seconds=0.04, node_level=True)


def test_a_missing_shard_or_dataset_is_one_clear_error(source, tmp_path):
    with pytest.raises(ValueError, match="prepare_corpus"):
        reader.Source(str(tmp_path), "train").paths()
    with pytest.raises(ValueError, match="it has: train"):
        reader.Source(source.directory, "dev").paths()
    with pytest.raises(ValueError, match="DIR:split"):
        reader.Source.parse("records")


def test_a_batch_too_small_for_the_longest_utterance_is_refused():
    inventory = reader.Inventory(np.array([100, 900]), np.array([1, 2]), 0.1, [])
    with pytest.raises(ValueError, match="frames_per_batch"):
        reader.plan_buckets(inventory, num_buckets=2, frames_per_batch=800, multiple=8)
