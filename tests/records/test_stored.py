"""Artifacts in training batches, against the arrays that were written into the records."""

import numpy as np
import pytest
from word_records import FRONTEND, batches, num_encoder_frames, write

from tf_rnnt_kd.lattice import NEGATIVE_INFINITY
from tf_rnnt_kd.records import bytes_feature, codecs, features, reader, schema, stored

WIDTH, VOCAB_SIZE, K, LAYERS = 5, 12, 3, {"block_1": 4, "block_3": 6}


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def knowledge(utterance, tokenizer):
    """Random numbers of every kind of artifact, seeded by the utterance."""
    tokens = tokenizer.encode(utterance.text)
    num_frames, num_labels = num_encoder_frames(utterance), len(tokens)
    rng = np.random.default_rng(int(utterance.utterance_id[2:]))
    nodes = log_softmax(rng.normal(size=[num_frames, num_labels + 1, 3]))
    nodes[:, -1] = np.log([0.75, 1e-30, 0.25])
    dense = log_softmax(rng.normal(size=[num_frames, num_labels + 1, VOCAB_SIZE]) * 3)
    order = np.argsort(-dense, axis=-1)
    best = np.take_along_axis(dense, order, -1)
    hypotheses = [tokens, tokens[1:], [*tokens, tokens[0], tokens[0]]]
    return {
        "tokens": tokens,
        "num_frames": num_frames,
        "log_prob": -float(rng.uniform(1, 9)),
        "nodes": nodes,
        "projections": [rng.normal(size=[n, WIDTH]).astype(np.float32) for n in (num_frames, num_labels + 1)],
        "hidden": {name: rng.normal(size=[num_frames, width]) for name, width in LAYERS.items()},
        "dense": dense,
        "top_k": (order[..., :K], best[..., :K], np.logaddexp.reduce(best[..., K:], axis=-1)),
        "nbest": features.NBest(
            tuple(np.array(one) for one in hypotheses), np.array([-1.0, -2.0, -3.5]), ("A", "B", "C")
        ),
    }


def record(utterance, known, artifacts, *, band=None, factored_type="bfloat16"):
    teacher = schema.TeacherLabels(
        tokens=known["tokens"], text=utterance.text, log_prob=known["log_prob"], num_frames=known["num_frames"],
        token_frames=[0] * len(known["tokens"]), token_confidence=[1.0] * len(known["tokens"]), word_confidence=[1.0],
    )  # fmt: skip
    symbols, log_probs, rest = known["top_k"]
    made = {
        "nbest": lambda: features.nbest_features(known["nbest"]),
        "collapsed": lambda: features.collapsed_features(known["nodes"], bits=16, band=band),
        "factored": lambda: features.factored_features(*known["projections"], factored_type=factored_type),
        "hidden": lambda: features.hidden_features(known["hidden"]),
        "dense": lambda: {"dense": bytes_feature(codecs.encode_dense(known["dense"]))},
        "top_k": lambda: {
            "top_k": bytes_feature(
                codecs.encode_top_k(symbols, log_probs=log_probs, rest=rest, vocab_size=VOCAB_SIZE, band=band)
            )
        },
    }
    parts = {}
    for name in artifacts:
        parts |= made[name]() if name in made else {}
    return schema.encode_distillation(schema.encode_utterance(utterance), teacher=teacher, artifacts=parts)


def labelled(directory, utterances, tokenizer, artifacts, *, without=lambda index: False, band_width=0, **kwargs):
    """A source whose utterances have the artifacts, but for those of an index that is `without`; and what they hold."""
    known, records = {}, []
    for index, utterance in enumerate(utterances):
        here = knowledge(utterance, tokenizer)
        band = None
        if band_width:
            frames = np.linspace(0, here["num_frames"] - 1, len(here["tokens"])).astype(int)
            band = codecs.band_around(frames, width=band_width, num_frames=here["num_frames"])
        if without(index):
            records.append(schema.encode_utterance(utterance))
        else:
            records.append(record(utterance, here, artifacts, band=band, **kwargs))
            known[utterance.utterance_id] = {**here, "band": band}
    teacher = {"model_id": "a", "tokenizer_hash": "t", "frame_seconds": 0.04}
    return write(directory, records, teacher=teacher, artifacts=("hard", *artifacts)), known


