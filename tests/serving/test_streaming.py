"""A stream in chunks gives what the whole utterance gives."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from serving_models import make_model

from tf_rnnt_kd.decoding.endpoint import DEFAULT_RULES, EndpointRule, rule_table
from tf_rnnt_kd.serving import Recognizer, StreamingRecognizer
from tf_rnnt_kd.text import Tokenizer

CHUNK = 1280


def stream(signatures, waveforms, num_samples, *, chunk_frames, **changed_state):
    """Whole chunks while all utterances last, then the rest. Returns (finalize's outputs, outputs of the steps)."""
    state = {**signatures["stream_init"](batch_size=tf.constant(len(waveforms))), **changed_state}
    size, start, steps = chunk_frames * CHUNK, 0, []
    while start + size <= num_samples.min():
        outputs = signatures["stream_step"](waveforms=waveforms[:, start : start + size], **state)
        state = {name: value for name, value in outputs.items() if name.startswith("state_")}
        steps.append(outputs)
        start += size
    rest = {"waveforms": waveforms[:, start:], "num_samples": num_samples - start}
    return signatures["stream_finalize"](**rest, **state), steps


def assert_same(streamed, offline):
    assert set(streamed) == set(offline)
    for name, expected in offline.items():
        assert_close(streamed[name], expected)


def assert_close(actual, expected):
    if expected.dtype == tf.float32:
        np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-6)
    else:
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("chunk_frames", [1, 2, 5, 8])
def test_chunks_equal_the_whole(student, audio, chunk_frames):
    waveforms, num_samples = audio
    offline = student.signatures["serving_default"](waveforms=waveforms, num_samples=num_samples)
    streamed, steps = stream(student.signatures, waveforms, num_samples, chunk_frames=chunk_frames)
    assert len(steps) == num_samples.min() // (chunk_frames * CHUNK)
    assert_same(streamed, offline)


@pytest.mark.parametrize("count", [0, 1, 159, 160, 161, 1279, 1280, 1281, 1440, 2559, 2560, 2561, 8960])
def test_any_number_of_samples(student, audio, count):
    waveforms, num_samples = audio[0][:1, :count], np.array([count], np.int32)
    offline = student.signatures["serving_default"](waveforms=waveforms, num_samples=num_samples)
    streamed, _ = stream(student.signatures, waveforms, num_samples, chunk_frames=1)
    assert_same(streamed, offline)


def test_steps_add_up_to_the_result(student, audio):
    waveforms, num_samples = audio[0][:, : 8 * CHUNK], np.full([3], 8 * CHUNK, np.int32)
    final, steps = stream(student.signatures, waveforms, num_samples, chunk_frames=2)
    assert len(steps) == 4
    for b in range(3):
        tokens, frames = [], []
        for step in steps:
            count = int(step["num_new_tokens"][b])
            tokens += step["new_tokens"][b, :count].numpy().tolist()
            frames += step["new_token_frames"][b, :count].numpy().tolist()
            assert step["text"][b].numpy().decode() == student.tokenizer.decode(tokens)
        assert tokens == final["tokens"][b, : int(final["num_tokens"][b])].numpy().tolist()
        assert frames == final["token_frames"][b, : len(tokens)].numpy().tolist()
    assert max(int(step["num_new_tokens"][0]) for step in steps) > 0


def test_the_stable_text_is_all_but_a_last_word_that_may_grow(student, audio):
    waveforms, num_samples = audio[0][:, : 8 * CHUNK], np.full([3], 8 * CHUNK, np.int32)
    final, steps = stream(student.signatures, waveforms, num_samples, chunk_frames=1)
    grown = 0
    for b in range(3):
        words = final["text"][b].numpy().decode().split()
        tokens = []
        for step in steps:
            tokens += step["new_tokens"][b, : int(step["num_new_tokens"][b])].numpy().tolist()
            begins = [place for place, token in enumerate(tokens) if student.tokenizer.pieces[token] == "\u2581"]
            stable = step["stable_text"][b].numpy().decode()
            assert stable == student.tokenizer.decode(tokens[: begins[-1]] if begins else [])
            assert words[: len(stable.split())] == stable.split()
            shown = step["text"][b].numpy().decode().split()
            grown += shown != words[: len(shown)]
    assert grown > 0, "no word was seen while it grew: the test would pass with the text itself"


