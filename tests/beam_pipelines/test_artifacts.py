"""Every artifact as it stands in records, against the teacher's own answers and lattices computed by the definition."""

import json

import numpy as np
import pytest
from labelled_corpus import best_path, corpus, direct, label, naive_nodes, options, read, tree

from beam_pipelines.transforms.artifacts import Encoding, check_artifacts, encode_labels
from beam_pipelines.transforms.infer import load_metadata
from beam_pipelines.transforms.labels import Labels
from tf_rnnt_kd.lattice import NEGATIVE_INFINITY
from tf_rnnt_kd.records import codecs, parse_example, read_shard
from tf_rnnt_kd.records.features import decode_factored
from tf_rnnt_kd.records.sources import Source, teacher_joint

EVERYTHING = ("nbest", "collapsed", "factored", "top_k", "hidden", "dense")


@pytest.fixture(scope="module")
def world(tmp_path_factory, fake_teacher):
    """A corpus labelled with everything, whole and in a band with the small types."""
    root = tmp_path_factory.mktemp("artifacts")
    fake_teacher.save(root / "teacher")
    good, _ = corpus(root / "records")
    info = label(root, root / "whole", options=options(*EVERYTHING, encoding={"top_k": 3}))
    small = {"top_k": 2, "band": 2, "factored_type": "int8", "n_best": 2, "hidden_layers": ("high",)}
    label(root, root / "small", options=options(*EVERYTHING, encoding=small))
    with np.load(root / "whole" / "joint.npz") as file:
        joint = {name: file[name] for name in ("kernel", "bias")}
    return {"root": root, "good": good, "info": info, "joint": joint}


def cases(world, folder):
    """(record, the teacher's answers, exact log-probs [T, U+1, V], exact nodes) of each utterance."""
    records = read(world["root"] / folder)
    assert records.keys() == world["good"].keys()
    for name, record in records.items():
        answers = direct(world["root"], world["good"][name])
        projections = [answers["teacher"][f"{part}_projection"] for part in ("encoder", "predictor")]
        logits = np.tanh(projections[0][:, None].astype(np.float64) + projections[1]) @ world["joint"]["kernel"]
        logits += world["joint"]["bias"]
        log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        yield record, answers, log_probs, naive_nodes(*projections, record["teacher/tokens"], **world["joint"])


def sizes(record):
    return {"num_frames": record["teacher/num_frames"][0], "num_labels": len(record["teacher/tokens"])}


def stored_nodes(record):
    """Which nodes [T, U+1] the record holds, by its collapsed artifact."""
    return codecs.decode_collapsed(record["collapsed"][0], **sizes(record))[..., 0] > NEGATIVE_INFINITY


def test_the_joint_is_written_once(world, fake_teacher):
    teacher = fake_teacher.FakeTeacher(5)
    np.testing.assert_array_equal(world["joint"]["kernel"], teacher.kernel.numpy())
    np.testing.assert_array_equal(world["joint"]["bias"], teacher.bias.numpy())


def test_hypotheses_are_those_of_the_teacher(world):
    for folder, most in (("whole", 3), ("small", 2)):
        counts = set()
        for record, answers, *_ in cases(world, folder):
            nbest = answers["nbest"]
            count = min(int(nbest["num_hypotheses"]), most)
            counts.add(count)
            lengths = record["nbest/num_tokens"]
            assert lengths == nbest["num_tokens"][:count].tolist()
            expected = np.concatenate([nbest["tokens"][n, : lengths[n]] for n in range(count)])
            assert record["nbest/tokens"] == expected.tolist()
            assert record["nbest/text"] == nbest["text"][:count].tolist()
            np.testing.assert_allclose(record["nbest/log_prob"], nbest["log_prob"][:count], rtol=1e-6)
        assert counts == ({2, 3} if most == 3 else {2})


@pytest.mark.parametrize("folder", ["whole", "small"])
def test_collapsed_nodes_are_those_of_the_projections(world, folder):
    for record, _, _, nodes in cases(world, folder):
        stored, there = codecs.decode_collapsed(record["collapsed"][0], **sizes(record)), stored_nodes(record)
        assert there.all() or folder == "small"
        assert (stored[~there] == np.float32(NEGATIVE_INFINITY)).all()
        exact = np.where(np.isinf(nodes), stored, nodes)
        assert (np.abs(stored - exact) <= 0.02 * (1 + np.abs(exact)))[there].all()


