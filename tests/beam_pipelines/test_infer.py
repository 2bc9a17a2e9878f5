"""A teacher as batches meet it: neighbours, failures, and SavedModels that cannot teach."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from labelled_corpus import FRAME, direct, speech

from beam_pipelines.transforms.artifacts import Encoding
from beam_pipelines.transforms.batch import Pending
from beam_pipelines.transforms.infer import Teacher, TeacherHandler, load_metadata, padded_batch
from tf_rnnt_kd.records import codecs

EVERYTHING = Encoding(artifacts=("hard", "nbest", "collapsed", "factored", "top_k", "hidden", "dense"), top_k=2, band=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory, fake_teacher):
    folder = tmp_path_factory.mktemp("infer")
    fake_teacher.save(folder / "teacher")
    return folder


def pending(*waveforms):
    return [Pending("pool", 0, i, str(i), waveform) for i, waveform in enumerate(waveforms)]


def test_a_result_does_not_depend_on_its_neighbours(root):
    teacher = Teacher(str(root / "teacher"), targets="hypothesis", batch_size=4, encoding=EVERYTHING)
    # No two frames are alike, or the best alignment would be one of several.
    noise = np.random.default_rng(0).normal(size=31 * FRAME).astype(np.float32) * np.linspace(1e-3, 1e-2, 31 * FRAME)
    audio = (speech(i, words=4, frames=30) for i in range(4))
    one, *others = pending(*(one + noise[: len(one)].astype(np.float32) for one in audio))
    (alone,) = teacher.label([one])
    for batch in ([one, *others], [one, one], [one, others[2]]):
        together = teacher.label(batch)[0]
        assert together.tokens.tolist() == alone.tokens.tolist()
        np.testing.assert_allclose(together.log_prob, alone.log_prob, rtol=1e-6)
        np.testing.assert_allclose(together.nodes, alone.nodes, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(together.encoder, alone.encoder, rtol=1e-6)
        np.testing.assert_array_equal(together.band.first, alone.band.first)
        assert together.band.width == alone.band.width < len(alone.tokens) + 1
        assert together.nbest.text == alone.nbest.text
        assert together.hidden["low"].shape == alone.hidden["low"].shape == (alone.num_frames, 3)
        again = teacher.label(batch)[0]
        np.testing.assert_array_equal(together.nodes, again.nodes)
        assert (together.top_k, together.dense) == (again.top_k, again.dense)


def test_nothing_is_computed_that_nobody_asked_for(root):
    teacher = Teacher(str(root / "teacher"), targets="hypothesis", batch_size=4, encoding=Encoding())
    (labels,) = teacher.label(pending(speech(0)))
    assert [labels.nodes, labels.band, labels.nbest, labels.top_k, labels.hidden, labels.dense] == [None] * 6
    assert labels.model_id == "fake-teacher" and labels.agreement is None
    expected = direct(root, speech(0))["teacher"]
    np.testing.assert_allclose(labels.encoder, expected["encoder_projection"], atol=1e-4)


def test_lattices_are_those_of_the_joint_that_the_metadata_states(tmp_path, fake_teacher):
    joint = {"width": 5, "vocab_size": 5, "activation": "relu", "combination": "multiply", "factorised_blank": True}
    fake_teacher.save(tmp_path / "teacher", joint=joint)
    encoding = Encoding(artifacts=("hard", "collapsed", "top_k", "dense"), top_k=5)
    teacher = Teacher(str(tmp_path / "teacher"), targets="hypothesis", batch_size=4, encoding=encoding)
    (labels,) = teacher.label(pending(speech(0)))
    hidden = np.maximum(labels.encoder[:, None].astype(np.float64) * labels.predictor, 0.0)
    logits = hidden @ teacher.joint["kernel"] + teacher.joint["bias"]
    blank, others = 1.0 / (1.0 + np.exp(-logits[..., :1])), np.exp(logits[..., 1:])
    probs = np.concatenate([blank, (1.0 - blank) * others / others.sum(-1, keepdims=True)], axis=-1)
    here = (np.arange(len(probs))[:, None], np.arange(len(labels.tokens)), labels.tokens)
    np.testing.assert_allclose(np.exp(labels.nodes[..., 0]), probs[..., 0], rtol=1e-4)
    np.testing.assert_allclose(np.exp(labels.nodes[:, :-1, 1]), probs[here], rtol=1e-4)
    sizes = {"num_frames": len(probs), "num_labels": len(labels.tokens)}
    dense = codecs.decode_dense(labels.dense, **sizes)
    np.testing.assert_allclose(np.exp(dense.astype(np.float64)), probs, rtol=0.02, atol=1e-4)
    best = codecs.decode_top_k(labels.top_k, **sizes)
    np.testing.assert_allclose(
        np.exp(best.log_probs), np.take_along_axis(probs, best.symbols.astype(int), axis=-1), rtol=0.1, atol=1e-3
    )


def test_labels_that_are_refused_anyway_get_no_lattice(root):
    loud = speech(1)
    loud[5] = 0.95  # its score is NaN
    teacher = Teacher(str(root / "teacher"), targets="hypothesis", batch_size=4, encoding=EVERYTHING)
    good, broken, silent = teacher.label(pending(speech(0), loud, np.zeros(9 * FRAME, np.float32)))
    assert good.top_k and good.dense and len(good.nodes)
    for labels in (broken, silent):
        assert [labels.nodes, labels.top_k, labels.hidden] == [None] * 3


def test_a_batch_that_fails_is_tried_one_by_one(root):
    handler = TeacherHandler(str(root / "teacher"), targets="hypothesis", batch_size=4, encoding=Encoding())
    crashing = speech(1)
    crashing[5] = -1.0
    batch = pending(speech(0), crashing, speech(2))
    results = handler.run_inference(batch, handler.load_model())
    assert [result.labels is None for result in results] == [False, True, False]
    assert "the teacher broke on this audio" in results[1].error
    assert all(result.utterance.waveform is None for result in results)


def test_errors_are_one_line(monkeypatch):
    def broken(self, utterances):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    monkeypatch.setattr(Teacher, "label", broken)
    handler = TeacherHandler("unused", targets="hypothesis", batch_size=4, encoding=Encoding())
    results = handler.run_inference(pending(np.zeros(9), np.zeros(9)), Teacher.__new__(Teacher))
    assert [(result.labels, result.error) for result in results] == [
        (None, "ResourceExhaustedError: out of memory")
    ] * 2


def test_padding_repeats_the_first_utterance():
    batch = padded_batch(pending(np.ones(100), np.ones(7), np.ones(9000)), batch_size=4)
    assert batch["num_samples"].numpy().tolist() == [100, 7, 9000, 100]
    assert batch["waveforms"].shape == (4, 10240)
    assert batch["waveforms"].numpy().sum(axis=1).tolist() == [100, 7, 9000, 100]


def test_teachers_that_cannot_teach_are_named(root, tmp_path):
    assert load_metadata(str(root / "teacher"))["signatures"] == [
        "hidden", "joint", "nbest", "serving_default", "teacher", "teacher_forced",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="holds no SavedModel"):
        load_metadata(str(tmp_path))
    shutil.copytree(root / "teacher", tmp_path / "teacher")
    metadata = tmp_path / "teacher" / "assets.extra" / "metadata.json"
    content = json.loads(metadata.read_text())
    metadata.write_text(json.dumps({**content, "sample_rate": 8000}))
    with pytest.raises(ValueError, match="has sample rate 8000, this pipeline needs 16000"):
        load_metadata(str(tmp_path / "teacher"))
    metadata.write_text(json.dumps({**content, "joint": {**content["joint"], "combination": "concatenate"}}))
    with pytest.raises(ValueError, match="cannot teach, its joint has combination='concatenate' is not one of add"):
        load_metadata(str(tmp_path / "teacher"))
    metadata.write_text(json.dumps({name: value for name, value in content.items() if name != "joint"}))
    assert load_metadata(str(tmp_path / "teacher"), signatures=("serving_default",))["model_id"] == content["model_id"]
    with pytest.raises(ValueError, match=r"its assets.extra/metadata.json does not describe its joint"):
        load_metadata(str(tmp_path / "teacher"))
    metadata.unlink()
    with pytest.raises(ValueError, match="lacks assets.extra/metadata.json"):
        load_metadata(str(tmp_path / "teacher"))
    tf.saved_model.save(tf.Module(), str(tmp_path / "plain"))
    with pytest.raises(ValueError, match="lacks the signatures teacher, teacher_forced, joint"):
        load_metadata(str(tmp_path / "plain"))
