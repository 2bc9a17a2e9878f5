"""What a student and the teacher of its records must have in common."""

import numpy as np
import pytest
from word_records import write

from tf_rnnt_kd.records import reader, schema


def test_a_teacher_of_another_tokenizer_or_frame_rate_is_refused(tmp_path, utterances):
    teacher = {"tokenizer_hash": "abc", "frame_seconds": 0.04}
    source = write(tmp_path, [schema.encode_utterance(u) for u in utterances.values()], teacher=teacher)
    with pytest.raises(ValueError, match="abc.*def"):
        reader.check_teacher([source], tokenizer_hash="def", frame_seconds=0.04, node_level=False)
    with pytest.raises(ValueError, match="40 ms.*80 ms"):
        reader.check_teacher([source], tokenizer_hash="abc", frame_seconds=0.08, node_level=True)
    reader.check_teacher([source], tokenizer_hash="abc", frame_seconds=0.08, node_level=False)
    reader.check_teacher([source], tokenizer_hash="abc", frame_seconds=0.04, node_level=True)


def test_the_joint_is_that_of_the_one_teacher(tmp_path, utterances):
    records = [schema.encode_utterance(u) for u in list(utterances.values())[:2]]
    kernel, bias = np.ones([5, 4], np.float32), np.arange(4, dtype=np.float32)
    sources = []
    for name, settings in (("a", {"combination": "multiply", "factorised_blank": True}), ("b", {})):
        np.savez(tmp_path / f"{name}.npz", kernel=kernel, bias=bias, **settings)
        sources.append(write(tmp_path / name, records, teacher={"model_id": name}))
        (tmp_path / f"{name}.npz").rename(tmp_path / name / "joint.npz")
    unlabelled = write(tmp_path / "plain", records)
    *weights, settings = reader.teacher_joint([sources[0], unlabelled])
    for got, want in zip(weights, (kernel, bias), strict=True):
        np.testing.assert_array_equal(got, want)
    assert settings == {"activation": "tanh", "combination": "multiply", "factorised_blank": True}
    assert reader.teacher_joint([sources[1]])[2] == {**settings, "combination": "add", "factorised_blank": False}
    with pytest.raises(ValueError, match="of one teacher, found none"):
        reader.teacher_joint([unlabelled])
    with pytest.raises(ValueError, match="of one teacher, found .*a, .*b"):
        reader.teacher_joint(sources)


def test_what_is_stored_is_what_dataset_json_lists(tmp_path, utterances):
    records = [schema.encode_utterance(u) for u in list(utterances.values())[:2]]
    hard = write(tmp_path / "hard", records, artifacts=("hard", "collapsed"))
    nbest = write(tmp_path / "nbest", records, artifacts=("hard", "nbest"))
    assert reader.stored_artifacts([hard, nbest]) == {"hard", "nbest", "collapsed"}
    assert reader.stored_artifacts([write(tmp_path / "plain", records)]) == set()
