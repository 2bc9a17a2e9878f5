"""Records are read back with plain TensorFlow, and protobuf's own parser, not with the module that wrote them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.records import (
    TeacherLabels,
    Utterance,
    bytes_feature,
    decode_teacher,
    decode_utterance,
    encode_distillation,
    encode_utterance,
    from_pcm16,
    from_pcm16_tf,
    int64_feature,
    to_pcm16,
)


def _utterance(**changes):
    waveform = np.random.default_rng(0).uniform(-0.9, 0.9, 1234).astype(np.float32)
    fields = {
        "utterance_id": "1-2-3",
        "waveform": waveform,
        "text": "ÉTÉ GO",
        "speaker": "1",
        "split": "dev",
        "words": (("ÉTÉ", 0.25, 0.5), ("GO", 0.75, 1.0)),
    }
    return Utterance(**{**fields, **changes})


_TEACHER = TeacherLabels(
    tokens=[3, 4],
    text="GO ON",
    log_prob=-1.5,
    num_frames=9,
    token_frames=[2, 5],
    token_confidence=[0.5, 0.25],
    word_confidence=[0.5, 0.25],
)


def test_an_utterance_read_with_plain_tensorflow():
    utterance = _utterance()
    parsed = tf.io.parse_single_example(
        encode_utterance(utterance),
        {
            "utterance_id": tf.io.FixedLenFeature([], tf.string),
            "speaker": tf.io.FixedLenFeature([], tf.string),
            "split": tf.io.FixedLenFeature([], tf.string),
            "audio": tf.io.FixedLenFeature([], tf.string),
            "num_samples": tf.io.FixedLenFeature([], tf.int64),
            "text": tf.io.FixedLenFeature([], tf.string),
            "words/text": tf.io.VarLenFeature(tf.string),
            "words/start_seconds": tf.io.VarLenFeature(tf.float32),
            "words/end_seconds": tf.io.VarLenFeature(tf.float32),
        },
    )
    samples = tf.io.decode_raw(parsed["audio"], tf.int16).numpy()
    assert parsed["num_samples"] == 1234 == len(samples)
    # Half a quantisation step is the best that 16 bits can do.
    np.testing.assert_allclose(samples / 32768.0, utterance.waveform, atol=0.5 / 32768 + 1e-9)
    assert parsed["text"].numpy().decode() == "ÉTÉ GO"
    assert [parsed[name].numpy() for name in ("utterance_id", "speaker", "split")] == [b"1-2-3", b"1", b"dev"]
    assert [word.decode() for word in parsed["words/text"].values.numpy()] == ["ÉTÉ", "GO"]
    np.testing.assert_array_equal(parsed["words/start_seconds"].values, [0.25, 0.75])
    np.testing.assert_array_equal(parsed["words/end_seconds"].values, [0.5, 1.0])


def test_an_unlabelled_utterance_has_no_text_feature_and_an_empty_transcript_is_not_the_same():
    unlabelled = encode_utterance(_utterance(text=None, words=()))
    names = set(tf.train.Example.FromString(unlabelled).features.feature)
    assert names == {"utterance_id", "speaker", "split", "audio", "num_samples"}
    assert decode_utterance(unlabelled).text is None
    assert decode_utterance(encode_utterance(_utterance(text=""))).text == ""


def test_decode_inverts_encode_and_the_bytes_never_vary():
    utterance = _utterance()
    record = encode_utterance(utterance)
    assert record == encode_utterance(_utterance())
    back = decode_utterance(record)
    assert (back.utterance_id, back.text, back.speaker, back.split) == ("1-2-3", "ÉTÉ GO", "1", "dev")
    assert back.words == utterance.words
    assert encode_utterance(back) == record


def test_where_an_utterance_comes_from_is_kept_and_absent_when_nobody_said():
    cut = _utterance(domain="de", recording="book-7.flac", start_seconds=12.25, end_seconds=14.5)
    parsed = tf.io.parse_single_example(
        encode_utterance(cut),
        {
            "domain": tf.io.FixedLenFeature([], tf.string),
            "recording": tf.io.FixedLenFeature([], tf.string),
            "start_seconds": tf.io.FixedLenFeature([], tf.float32),
            "end_seconds": tf.io.FixedLenFeature([], tf.float32),
        },
    )
    found = {name: value.numpy() for name, value in parsed.items()}
    expected = {"domain": b"de", "recording": b"book-7.flac", "start_seconds": 12.25, "end_seconds": 14.5}
    assert found == expected
    back = decode_utterance(encode_utterance(cut))
    assert (back.domain, back.recording, back.start_seconds, back.end_seconds) == ("de", "book-7.flac", 12.25, 14.5)
    assert encode_utterance(back) == encode_utterance(cut)
    from_the_start = decode_utterance(encode_utterance(_utterance(start_seconds=0.0, end_seconds=1.5)))
    assert (from_the_start.start_seconds, from_the_start.end_seconds) == (0.0, 1.5)
    whole = decode_utterance(encode_utterance(_utterance()))
    assert (whole.domain, whole.recording, whole.start_seconds, whole.end_seconds) == ("", "", None, None)


def test_pcm16_keeps_every_16_bit_value_and_clips_the_rest():
    every = np.arange(-32768, 32768)
    raw = every.astype("<i2").tobytes()
    np.testing.assert_array_equal(from_pcm16(raw), every / 32768.0)
    assert to_pcm16(from_pcm16(raw)) == raw
    np.testing.assert_array_equal(from_pcm16_tf(tf.constant(raw)), every / 32768.0)
    np.testing.assert_array_equal(np.frombuffer(to_pcm16([1.0, 7.0, -3.0]), "<i2"), [32767, 32767, -32768])


@pytest.mark.parametrize("waveform", [np.array([0.1, np.nan]), np.array([np.inf]), np.zeros([2, 3])])
def test_a_waveform_that_is_no_finite_vector_is_refused(waveform):
    with pytest.raises(ValueError, match="1-2-3: the waveform must be a finite vector"):
        encode_utterance(_utterance(waveform=waveform))


@pytest.mark.parametrize("damaged", [b"garbage", b"", encode_utterance(_utterance())[:-5]])
def test_a_damaged_record_is_a_value_error(damaged):
    with pytest.raises(ValueError, match="not "):
        decode_utterance(damaged)


def test_audio_that_is_not_num_samples_long_is_refused():
    example = tf.train.Example.FromString(encode_utterance(_utterance()))
    example.features.feature["num_samples"].int64_list.value[0] = 1235
    with pytest.raises(ValueError, match="2468 bytes of audio, num_samples=1235"):
        decode_utterance(example.SerializeToString())


def test_a_distillation_record_is_the_utterance_plus_the_teacher():
    source = encode_utterance(_utterance())
    artifacts = {"collapsed": bytes_feature(b"\x00\x01"), "factored/encoder_shape": int64_feature([9, 4])}
    record = encode_distillation(source, teacher=_TEACHER, artifacts=artifacts)
    assert record == encode_distillation(source, teacher=_TEACHER, artifacts=artifacts)
    before = dict(tf.train.Example.FromString(source).features.feature)
    after = dict(tf.train.Example.FromString(record).features.feature)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        *("teacher/tokens", "teacher/text", "teacher/log_prob", "teacher/num_frames", "teacher/token_frames"),
        *("teacher/token_confidence", "teacher/word_confidence", "collapsed", "factored/encoder_shape"),
    }
    parsed = tf.io.parse_single_example(
        record,
        {
            "teacher/tokens": tf.io.VarLenFeature(tf.int64),
            "teacher/token_confidence": tf.io.VarLenFeature(tf.float32),
            "teacher/log_prob": tf.io.FixedLenFeature([], tf.float32),
            "collapsed": tf.io.FixedLenFeature([], tf.string),
        },
    )
    assert parsed["teacher/tokens"].values.numpy().tolist() == [3, 4]
    assert parsed["teacher/token_confidence"].values.numpy().tolist() == [0.5, 0.25]
    assert parsed["teacher/log_prob"] == -1.5
    assert parsed["collapsed"].numpy() == b"\x00\x01"
    assert decode_teacher(record) == _TEACHER
    assert decode_teacher(source) is None


def test_the_teacher_and_its_agreement_with_others_are_kept():
    teacher = dataclasses.replace(_TEACHER, model_id="abc", agreement=0.75)
    record = encode_distillation(encode_utterance(_utterance()), teacher=teacher)
    features = tf.train.Example.FromString(record).features.feature
    assert features["teacher/id"].bytes_list.value[0] == b"abc"
    assert features["teacher/agreement"].float_list.value[0] == 0.75
    assert decode_teacher(record) == teacher


def test_a_new_teacher_leaves_nothing_of_the_old_one():
    source = encode_utterance(_utterance())
    teacher = dataclasses.replace(_TEACHER, model_id="old", agreement=0.75)
    names = ("collapsed", "nbest/text", "factored/encoder", "top_k", "hidden/block_3", "dense")
    old = encode_distillation(source, teacher=teacher, artifacts={name: bytes_feature(b"old") for name in names})
    assert encode_distillation(old, teacher=_TEACHER) == encode_distillation(source, teacher=_TEACHER)


def test_an_empty_hypothesis_survives():
    empty = TeacherLabels([], "", -0.5, 4, [], [], [])
    assert decode_teacher(encode_distillation(encode_utterance(_utterance()), teacher=empty)) == empty


def test_teacher_lists_of_unequal_length_are_refused():
    wrong = TeacherLabels([1, 2], "A", 0.0, 4, [1], [0.5, 0.5], [0.5])
    with pytest.raises(ValueError, match="equally long, got 2, 1, 2"):
        encode_distillation(encode_utterance(_utterance()), teacher=wrong)
