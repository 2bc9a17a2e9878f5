"""A student that looks ahead, whose predictor is an LSTM and whose joint multiplies and factorises the blank."""

import numpy as np
import pytest
import tensorflow as tf
from serving_models import export_model, make_audio


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return export_model(
        tmp_path_factory,
        "forms",
        8,
        blank_bias=-1.0,
        encoder={"chunk_size": 2, "right_context": 2, "subsampling": 4},
        predictor={"type": "lstm", "width": 8},
        joint={"width": 12, "combination": "multiply", "factorised_blank": True},
    )


def test_metadata_states_the_joint_and_the_look_ahead(served):
    metadata = served.export.metadata
    assert {name: metadata["joint"][name] for name in ("activation", "combination", "factorised_blank")} == {
        "activation": "tanh", "combination": "multiply", "factorised_blank": True,
    }  # fmt: skip
    # One frame of 40 ms of the chunk, and 80 ms for each of two blocks.
    assert metadata["look_ahead_seconds"] == pytest.approx(0.2)
    assert metadata["chunk_samples"] == 1280 and metadata["frame_seconds"] == 0.04


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_stream_equals_the_whole_though_its_frames_come_late(served, chunks):
    waveforms, num_samples = make_audio()
    offline = served.signatures["serving_default"](waveforms=waveforms, num_samples=num_samples)
    assert np.all(offline["num_tokens"] > 0)
    state = served.signatures["stream_init"](batch_size=tf.constant(3))
    start, size = 0, chunks * 1280
    while start + size <= num_samples.min():
        outputs = served.signatures["stream_step"](waveforms=waveforms[:, start : start + size], **state)
        state = {name: value for name, value in outputs.items() if name.startswith("state_")}
        start += size
    rest = {"waveforms": waveforms[:, start:], "num_samples": num_samples - start}
    streamed = served.signatures["stream_finalize"](**rest, **state)
    for name, expected in offline.items():
        if expected.dtype == tf.float32:
            np.testing.assert_allclose(streamed[name], expected, atol=1e-4, rtol=1e-5)
        else:
            np.testing.assert_array_equal(streamed[name], expected)


@pytest.mark.parametrize("count", [0, 100, 1280, 1281, 2561, 4000])
def test_short_streams(served, count):
    """A rest of less than a hop counts where something came before it, also while no frame has come out."""
    waveforms, num_samples = make_audio()[0][:1, :count], np.array([count], np.int32)
    offline = served.signatures["serving_default"](waveforms=waveforms, num_samples=num_samples)
    state, start = served.signatures["stream_init"](batch_size=tf.constant(1)), 0
    if count >= 1280:
        outputs = served.signatures["stream_step"](waveforms=waveforms[:, :1280], **state)
        state, start = {name: x for name, x in outputs.items() if name.startswith("state_")}, 1280
    streamed = served.signatures["stream_finalize"](
        waveforms=waveforms[:, start:], num_samples=num_samples - start, **state
    )
    np.testing.assert_array_equal(streamed["tokens"], offline["tokens"])
    np.testing.assert_allclose(streamed["log_prob"], offline["log_prob"], rtol=1e-4, atol=1e-5)


def test_the_score_is_the_sum_over_paths_of_the_published_formulas(served):
    """One label over the frames t: P(y) = sum over the frame of emission, by hand in float64."""
    waveforms, num_samples = make_audio()[0][:1, :6400], np.array([6400], np.int32)
    forced = served.signatures["teacher_forced"](
        waveforms=waveforms, num_samples=num_samples, tokens=np.array([[3]], np.int32), num_tokens=np.array([1])
    )
    joint = {name: x.numpy().astype(np.float64) for name, x in served.signatures["joint"]().items()}
    encoder, predictor = (forced[f"{x}_projection"][0].numpy().astype(np.float64) for x in ("encoder", "predictor"))
    logits = np.tanh(encoder[:, None] * predictor) @ joint["kernel"] + joint["bias"]
    blank = 1.0 / (1.0 + np.exp(-logits[..., 0]))
    label = (1.0 - blank) * np.exp(logits[..., 3]) / np.exp(logits[..., 1:]).sum(-1)
    paths = [
        np.prod(blank[:t, 0]) * label[t, 0] * np.prod(blank[t:, 1]) for t in range(int(forced["num_frames"][0]))
    ]
    np.testing.assert_allclose(forced["full_sum_log_prob"][0], np.log(np.sum(paths)), rtol=1e-5)
