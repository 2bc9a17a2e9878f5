"""The host's side of recognition on devices; that the step itself equals offline is checked by every export."""

import json

import numpy as np
import pytest

from tf_rnnt_kd.serving.device import DeviceRecognizer
from tf_rnnt_kd.serving.device_stream import DeviceStream, describe_state, initial_state, text_of, transcribe


def counting_step(waveforms, num_samples, state_sum):
    """Stands in for a model: a token per chunk that has samples; the state adds up the samples."""
    count = int(num_samples[0])
    total = state_sum + waveforms[:, :count].sum(axis=1)
    return {
        "tokens": np.array([[1 + int(total[0]) % 3, 0]], np.int32),
        "num_tokens": np.array([min(count, 1)], np.int32),
        "token_frames": np.array([[int(total[0]), 0]], np.int32),
        "token_confidence": np.array([[0.5, 0.0]], np.float32),
        "log_prob": np.array([-1.0], np.float32),
        "state_sum": total,
    }


METADATA = {
    "pieces": ["<blank>", "\u2581", "A", "\u2581B"],
    "frame_seconds": 0.04,
    "device": {
        "chunk_samples": 4,
        "flush_chunks": 2,
        "hop_samples": 2,
        "state": {"state_sum": {"shape": [1], "dtype": "float32", "initial": 0}},
    },
}


@pytest.mark.parametrize("pieces", [[11], [4, 4, 3], [1] * 11, [3, 0, 8]])
def test_pieces_of_any_length_make_the_same_chunks(pieces):
    stream, tokens = DeviceStream(counting_step, metadata=METADATA), []
    for count in pieces:
        tokens += stream.accept(np.ones([count], np.float32))
    found = stream.finish()
    # Samples so far: 4, 8, 11 (the rest of 3), then two calls to flush, which have nothing.
    assert found.token_frames == [4, 8, 11] and found.tokens == [2, 3, 3]
    assert tokens == [2, 3]
    assert found.log_prob == -5.0
    assert found.text == "A B B" and found.word_end_seconds == [0.2, 9 * 0.04, 12 * 0.04]


@pytest.mark.parametrize("count", [0, 1])
def test_less_than_a_hop_is_no_speech(count):
    found = transcribe(counting_step, np.ones([count], np.float32), metadata=METADATA)
    assert found == ("", [], [], [], [], 0.0)


def test_a_whole_number_of_chunks_has_no_empty_one_at_its_end():
    assert transcribe(counting_step, np.ones([8], np.float32), metadata=METADATA).log_prob == -4.0


def test_a_mark_without_letters_is_no_word():
    assert text_of([1, 1, 2, 3, 2, 1], pieces=METADATA["pieces"]) == "A BA"


def test_a_state_goes_through_json_unchanged():
    random = np.random.default_rng(0)
    state = {
        "zeros": np.zeros([1, 3, 2], np.float32),
        "valid": np.zeros([1, 4], bool),
        "context": np.array([[0, 0]], np.int32),
        "cell": random.normal(size=[1, 5]).astype(np.float32),
        "nothing": np.zeros([1, 0], np.float32),
    }
    described = json.loads(json.dumps(describe_state(state)))
    assert described["zeros"]["initial"] == 0.0 and len(described["cell"]["initial"][0]) == 5
    again = initial_state(described)
    assert set(again) == set(state)
    for name, value in state.items():
        assert again[name].dtype == value.dtype
        np.testing.assert_array_equal(again[name], value)


def test_chunks_last_at_least_160_ms_and_hold_whole_chunks_of_the_model(student):
    device = student.export.metadata["device"]
    # The student takes 80 ms at a time; each state has one row.
    assert device["chunk_samples"] == 2560 and device["flush_chunks"] == 0 and device["hop_samples"] == 160
    assert device == DeviceRecognizer(student.recognizer).describe()
    signature = student.signatures["stream_ids"].structured_input_signature[1]
    assert {name: list(spec.shape) for name, spec in signature.items() if name.startswith("state_")} == {
        name: one["shape"] for name, one in device["state"].items()
    }


def test_a_model_that_needs_whole_utterances_has_no_device(teacher):
    assert teacher.export.metadata["device"] is None