def test_words_that_are_one_token_are_stable_at_once(student, audio):
    count = student.model.vocab_size
    tokenizer = Tokenizer(kind="characters", pieces=["<blank>", *(f"\u2581W{i}" for i in range(1, count))])
    streaming = StreamingRecognizer(Recognizer(student.model, tokenizer=tokenizer, frontend=student.frontend))
    outputs = streaming.step(tf.constant(audio[0][:, : 8 * CHUNK]), **streaming.start(3))
    assert all(outputs["text"].numpy())
    assert outputs["stable_text"].numpy().tolist() == outputs["text"].numpy().tolist()


def test_endpoints_follow_the_rules_of_each_stream(student, audio):
    waveforms, num_samples = np.repeat(audio[0][:1, : 18 * CHUNK], 3, axis=0), np.full([3], 18 * CHUNK, np.int32)
    own = [[3, 9], [2, 5], [1, 15]]  # frames of silence after speech; frames in all
    rules = np.stack([
        rule_table([
            EndpointRule(min_trailing_silence=0.08 * silence),
            EndpointRule(min_utterance_length=0.08 * length, must_contain_speech=False),
        ], size=len(DEFAULT_RULES))
        for silence, length in own
    ])  # fmt: skip
    rules = {"state_endpoint_rules": tf.constant(rules)}
    final, steps = stream(student.signatures, waveforms, num_samples, chunk_frames=1, **rules)
    seen = []
    for b, (silence, length) in enumerate(own):
        frames = final["token_frames"][b, : int(final["num_tokens"][b])].numpy()
        for decoded, step in enumerate(steps, start=1):
            before = frames[frames < decoded]
            trailing = decoded - 1 - before[-1] if len(before) else decoded
            expected = 1 if len(before) and trailing >= silence else 2 if decoded >= length else 0
            assert (int(step["endpoint_rule"][b]), bool(step["is_endpoint"][b])) == (expected, expected > 0)
            assert float(step["trailing_silence_seconds"][b]) == pytest.approx(0.08 * trailing)
            seen.append(expected)
    assert set(seen) == {0, 1, 2}
    # They tell and change nothing.
    whole = student.signatures["serving_default"](waveforms=waveforms, num_samples=num_samples)
    assert_same(final, whole)


def joined(states):
    """States of several streams as one batch, the shorter padded with zeros."""
    widest = {name: max(state[name].shape[1:2].as_list() for state in states) for name in states[0]}

    def padded(name, value):
        missing = [[0, 0], [0, widest[name][0] - value.shape[1]]] if widest[name] else [[0, 0]]
        return tf.pad(value, missing + [[0, 0]] * (value.shape.rank - len(missing)))

    return {name: tf.concat([padded(name, state[name]) for state in states], 0) for name in states[0]}


