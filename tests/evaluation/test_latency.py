"""Latencies of streams on cases worked out by hand, and against an encoder that is played through chunk by chunk."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.evaluation import latency, report
from tf_rnnt_kd.evaluation.corpus import Corpus
from tf_rnnt_kd.evaluation.latency import StreamTiming
from tf_rnnt_kd.evaluation.results import Result, score
from tf_rnnt_kd.evaluation.systems import Hypothesis, Speed, System
from tf_rnnt_kd.records.schema import Utterance

# Frames of 40 ms in chunks of four, and 320 ms of right context: the first of a chunk needs 120 ms + 320 ms.
CHUNKED = StreamTiming(frame_seconds=0.04, chunk_seconds=0.16, look_ahead_seconds=0.44)
CAUSAL = StreamTiming(frame_seconds=0.08, chunk_seconds=0.08, look_ahead_seconds=0.0)


def played(num_frames, *, frame_ms, frames_per_chunk, delay_frames, chunks_per_step, duration_ms):
    """When each frame comes: steps of a real-time client, an encoder that holds back `delay_frames`, then the end."""
    times, come, step_ms = [], 0, frames_per_chunk * chunks_per_step * frame_ms
    now = 0
    while now + step_ms <= duration_ms:
        now += step_ms
        ready = min(max(now // frame_ms - delay_frames, 0), num_frames)
        times += [now] * (ready - come)
        come = ready
    return times + [duration_ms] * (num_frames - come)


@pytest.mark.parametrize("frames_per_chunk, delay_frames", [(1, 0), (1, 3), (4, 0), (4, 8), (2, 6)])
@pytest.mark.parametrize("chunks_per_step", [1, 3])
def test_emission_as_played(frames_per_chunk, delay_frames, chunks_per_step):
    frame_ms, duration_ms = 40, 3210
    num_frames = -(-duration_ms // frame_ms)
    timing = StreamTiming(
        frame_seconds=frame_ms / 1000,
        chunk_seconds=frames_per_chunk * frame_ms / 1000,
        look_ahead_seconds=(frames_per_chunk - 1 + delay_frames) * frame_ms / 1000,
        step_seconds=frames_per_chunk * chunks_per_step * frame_ms / 1000,
    )
    ends = np.float32(np.arange(1, num_frames + 1)) * np.float32(frame_ms / 1000)
    expected = played(
        num_frames, frame_ms=frame_ms, frames_per_chunk=frames_per_chunk, delay_frames=delay_frames,
        chunks_per_step=chunks_per_step, duration_ms=duration_ms,
    )  # fmt: skip
    emitted = timing.emission_seconds(ends, duration_seconds=duration_ms / 1000)
    np.testing.assert_allclose(emitted, np.array(expected) / 1000, atol=1e-9)


def test_emission_by_hand():
    # Frame 0 ends at 0.04 s; its chunk at 0.16 s, and two more chunks must come: 0.48 s. Frame 4 opens the next chunk.
    ends = [0.04, 0.16, 0.2, 0.96]
    np.testing.assert_allclose(CHUNKED.emission_seconds(ends, duration_seconds=1.0), [0.48, 0.48, 0.64, 1.0])
    np.testing.assert_allclose(CAUSAL.emission_seconds([0.08, 0.16], duration_seconds=1.0), [0.08, 0.16])
    assert CAUSAL.emission_seconds([], duration_seconds=1.0).shape == (0,)


def test_timing_of_an_export():
    metadata = {
        "streaming": True, "frame_seconds": 0.04, "chunk_samples": 2560, "sample_rate": 16000,
        "look_ahead_seconds": 0.44,
    }  # fmt: skip
    assert StreamTiming.from_metadata(metadata) == CHUNKED
    assert StreamTiming.from_metadata({**metadata, "streaming": False}) is None
    assert StreamTiming.from_metadata({}) is None


def test_first_tokens_count_where_the_first_word_is_right():
    delays = latency.first_token_delays(
        ["GO LEFT", "STOP", "UP NOW", "A B", "", "C"],
        reference_start_seconds=[0.5, 0.25, 1.0, 0.5, 0.0, 0.0],
        hypotheses=["GO RIGHT", "NO STOP", "NOW", "A B", "X", ""],
        first_token_seconds=[0.75, 0.5, 2.0, 0.4375, 0.125, 0.0],
    )
    np.testing.assert_allclose(delays, [0.25, -0.0625])


def test_measured_by_hand():
    measured = latency.measure(
        CHUNKED,
        spoken=[(("GO", 0.1, 0.3), ("LEFT", 0.5, 0.9)), (("UP", 0.2, 0.4),)],
        hypotheses=["GO LEFT", "NO"],
        # Emitted in frames 7 (chunk 1) and 23 (chunk 5): returned at 0.64 s and, for the audio is over then, at 1.2 s.
        word_end_seconds=[[0.32, 0.96], [0.4]],
        first_token_seconds=[0.12, 0.4],
        duration_seconds=[1.2, 0.5],
    )
    assert (measured["step_seconds"], measured["look_ahead_seconds"]) == (0.16, 0.44)
    words, first = measured["words"], measured["first_tokens"]
    assert (words["mean"], words["p50"], words["words"]) == pytest.approx((0.32, 0.32, 2))
    assert (words["p95"], first["mean"], first["words"]) == pytest.approx((0.3 + 0.95 * 0.04, 0.38, 1))
    nothing = {"word_end_seconds": [[0.4]], "first_token_seconds": [0.4], "duration_seconds": [0.5]}
    assert latency.measure(CHUNKED, spoken=[(("UP", 0.2, 0.4),)], hypotheses=["NO"], **nothing) is None


@pytest.mark.parametrize("timing, expected", [(CAUSAL, [0.4, 0.0]), (None, [0.0, 0.0])])
def test_a_system_tells_when_the_first_token_came(timing, expected):
    def signature(waveforms, num_samples):
        del waveforms, num_samples
        return {
            "text": tf.constant(["GO", ""]), "num_words": tf.constant([1, 0]),
            "word_end_seconds": tf.constant([[0.64], [0.0]]), "tokens": tf.constant([[2, 3], [0, 0]]),
            "num_tokens": tf.constant([2, 0]), "token_frames": tf.constant([[4, 7], [0, 0]]),
        }  # fmt: skip

    system = System(path="", signature=signature, num_parameters=1, timing=timing)
    found = system(np.zeros([2, 9], np.float32), np.array([9, 9]))
    assert [hypothesis.first_token_seconds for hypothesis in found] == pytest.approx(expected)


def _result(name, timing, *, hypotheses=("GO LEFT", "STOP")):
    corpus = Corpus(name="test", source="somewhere", size=2)
    words = [(("GO", 0.0, 0.5), ("LEFT", 0.5, 1.0)), (("HALT", 0.0, 0.4),)]
    said = [Hypothesis(hypotheses[0], (0.64, 1.04), 0.64), Hypothesis(hypotheses[1], (0.4,), 0.4)]
    pairs = [
        (Utterance(f"u{i}", np.zeros(32_000, np.float32), text, "s", "test", words=words[i]), said[i])
        for i, text in enumerate(("GO LEFT", "HALT"))
    ]
    return score(
        pairs, name=name, system="dir", parameters=7, corpus=corpus, speed=Speed(1.0, 10.0, "stop-watch"), timing=timing
    )


def test_results_and_report_have_them(tmp_path):
    stream, whole = _result("stream", CAUSAL), _result("whole", None)
    assert whole.latency is None and stream.latency["utterances"] == 2
    assert stream.latency["words"]["mean"] == pytest.approx((0.14 + 0.04) / 2)
    assert stream.latency["first_tokens"]["mean"] == pytest.approx(0.64)
    stream.save(tmp_path / "r.json")
    assert Result.load(tmp_path / "r.json") == stream
    summary = report.summarise([stream, whole], baseline="whole", pseudo_labels={})
    (row,) = latency.table_rows(summary["systems"])
    assert row == ["stream", "test", "80", "0", "2", "90", "90", "135", "1", "640", "640", "640"]
    page = report.render(summary, results=[stream, whole], title="t", logs={})
    assert "Latency of streams" in page and "<td>640</td>" in page
    without = report.summarise([whole], baseline="whole", pseudo_labels={})
    assert "Latency of streams" not in report.render(without, results=[whole], title="t", logs={})
