"""Training batches, against the utterances they were written from."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from word_records import FRONTEND, batches, num_encoder_frames, write

from tf_rnnt_kd.records import reader, schema


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
    frames = {u.utterance_id: num_encoder_frames(u) for u in utterances.values()}
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


def test_speed_changes_the_length(source, tokenizer, utterances):
    _, dataset_ = batches(source, tokenizer, speed_factors=(0.5, 1.0))
    ratios = {
        round(int(n) / -(-len(utterances[name.decode()].waveform) // 160))
        for batch in dataset_.take(10).as_numpy_iterator()
        for n, name in zip(batch["num_frames"], batch["utterance_id"], strict=True)
    }
    assert ratios == {1, 2} or ratios == {1}  # the longest ones do not fit their buckets at half speed


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
