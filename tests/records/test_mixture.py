"""Mixtures: shares of sources, who made the labels, several teachers, noise, and workers that share batches."""

import collections
import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from word_records import FRONTEND, num_encoder_frames, utterance, write

from tf_rnnt_kd.records import dataset, features, reader, schema, streams


def labels(tokens, num_frames, model_id="a"):
    count = len(tokens)
    return schema.TeacherLabels(tokens, "", -3.0, num_frames, [0] * count, [0.5] * count, [0.5], model_id=model_id)


def taught(folder, utterances, tokenizer, *, blank=-1.0, model_id="a"):
    """Records with collapsed lattices whose blanks all have this log-prob: they say which teacher they are of."""
    records = []
    for one in utterances:
        tokens = tokenizer.encode(one.text)[:2]
        num_frames = num_encoder_frames(one)
        nodes = np.full([num_frames, len(tokens) + 1, 3], np.log((1 - np.exp(blank)) / 2))
        nodes[..., 0] = blank
        nodes[:, -1, 1], nodes[:, -1, 2] = -np.inf, np.log(1 - np.exp(blank))
        records.append(
            schema.encode_distillation(
                schema.encode_utterance(one), teacher=labels(tokens, num_frames, model_id),
                artifacts=features.collapsed_features(nodes, bits=16, band=None),
            )
        )
    teacher = {"model_id": model_id, "tokenizer_hash": tokenizer.hash, "frame_seconds": 0.04}
    return write(folder, records, teacher=teacher, artifacts=("hard", "collapsed"))


def plain(folder, utterances):
    return write(folder, [schema.encode_utterance(one) for one in utterances])


def some(first, count):
    return [utterance(index) for index in range(first, first + count)]


def mixed(sources, tokenizer, *, seed=1, **settings):
    buckets = [reader.Bucket(88, 20, 8), reader.Bucket(144, 20, 4)]
    return reader.training_batches(
        sources, tokenizer=tokenizer, frontend=FRONTEND, subsampling=4, seed=seed, shuffle_buffer=8,
        **{"buckets": buckets, **settings},
    )


def test_weights_are_shares_of_the_utterances_and_persons_labels_are_told_from_teachers(tmp_path, tokenizer):
    few, many = some(0, 3), some(10, 8)
    sources = reader.mixture(
        [plain(tmp_path / "few", few), taught(tmp_path / "many", many, tokenizer)],
        ((f"{tmp_path}/few:train", 3), (f"{tmp_path}/many:train", 1.0)),
    )
    assert [source.weight for source in sources] == [3, 1]
    known = {one.utterance_id for one in few}
    seen = collections.Counter()
    for batch in mixed(sources, tokenizer).take(120).as_numpy_iterator():
        for name, is_labelled in zip(batch["utterance_id"], batch["is_labelled"], strict=True):
            assert is_labelled == (name.decode() in known)
            seen[bool(is_labelled)] += 1
    # 3 of 4; the standard deviation of the share is sqrt(0.75 * 0.25 / n).
    total = seen.total()
    assert total > 400 and abs(seen[True] / total - 0.75) < 4 * np.sqrt(0.1875 / total)


def test_a_mixture_is_repeated_by_its_seed_and_goes_on_from_a_checkpoint(tmp_path, tokenizer):
    sources = [
        dataclasses.replace(plain(tmp_path / "a", some(0, 5)), weight=1.0),
        dataclasses.replace(plain(tmp_path / "b", some(10, 6)), weight=2.0),
    ]
    settings = {
        "speed_factors": (0.9, 1.0, 1.1), "noise": reader.open_noise("white", probability=0.5, snr_db=(0, 20)),
    }

    def numbers(iterator, count):
        return [
            (batch["utterance_id"].numpy().tolist(), float(tf.reduce_sum(batch["features"])))
            for batch in (next(iterator) for _ in range(count))
        ]

    first = iter(mixed(sources, tokenizer, **settings))
    numbers(first, 5)
    path = tf.train.Checkpoint(iterator=first).save(str(tmp_path / "state"))
    expected = numbers(first, 8)
    second = iter(mixed(sources, tokenizer, **settings))
    tf.train.Checkpoint(iterator=second).restore(path)
    assert numbers(second, 8) == expected
    assert numbers(iter(mixed(sources, tokenizer, seed=2, **settings)), 13)[5:] != expected


def test_transcripts_with_a_teachers_lattices_are_still_a_persons(tmp_path, tokenizer):
    source = taught(tmp_path, some(0, 8), tokenizer)
    file = tmp_path / dataset.DATASET_FILE
    info = json.loads(file.read_text())
    file.write_text(json.dumps({**info, "settings": {"targets": "reference"}}))
    batch = next(iter(mixed([source], tokenizer, artifacts=("collapsed",))))
    assert batch["is_labelled"].numpy().all() and batch["has_teacher"].numpy().all()


