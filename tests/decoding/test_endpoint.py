"""End-points against Kaldi's rule, evaluated frame by frame in whole milliseconds."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.decoding.endpoint import DEFAULT_RULES, EndpointRule, detect_endpoint, rule_table

RULES = (
    EndpointRule(min_trailing_silence=2.0, must_contain_speech=False),
    EndpointRule(min_trailing_silence=1.2),
    EndpointRule(min_trailing_silence=0.6, min_utterance_length=1.6),
    EndpointRule(min_utterance_length=4.0, must_contain_speech=False),
)


def by_counting(frames, rules, *, frame_ms):
    """The first rule that holds after these frames, True where one has a token: walked through, in integers."""
    trailing = 0
    for has_token in frames:
        trailing = 0 if has_token else trailing + frame_ms
    length = frame_ms * len(frames)
    for number, rule in enumerate(rules, start=1):
        spoken = any(frames) or not rule.must_contain_speech
        silent = trailing >= round(1000 * rule.min_trailing_silence)
        if spoken and silent and length >= round(1000 * rule.min_utterance_length):
            return number, trailing
    return 0, trailing


@pytest.mark.parametrize("frame_ms", [40, 80])
def test_rules_hold_where_counting_says_so(frame_ms):
    random = np.random.default_rng(0)
    streams = [random.random(random.integers(0, 120)) < random.choice([0.0, 0.02, 0.1, 0.4]) for _ in range(400)]
    found = detect_endpoint(
        tf.constant(np.repeat(rule_table(RULES)[None], len(streams), axis=0)),
        num_frames=tf.constant([len(frames) for frames in streams]),
        last_token_frame=tf.constant([max(np.flatnonzero(frames), default=-1) for frames in streams], tf.int32),
        frame_seconds=frame_ms / 1000,
    )
    expected = [by_counting(frames, RULES, frame_ms=frame_ms) for frames in streams]
    assert {number for number, _ in expected} == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(found.endpoint_rule, [number for number, _ in expected])
    np.testing.assert_array_equal(found.is_endpoint, [number > 0 for number, _ in expected])
    np.testing.assert_allclose(found.trailing_silence_seconds, [ms / 1000 for _, ms in expected], rtol=1e-6)


@pytest.mark.parametrize("frame_ms", [10, 40, 60, 80])
def test_a_silence_of_just_the_time_is_enough(frame_ms):
    """0.08 s times 15 is less than 1.2 s in some floating point."""
    counts = np.arange(1, 200)
    rules = np.zeros([len(counts), 1, 3], np.float32)
    rules[:, 0, 0] = counts * frame_ms / 1000
    for frames, holds in ((counts, True), (counts - 1, False)):
        found = detect_endpoint(
            rules, num_frames=frames, last_token_frame=np.full(len(counts), -1), frame_seconds=frame_ms / 1000
        )
        assert np.all(found.is_endpoint.numpy() == holds)


def test_each_stream_has_its_own_rules():
    rules = np.zeros([3, 2, 3], np.float32)
    rules[0] = rule_table([EndpointRule(min_trailing_silence=1.0), EndpointRule(min_utterance_length=9.0)])
    rules[1, 1] = rule_table([EndpointRule(min_trailing_silence=1.0)])  # behind a row of zeros, which is no rule
    found = detect_endpoint(
        rules, num_frames=np.full(3, 20), last_token_frame=np.full(3, 7), frame_seconds=0.1
    )
    assert found.endpoint_rule.numpy().tolist() == [1, 2, 0]
    none = detect_endpoint(
        np.zeros([2, 0, 3], np.float32), num_frames=np.full(2, 500), last_token_frame=np.full(2, 7), frame_seconds=0.1
    )
    assert none.endpoint_rule.numpy().tolist() == [0, 0] and not np.any(none.is_endpoint)


def test_the_defaults_are_as_documented():
    np.testing.assert_allclose(rule_table(DEFAULT_RULES), [[2.4, 0, 0], [1.2, 0, 1], [0, 20, 0]])
    assert rule_table([]).shape == (0, 3)
    np.testing.assert_array_equal(rule_table([EndpointRule(0.5)], size=2), [[0.5, 0, 1], [0, 0, 0]])
    with pytest.raises(ValueError, match="3 end-point rules do not fit in a stream's 2"):
        rule_table(DEFAULT_RULES, size=2)


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"min_trailing_silence": -1.0}, "min_trailing_silence is -1.0"),
        ({"min_utterance_length": float("nan")}, "min_utterance_length is nan"),
        ({"min_trailing_silence": float("inf")}, "min_trailing_silence is inf"),
        ({"must_contain_speech": False}, "without any condition"),
    ],
)
def test_rules_that_make_no_sense(settings, told):
    with pytest.raises(ValueError, match=told):
        EndpointRule(**settings)