def test_a_band_has_windows_of_one_width_that_hold_a_best_alignment(world):
    narrow = 0
    for record, _, _, nodes in cases(world, "small"):
        there = stored_nodes(record)
        widths = there.sum(1)
        assert len(set(widths)) == 1 and widths[0] >= min(2, there.shape[1])
        assert all((np.diff(np.flatnonzero(row)) == 1).all() for row in there)
        whole, frames = best_path(nodes)
        in_band, _ = best_path(np.where(there[..., None], nodes, -np.inf))
        assert in_band == pytest.approx(whole, abs=1e-4)
        if widths[0] < there.shape[1]:
            narrow += 1
            assert widths[0] <= max(2, 1 + max(np.bincount(frames)))
    assert narrow >= 4


@pytest.mark.parametrize("folder", ["whole", "small"])
def test_projections_come_in_either_type(world, folder):
    for path in sorted((world["root"] / folder / "pool").glob("*.tfrecord")):
        for raw in read_shard(path):
            features = parse_example(raw)
            waveform = world["good"][features["utterance_id"].bytes_list.value[0].decode()]
            answers = direct(world["root"], waveform)["teacher"]
            for part, stored in zip(("encoder", "predictor"), decode_factored(features), strict=True):
                exact = answers[f"{part}_projection"]
                largest = np.abs(exact).max(1, keepdims=True)
                bound = 2.0**-8 * np.abs(exact) if folder == "whole" else largest / 253
                assert (np.abs(stored - exact) <= bound + 1e-6).all()


def test_factored_lattices_of_any_joint_can_be_read(tmp_path, fake_teacher):
    settings = {"activation": "relu", "combination": "multiply", "factorised_blank": True}
    fake_teacher.save(tmp_path / "teacher", joint={"width": 5, "vocab_size": 5, **settings})
    corpus(tmp_path / "records")
    label(tmp_path, tmp_path / "out", options=options("factored", "dense"))
    kernel, bias, found = teacher_joint([Source(str(tmp_path / "out"), "pool")])
    assert found == settings
    compared = 0
    for path in sorted((tmp_path / "out" / "pool").glob("*.tfrecord")):
        for raw in read_shard(path):
            features = parse_example(raw)
            encoder, predictor = decode_factored(features)
            logits = np.maximum(encoder[:, None].astype(np.float64) * predictor, 0.0) @ kernel + bias
            others = logits[..., 1:] - np.logaddexp.reduce(logits[..., 1:], axis=-1, keepdims=True)
            blank = -np.logaddexp(0.0, -logits[..., :1])
            exact = np.concatenate([blank, others - np.logaddexp(0.0, logits[..., :1])], axis=-1)
            count = {"num_frames": len(encoder), "num_labels": len(predictor) - 1}
            dense = codecs.decode_dense(features["dense"].bytes_list.value[0], **count)
            # The projections are rounded to bfloat16.
            np.testing.assert_allclose(dense, exact, rtol=0.02, atol=0.02)
            compared += dense.size
    assert compared > 1000


@pytest.mark.parametrize(("folder", "k"), [("whole", 3), ("small", 2)])
def test_the_best_symbols_are_those_of_the_exact_softmax(world, folder, k):
    for record, _, log_probs, _ in cases(world, folder):
        stored = codecs.decode_top_k(record["top_k"][0], **sizes(record))
        there = stored_nodes(record)
        order = np.argsort(-log_probs, axis=-1)
        ordered = np.take_along_axis(log_probs, order, -1)
        clear = (np.diff(ordered[..., : k + 1]) < -1e-4).all(-1) & there  # no two that rounding may swap
        assert clear.sum() > 0.9 * there.sum()
        np.testing.assert_array_equal(stored.symbols[clear], order[..., :k][clear])
        rest = np.logaddexp.reduce(ordered[..., k:], axis=-1)
        for found, exact in ((stored.log_probs, ordered[..., :k]), (stored.rest, rest)):
            assert (np.abs(found - exact) <= 0.02 * (1 + np.abs(exact)))[clear].all()
        assert (stored.log_probs[~there] == np.float32(NEGATIVE_INFINITY)).all()


def test_hidden_layers_are_the_ones_that_were_asked_for(world):
    for folder, layers in (("whole", ("high", "low")), ("small", ("high",))):
        for record, answers, *_ in cases(world, folder):
            assert {name for name in record if name.startswith("hidden/")} == {
                f"hidden/{layer}{suffix}" for layer in layers for suffix in ("", "_shape")
            }
            for layer in layers:
                shape = tuple(record[f"hidden/{layer}_shape"])
                assert shape == answers["hidden"][layer].shape
                stored = codecs.decode_bfloat16(record[f"hidden/{layer}"][0], shape=shape)
                np.testing.assert_allclose(stored, answers["hidden"][layer], rtol=2**-8, atol=1e-6)