def test_two_teachers_of_the_same_audio_and_none_come_in_one_stream(tmp_path, tokenizer):
    same = some(0, 8)
    sources = [
        taught(tmp_path / "a", same, tokenizer, blank=-1.0, model_id="a"),
        taught(tmp_path / "b", same, tokenizer, blank=-0.5, model_id="b"),
        plain(tmp_path / "c", some(20, 4)),
    ]
    reader.check_teacher(sources, tokenizer_hash=tokenizer.hash, frame_seconds=0.04, node_level=True)
    seen = collections.defaultdict(set)
    for batch in mixed(sources, tokenizer, artifacts=("collapsed",)).take(20).as_numpy_iterator():
        for row, name in enumerate(batch["utterance_id"]):
            blank = float(batch["teacher_nodes"][row, 0, 0, 0]) if batch["has_teacher"][row] else None
            seen[name.decode()].add(None if blank is None else round(blank, 2))
    assert {name: said for name, said in seen.items() if name in {u.utterance_id for u in same}} == {
        one.utterance_id: {-1.0, -0.5} for one in same
    }
    assert {frozenset(said) for name, said in seen.items() if name >= "u-020"} == {frozenset([None])}


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        (("a:x@2", "b:y"), (("x", 1), ("y", 1)), "both in data.mixture and in --train"),
        (("a:x", "b:y"), (("x", 1),), "no weight for b:y, it has: x"),
        (("a:x", "b:y"), (("x", 1), ("y", 1), ("z", 1)), "names z, but --train has a:x, b:y"),
        (("a:x",), (("x", 0),), "must be a positive number"),
    ],
)
def test_weights_that_do_not_fit_are_refused(names, weights, message):
    with pytest.raises(ValueError, match=message):
        reader.mixture([reader.Source.parse(name, weighted=True) for name in names], weights)


def test_weights_on_the_command_line():
    sources = [reader.Source.parse(text, weighted=True) for text in ("run/a:train@9", "gs://bucket@1/b:train")]
    assert [str(source) for source in sources] == ["run/a:train@9", "gs://bucket@1/b:train"]
    assert [source.weight for source in reader.mixture(sources)] == [9, 1]
    assert [source.weight for source in reader.mixture(sources[1:])] == [None]
    with pytest.raises(ValueError, match="weight of run/a:train@many must be a positive number"):
        reader.Source.parse("run/a:train@many", weighted=True)
    with pytest.raises(ValueError, match="'run/a:dev@2' has a weight, which only --train and data.mixture heed"):
        reader.Source.parse("run/a:dev@2")


def test_a_source_with_a_weight_and_nothing_to_draw_is_an_error(tmp_path, tokenizer):
    silent = [dataclasses.replace(one, text=None) for one in some(0, 3)]
    source = dataclasses.replace(plain(tmp_path, silent), weight=2.0)
    with pytest.raises(ValueError, match=r"has weight 2 .* no usable utterance.*no_transcript': 3"):
        reader.take_inventory([source], tokenizer=tokenizer, frontend=FRONTEND, subsampling=4)


def test_workers_make_the_parts_of_the_same_batches(tmp_path, source, tokenizer):
    settings = {"speed_factors": (0.9, 1.1), "noise": reader.open_noise("white", probability=0.5, snr_db=(5, 5))}
    whole = mixed([source], tokenizer, **settings)
    parts = [mixed([source], tokenizer, num_parts=2, part=part, **settings) for part in range(2)]
    shapes = set()
    for one, *halves in tf.data.Dataset.zip((whole, *parts)).take(12).as_numpy_iterator():
        for name, value in one.items():
            np.testing.assert_array_equal(value, np.concatenate([half[name] for half in halves]))
        shapes.add(one["features"].shape)
    assert len(shapes) == 2
    with pytest.raises(ValueError, match=r"batches of \[8, 4\] .* among 3 workers"):
        mixed([source], tokenizer, num_parts=3)