def rows(dataset, known, count=8):
    """(what is known of the row's utterance, the row, the batch's frames and labels) of each row that has a teacher."""
    found = 0
    for batch in dataset.take(count).as_numpy_iterator():
        sizes = batch["features"].shape[1] // 4, batch["tokens"].shape[1]
        for index, name in enumerate(batch["utterance_id"]):
            here = known.get(name.decode())
            assert batch["has_teacher"][index] == (here is not None)
            if here is not None:
                found += 1
                yield here, {key: value[index] for key, value in batch.items()}, sizes
    assert found


@pytest.fixture(scope="module")
def some(utterances):
    return [u for u in utterances.values()][:8]


@pytest.mark.parametrize("band_width", [0, 4])
def test_collapsed_lattices_arrive_and_nothing_is_where_none_was_stored(some, tokenizer, tmp_path, band_width):
    source, known = labelled(
        tmp_path, some, tokenizer, ("collapsed",), without=lambda index: index % 2, band_width=band_width
    )
    for here, row, (frames, labels) in rows(batches(source, tokenizer, artifacts=("collapsed",))[1], known):
        assert row["teacher_nodes"].shape == (frames, labels + 1, 3)
        exact = np.full([frames, labels + 1, 3], NEGATIVE_INFINITY)
        exact[: here["num_frames"], : len(here["tokens"]) + 1] = here["nodes"]
        exact[:, len(here["tokens"]), 1] = NEGATIVE_INFINITY
        if band_width:
            first, width = here["band"]
            for t in range(here["num_frames"]):
                exact[t, : first[t]] = exact[t, first[t] + width :] = NEGATIVE_INFINITY
            assert (exact[: here["num_frames"], : len(here["tokens"]) + 1, 0] == NEGATIVE_INFINITY).any()
        np.testing.assert_allclose(row["teacher_nodes"], exact, atol=2e-3, rtol=1e-6)


@pytest.mark.parametrize("factored_type", ["bfloat16", "int8"])
def test_factored_lattices_arrive(some, tokenizer, tmp_path, factored_type):
    source, known = labelled(
        tmp_path, some, tokenizer, ("factored",), without=lambda index: index % 3 == 0, factored_type=factored_type
    )
    for here, row, (frames, labels) in rows(batches(source, tokenizer, artifacts=("factored",))[1], known):
        for part, size, exact in zip(("encoder", "predictor"), (frames, labels + 1), here["projections"], strict=True):
            assert row[f"teacher_{part}"].shape == (size, WIDTH)
            bound = np.abs(exact).max(1, keepdims=True) * (2.0**-8 if factored_type == "bfloat16" else 1 / 253)
            assert (np.abs(row[f"teacher_{part}"][: len(exact)] - exact) <= bound).all()
            assert not row[f"teacher_{part}"][len(exact) :].any()


@pytest.mark.parametrize("band_width", [0, 4])
def test_the_best_symbols_arrive(some, tokenizer, tmp_path, band_width):
    source, known = labelled(tmp_path, some, tokenizer, ("top_k",), without=lambda i: i == 1, band_width=band_width)
    for here, row, (frames, labels) in rows(batches(source, tokenizer, artifacts=("top_k",))[1], known):
        symbols, log_probs, rest = here["top_k"]
        stored_ = np.zeros([frames, labels + 1], bool)
        stored_[: here["num_frames"], : len(here["tokens"]) + 1] = True
        if band_width:
            first, width = here["band"]
            for t in range(here["num_frames"]):
                stored_[t, : first[t]] = stored_[t, first[t] + width :] = False
        inside = stored_[: here["num_frames"], : len(here["tokens"]) + 1]
        assert row["teacher_top_k_symbols"].shape == (frames, labels + 1, K)
        assert row["teacher_top_k_symbols"].dtype == np.int32
        np.testing.assert_array_equal(row["teacher_top_k_symbols"][stored_], symbols[inside])
        np.testing.assert_allclose(row["teacher_top_k_log_probs"][stored_], log_probs[inside], rtol=0.04, atol=0.04)
        np.testing.assert_allclose(row["teacher_top_k_rest"][stored_], rest[inside], rtol=0.04, atol=0.04)
        assert (row["teacher_top_k_log_probs"][~stored_] == np.float32(NEGATIVE_INFINITY)).all()
        assert (row["teacher_top_k_rest"][~stored_] == np.float32(NEGATIVE_INFINITY)).all()