def test_streams_of_different_age_share_a_batch(student, audio):
    """Two of which one is five steps ahead, with other rules, take three steps and their ends together."""
    waveforms, signatures = audio[0][:2, : 8 * CHUNK], student.signatures
    alone, states = [], []
    for b, ahead in ((0, 5), (1, 0)):
        row, count = waveforms[b : b + 1], np.array([(ahead + 3) * CHUNK], np.int32)
        rules = {"state_endpoint_rules": tf.fill([1, 3, 3], 1.0 - 0.9 * b)}
        final, steps = stream(signatures, row[:, : count[0]], count, chunk_frames=1, **rules)
        alone.append((final, steps[-1]))
        state = {name: x for name, x in steps[ahead - 1].items() if name.startswith("state_")} if ahead else None
        states.append(state or {**signatures["stream_init"](batch_size=tf.constant(1)), **rules})
    state = joined(states)
    for i in range(3):
        pieces = [waveforms[b, (start + i) * CHUNK : (start + i + 1) * CHUNK] for b, start in ((0, 5), (1, 0))]
        outputs = signatures["stream_step"](waveforms=tf.stack(pieces), **state)
        state = {name: value for name, value in outputs.items() if name.startswith("state_")}
    ended = signatures["stream_finalize"](waveforms=tf.zeros([2, 0]), num_samples=tf.zeros([2], tf.int32), **state)
    for b, (final, last) in enumerate(alone):
        for name in ("text", "num_tokens", "log_prob"):
            assert_close(ended[name][b], final[name][0])
        for name in ("stable_text", "endpoint_rule", "trailing_silence_seconds", "num_new_tokens"):
            assert_close(outputs[name][b], last[name][0])
        count = int(final["num_tokens"][0])
        assert_close(ended["tokens"][b, :count], final["tokens"][0])


def test_the_example_of_the_docs(student, audio):
    """Pieces of any length; without an end-point the text of the whole, with one after 20 s those of both parts."""
    page = pathlib.Path(__file__).parents[2] / "docs" / "serving" / "streaming.md"
    scope = {"folder": str(student.path)}
    exec(page.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0], scope)

    def texts_of(*parts):
        whole = student.signatures["serving_default"]
        found = [whole(waveforms=part[None], num_samples=np.array([len(part)], np.int32)) for part in parts]
        return [outputs["text"][0].numpy().decode() for outputs in found]

    def streamed(waveform):
        cuts = np.sort(np.random.default_rng(0).integers(0, len(waveform), len(waveform) // 2000))
        return list(scope["transcripts"](np.split(waveform, cuts), CHUNK))

    waveform = audio[0][0]
    assert streamed(waveform) == texts_of(waveform) != [""]
    long = np.tile(waveform, 14)  # of 21 s
    found = streamed(long)
    assert len(found) == 2
    # The end-point is seen after the step that reaches 20 s, which may go on for some chunks.
    assert any(found == texts_of(long[:cut], long[cut:]) for cut in range(320_000, 326_400, CHUNK))


def test_a_stream_begins_with_the_rules_of_its_export(student):
    state = student.signatures["stream_init"](batch_size=tf.constant(2))
    np.testing.assert_array_equal(state["state_endpoint_rules"], [rule_table(DEFAULT_RULES)] * 2)
    rules = [EndpointRule(min_trailing_silence=0.5)]
    own = StreamingRecognizer(student.recognizer, endpoint_rules=rules).start(2)
    np.testing.assert_array_equal(own["state_endpoint_rules"], [rule_table(rules)] * 2)


def test_what_comes_later_changes_nothing_before(student, audio):
    """NaN after a chunk, in the same piece of samples and beyond num_samples, reaches nothing."""
    waveforms, num_samples = audio[0][:1, :5_000].copy(), np.array([5_000], np.int32)
    clean, _ = stream(student.signatures, waveforms, num_samples, chunk_frames=3)
    dirty, _ = stream(
        student.signatures, np.pad(waveforms, [[0, 0], [0, 999]], constant_values=np.nan), num_samples, chunk_frames=3
    )
    assert_same(dirty, clean)


def test_a_step_refuses_part_of_a_chunk(student):
    state = student.signatures["stream_init"](batch_size=tf.constant(1))
    for count in (0, 1, CHUNK + 1):
        with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of 1280"):
            student.signatures["stream_step"](waveforms=tf.zeros([1, count]), **state)


def test_a_full_context_model_does_not_stream(student):
    model = make_model(tokenizer=student.tokenizer, left_context=None)
    recognizer = Recognizer(model, tokenizer=student.tokenizer, frontend=student.frontend)
    with pytest.raises(ValueError, match="left_context"):
        StreamingRecognizer(recognizer)