def test_audio_comes_along_as_it_was_before_noise(source, tokenizer, utterances):
    noise = reader.open_noise("white", probability=1.0, snr_db=(0.0, 0.0))
    clean = next(iter(mixed([source], tokenizer, waveforms=True)))
    noisy = next(iter(mixed([source], tokenizer, waveforms=True, noise=noise)))
    np.testing.assert_array_equal(clean["waveforms"], noisy["waveforms"])
    assert clean["waveforms"].shape[1] == clean["features"].shape[1] * FRONTEND.hop
    for row, name in enumerate(clean["utterance_id"].numpy()):
        original = utterances[name.decode()].waveform
        assert clean["num_samples"][row] == len(original)
        np.testing.assert_array_equal(clean["waveforms"][row, : len(original)], original)
        frames = int(clean["num_frames"][row])
        added = (noisy["features"] - clean["features"])[row, :frames].numpy()
        assert 0.5 < added.mean() < 0.9  # twice the power is 0.69 in natural logarithms


def test_noise_is_in_a_share_of_the_utterances_at_ratios_within_the_range():
    mixer = reader.open_noise("white", probability=0.3, snr_db=(0.0, 10.0))
    waveform = tf.constant(np.sin(np.arange(4000) / 3), tf.float32)
    mix = tf.function(lambda index: mixer(waveform, seed=7, index=index))
    added = [(mix(tf.constant(index)) - waveform).numpy() for index in range(200)]
    powers = np.array([np.mean(noise**2) for noise in added if noise.any()])
    assert abs(len(powers) / 200 - 0.3) < 0.1
    ratios = 10 * np.log10(np.mean(waveform.numpy() ** 2) / powers)
    assert -0.5 < ratios.min() < 2 and 8 < ratios.max() < 10.5


def test_noise_may_be_a_record_set(tmp_path, tokenizer):
    source = plain(tmp_path, some(0, 4))
    mixer = reader.open_noise(str(source), probability=1.0, snr_db=(0.0, 10.0))
    assert len(mixer.bank) == 4
    for name, message in ((str(tmp_path), "write .*:SPLIT"), (f"{tmp_path}/none", "no folder of audio files")):
        with pytest.raises(ValueError, match=message):
            reader.open_noise(name, probability=1.0, snr_db=(0.0, 10.0))
    with pytest.raises(ValueError, match="noise_snr_db"):
        reader.open_noise("white", probability=1.0, snr_db=(10.0, 0.0))
    with pytest.raises(ValueError, match="noise_probability"):
        reader.open_noise("white", probability=1.5, snr_db=(0.0, 10.0))
    assert reader.open_noise("", probability=0.0, snr_db=()) is None


def test_buckets_are_added_until_the_padding_is_within_its_bound():
    random = np.random.default_rng(0)
    inventory = reader.Inventory(random.integers(100, 1500, 400), random.integers(1, 50, 400), 1.0, [])
    plan = {"frames_per_batch": 20000, "multiple": 8}
    one = reader.plan_buckets(inventory, num_buckets=1, **plan)
    want = 1 - inventory.num_frames.sum() / (400 * one[0].num_frames)
    assert reader.padding_share(inventory, one) == pytest.approx(want) and want > 0.4
    bounded = reader.plan_buckets(inventory, num_buckets=1, max_padding=0.1, **plan)
    assert reader.padding_share(inventory, bounded) <= 0.1
    fewer = reader.plan_buckets(inventory, num_buckets=len(bounded) - 1, **plan)
    assert reader.padding_share(inventory, fewer) > 0.1
    with pytest.raises(ValueError, match=r"multiples of 8 frames, have .* % padding: raise data.max_padding, 0.0001"):
        reader.plan_buckets(inventory, num_buckets=1, max_padding=1e-4, **plan)


def test_an_utterance_has_room_at_every_speed():
    """The one with many labels is in the long bucket at speed 1, and in the short one when it is played faster."""
    inventory = reader.Inventory(np.array([100, 100, 110]), np.array([3, 3, 9]), 0.1, [])
    plan = {"num_buckets": 2, "frames_per_batch": 500, "multiple": 1}
    assert [b.num_labels for b in reader.plan_buckets(inventory, **plan)] == [3, 9]
    assert [b.num_labels for b in reader.plan_buckets(inventory, speed_factors=(1.0, 1.2), **plan)] == [9, 9]


def test_many_shards_are_read_some_at_a_time_in_another_order_each_epoch(source, utterances, monkeypatch):
    monkeypatch.setattr(streams, "_OPEN_SHARDS", 1)
    stream = streams.endless_records([source], seed=4, shuffle_buffer=1)  # no records are shuffled, only the shards
    order = [
        schema.decode_utterance(record).utterance_id
        for record, _ in stream.take(6 * len(utterances)).as_numpy_iterator()
    ]
    epochs = [order[start : start + len(utterances)] for start in range(0, len(order), len(utterances))]
    assert all(sorted(epoch) == sorted(utterances) for epoch in epochs)
    assert {tuple(epoch[:2]) for epoch in epochs} == {("u-000", "u-002"), ("u-001", "u-003")}
