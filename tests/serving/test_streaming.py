"""A stream in chunks gives what the whole utterance gives."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.serving import StreamingRecognizer

CHUNK = 1280


def stream(signatures, waveforms, num_samples, *, chunk_frames):
    """Whole chunks while all utterances last, then the rest. Returns (finalize's outputs, outputs of the steps)."""
    state = signatures["stream_init"](batch_size=tf.constant(len(waveforms)))
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
        if expected.dtype == tf.float32:
            np.testing.assert_allclose(streamed[name], expected, atol=1e-4, rtol=1e-6)
        else:
            np.testing.assert_array_equal(streamed[name], expected)


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


def test_a_full_context_model_does_not_stream(teacher):
    with pytest.raises(ValueError, match="left_context"):
        StreamingRecognizer(teacher.recognizer)