def test_hidden_layers_scores_and_whole_distributions_arrive_together(some, tokenizer, tmp_path):
    names = ("hard", "hidden", "dense")
    source, known = labelled(tmp_path, some, tokenizer, ("hidden", "dense"), without=lambda index: index == 4)
    for here, row, (frames, labels) in rows(batches(source, tokenizer, artifacts=names)[1], known):
        np.testing.assert_allclose(row["teacher_log_prob"], here["log_prob"], rtol=1e-6)
        for layer, width in LAYERS.items():
            assert row[f"teacher_hidden/{layer}"].shape == (frames, width)
            np.testing.assert_allclose(
                row[f"teacher_hidden/{layer}"][: here["num_frames"]], here["hidden"][layer], rtol=2**-8
            )
        assert row["teacher_dense"].shape == (frames, labels + 1, VOCAB_SIZE)
        np.testing.assert_allclose(
            row["teacher_dense"][: here["num_frames"], : len(here["tokens"]) + 1], here["dense"], rtol=2**-10
        )


@pytest.mark.parametrize("count", [2, 5])
def test_hypotheses_arrive_the_long_ones_too(some, tokenizer, tmp_path, count):
    source, known = labelled(tmp_path, some, tokenizer, ("nbest",))
    buckets, dataset = batches(source, tokenizer, artifacts=("nbest",), num_hypotheses=count)
    longest = max(len(here["tokens"]) for here in known.values())
    assert max(bucket.num_labels for bucket in buckets) == longest + (2 if count > 2 else 0)
    for here, row, (_, labels) in rows(dataset, known):
        assert row["nbest_tokens"].shape == (count, labels) and row["nbest_num_tokens"].shape == (count,)
        exact = here["nbest"]
        for n in range(count):
            if n < 3:
                length = row["nbest_num_tokens"][n]
                assert row["nbest_tokens"][n, :length].tolist() == exact.tokens[n].tolist()
                assert row["nbest_log_prob"][n] == exact.log_prob[n]
            else:
                assert row["nbest_num_tokens"][n] == 0 and row["nbest_log_prob"][n] == np.float32(NEGATIVE_INFINITY)


def test_speed_is_refused_with_what_lies_on_the_time_axis_only(some, tokenizer, tmp_path):
    source, _ = labelled(tmp_path, some, tokenizer, ("collapsed", "nbest"))
    with pytest.raises(ValueError, match="speed_factors change the time axis, on which collapsed of the teacher"):
        batches(source, tokenizer, speed_factors=(0.9,), artifacts=("collapsed", "nbest"))
    _, dataset = batches(source, tokenizer, speed_factors=(0.9, 1.0), artifacts=("hard", "nbest"))
    assert "nbest_tokens" in next(iter(dataset))


def test_what_no_record_has_cannot_be_asked_for(some, tokenizer, tmp_path):
    source, _ = labelled(tmp_path / "a", some, tokenizer, ("collapsed", "top_k"))
    with pytest.raises(ValueError, match="training on factored needs records that have it.*found none.*hard,factored"):
        batches(source, tokenizer, artifacts=("factored",))
    with pytest.raises(ValueError, match="no artifact lattice: choose of hard, nbest"):
        batches(source, tokenizer, artifacts=("lattice",))
    other = tmp_path / "b"
    symbols, log_probs, rest = knowledge(some[0], tokenizer)["top_k"]
    known = {**knowledge(some[0], tokenizer), "top_k": (symbols[..., :2], log_probs[..., :2], rest)}
    records = [record(some[0], known, ("top_k",))] * 2
    other = write(other, records, teacher={"model_id": "b"}, artifacts=("hard", "top_k"))
    with pytest.raises(ValueError, match=r"all of one kind; found TopK\(k=3\) in .*TopK\(k=2\) in"):
        stored.open_artifacts(("top_k",), sources=[source, other])


def test_a_split_without_a_teacher_mixes_with_one_that_has(some, tokenizer, tmp_path, source):
    taught, known = labelled(tmp_path, some[:4], tokenizer, ("collapsed",))
    inventory = reader.take_inventory([taught, source], tokenizer=tokenizer, frontend=FRONTEND, subsampling=4)
    buckets = reader.plan_buckets(inventory, num_buckets=1, frames_per_batch=500, multiple=8)
    dataset = reader.training_batches(
        [taught, source], tokenizer=tokenizer, frontend=FRONTEND, subsampling=4, buckets=buckets, seed=1,
        shuffle_buffer=30, artifacts=("collapsed",),
    )  # fmt: skip
    flags = np.concatenate([batch["has_teacher"] for batch in dataset.take(12).as_numpy_iterator()])
    assert set(flags) == {0.0, 1.0}