def test_dense_distributions_are_whole(world):
    for record, _, log_probs, _ in cases(world, "whole"):
        stored = codecs.decode_dense(record["dense"][0], **sizes(record))
        np.testing.assert_allclose(stored, log_probs, rtol=2**-10, atol=1e-5)


def test_bytes_are_counted_for_each_artifact(world):
    content = json.loads((world["root"] / "whole" / "dataset.json").read_text())["artifacts"]
    records = read(world["root"] / "whole").values()
    assert content.keys() == {"hard", *EVERYTHING}
    for name in EVERYTHING:
        payload = sum(
            len(value)
            for record in records
            for feature, values in record.items()
            if feature.partition("/")[0] == name
            for value in values
            if isinstance(value, bytes)
        )
        assert payload <= content[name]["bytes"] <= payload + len(records) * 250
    seconds = sum(record["num_samples"][0] for record in records) / 16000
    assert content["dense"]["bytes_per_hour"] == pytest.approx(content["dense"]["bytes"] / seconds * 3600, abs=1)
    small = json.loads((world["root"] / "small" / "dataset.json").read_text())["artifacts"]
    assert all(small[name]["bytes"] < content[name]["bytes"] for name in ("nbest", "hidden", "top_k", "factored"))


def test_all_artifacts_have_the_same_bytes_each_time(world, tmp_path):
    small = {"top_k": 2, "band": 2, "factored_type": "int8", "n_best": 2, "hidden_layers": ("high",)}
    label(world["root"], tmp_path, options=options(*EVERYTHING, encoding=small))
    assert tree(tmp_path) == tree(world["root"] / "small")


def test_what_a_teacher_lacks_is_said_before_the_job_starts(world, tmp_path, fake_teacher):
    fake_teacher.save(tmp_path / "teacher", without=("nbest", "hidden"))
    for artifact in ("nbest", "hidden"):
        with pytest.raises(ValueError, match=f"--artifacts={artifact} needs a teacher with the signature {artifact}, "
                                             "fake-teacher has joint, serving_default, teacher, teacher_forced: "):
            label(world["root"], tmp_path / "output", options=options(artifact), teacher=str(tmp_path / "teacher"))
    assert not (tmp_path / "output").exists()
    without = options("top_k", "dense", encoding={"top_k": 5})
    label(world["root"], tmp_path / "output", options=without, teacher=str(tmp_path / "teacher"))

    metadata = load_metadata(str(world["root"] / "teacher"))
    for encoding, problem in (
        ({"artifacts": ("hidden",), "hidden_layers": ("low", "block_9")}, "--hidden_layers=block_9: .* low, high"),
        ({"artifacts": ("top_k",), "top_k": 6}, "--top_k=6 is for 6 to 65535 symbols, fake-teacher has 5"),
    ):
        with pytest.raises(ValueError, match=problem):
            check_artifacts(metadata, encoding=Encoding(**encoding))
    for artifacts in (("hard",), ("hidden",), ("nbest", "top_k")):
        check_artifacts(metadata, encoding=Encoding(artifacts=artifacts, top_k=5))
    with pytest.raises(ValueError, match="--artifacts=hidden: fake-teacher offers the layers none"):
        check_artifacts({**metadata, "hidden_layers": {}}, encoding=Encoding(artifacts=("hidden",)))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"artifacts": ("hard", "logits")}, "no artifact logits: choose of hard, nbest, collapsed, factored, top_k"),
        ({"collapsed_bits": 4}, "collapsed_bits must be 8 or 16, got 4"),
        ({"band": 1}, r"band must be 0 \(all\) or 2 or more, got 1"),
        ({"factored_type": "float8"}, "factored_type must be one of bfloat16, int8, got 'float8'"),
        ({"top_k": 0}, "top_k must be 1 or more, got 0"),
        ({"n_best": 0}, "n_best must be 1 or more, got 0"),
    ],
)
def test_options_are_checked(wrong, problem):
    with pytest.raises(ValueError, match=problem):
        Encoding(**wrong)


def test_a_teacher_that_gives_nonsense_is_refused_by_the_codec(world):
    nodes = np.full([3, 2, 3], np.nan, np.float32)
    labels = Labels([1], "A", -1.0, 3, [0], [0.5], [0.5], np.full([3, 2], np.inf), np.zeros([2, 2]), nodes=nodes)
    for artifact, problem in (("collapsed", "not a distribution"), ("factored", "6 non-finite values")):
        with pytest.raises(ValueError, match=problem):
            encode_labels(labels, Encoding(artifacts=(artifact,)))
