"""Every kind of model that streams: chunks of any size give what the whole gives, as late as it says and no later."""

import dataclasses

import numpy as np
import pytest
from serving_models import make_audio
from streaming_models import KINDS, STREAMING_PRESETS, served, stream

from tf_rnnt_kd.evaluation.latency import StreamTiming


def assert_same(streamed, whole):
    assert set(streamed) == set(whole)
    for name, expected in whole.items():
        if expected.dtype.is_floating:
            np.testing.assert_allclose(streamed[name], expected, atol=1e-4, rtol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(streamed[name], expected, err_msg=name)


def test_the_presets_that_stream_are_these():
    assert {"streaming_small", "streaming_cifg", "digits_student"} <= set(STREAMING_PRESETS)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_of_any_size_equal_the_whole(kind):
    model, (waveforms, num_samples) = served(kind), make_audio()
    for rows in (slice(0, 3), slice(0, 1)):  # three that end at different samples, and the longest alone
        audio = {"waveforms": waveforms[rows], "num_samples": num_samples[rows]}
        whole = model.whole(**audio)
        assert np.all(whole["num_tokens"] > 3) and len({*map(tuple, whole["tokens"].numpy())}) == len(num_samples[rows])
        possible = int(audio["num_samples"].min()) // model.chunk
        plans = [[count] * (possible // count) for count in (1, 2, 3, 5, possible)]
        plans += [[], [1, 2, 1], [possible - 3, 1, 2]]
        for plan in plans:
            streamed, _ = stream(model, **audio, sizes=[count * model.chunk for count in plan])
            assert_same(streamed, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_last_piece_of_any_length(kind):
    model, (waveforms, _) = served(kind), make_audio()
    chunk, hop = model.chunk, model.frontend.hop
    for count in (0, 1, hop - 1, hop, hop + 1, chunk - 1, chunk, chunk + 1, 2 * chunk + hop, 3 * chunk - hop + 1):
        audio = {"waveforms": waveforms[:1, :count], "num_samples": np.array([count], np.int32)}
        streamed, _ = stream(model, **audio, sizes=[chunk] * (count // chunk))
        assert_same(streamed, model.whole(**audio))


@pytest.mark.parametrize("kind", KINDS)
def test_the_look_ahead_is_as_stated(kind):
    """Samples beyond it change no frame before, those just within it do."""
    model, (waveforms, _) = served(kind), make_audio()
    metadata, hop = model.metadata, model.frontend.hop
    rate = metadata["sample_rate"]
    look_ahead = round(metadata["look_ahead_seconds"] * rate)
    frame = round(metadata["frame_seconds"] * rate)
    assert metadata["chunk_samples"] == model.chunk and model.chunk % frame == 0
    # The first frame of a chunk looks furthest; it is frame `place` of the encoder.
    place = 2 * (model.chunk // frame)
    needs = (place + 1) * frame + look_ahead
    variants = np.repeat(waveforms[:1, :24_000], 3, axis=0)
    noise = np.random.default_rng(1).normal(size=24_000).astype(np.float32)
    variants[1, needs:] = noise[needs:]
    variants[2, needs - hop : needs] = noise[needs - hop : needs]
    features, lengths = model.frontend(variants, np.full(3, 24_000, np.int32))
    encoded = model.model.encode(features, lengths)[0].numpy()[:, : place + 1]
    assert needs + hop < 24_000
    np.testing.assert_allclose(encoded[1], encoded[0], atol=1e-4)
    assert np.abs(encoded[2, place] - encoded[0, place]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunks", [1, 2])
def test_tokens_come_with_the_step_that_the_latency_counts(kind, chunks):
    model, (waveforms, _) = served(kind), make_audio()
    count, size = 23_456, chunks * model.chunk
    final, steps = stream(model, waveforms[:1, :count], np.array([count]), sizes=[size] * (count // size))
    came, frames = [], []
    for samples, outputs in steps:
        new = int(outputs["num_new_tokens"][0])
        came += [samples / 16_000] * new
        frames += outputs["new_token_frames"][0, :new].numpy().tolist()
    total = int(final["num_tokens"][0])
    came += [count / 16_000] * (total - len(came))
    assert frames == final["token_frames"][0, : len(frames)].numpy().tolist() and len(set(came)) > 2
    timing = StreamTiming.from_metadata(model.metadata)
    timing = dataclasses.replace(timing, step_seconds=chunks * timing.chunk_seconds)
    ends = (final["token_frames"][0].numpy() + 1) * timing.frame_seconds
    np.testing.assert_allclose(timing.emission_seconds(ends, duration_seconds=count / 16_000), came, atol=1e-9)
