"""The client: by gRPC and REST, as a whole and in pieces, it gives what the export gives."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import wave

import numpy as np
import pytest
from server_running import offline, utterances

from tf_rnnt_kd.serving.client.connections import ClientError, connect
from tf_rnnt_kd.serving.client.recognition import Partial, recognise, stream


@pytest.fixture(params=["grpc", "rest"])
def connection(request, served):
    found = connect(getattr(served, request.param), protocol=request.param, model="student")
    yield found
    found.close()


def assert_same(result, expected):
    assert result["text"] == expected["text"][0].decode()
    np.testing.assert_allclose(result["log_prob"], expected["log_prob"][0], atol=1e-4)
    words = [word.decode() for word in expected["words"][0]]
    assert [word["word"] for word in result["words"]] == words
    for field in ("end_seconds", "confidence"):
        np.testing.assert_allclose([word[field] for word in result["words"]], expected[f"word_{field}"][0], atol=1e-4)


def test_whole_utterances(student, connection, audio):
    waveform = utterances(audio)[2]
    assert_same(recognise(connection, waveform), offline(student, waveform))


@pytest.mark.parametrize(("count", "chunks"), [(11_111, 2), (5_120, 1), (700, 1), (0, 1)])
def test_streams(student, connection, audio, count, chunks):
    waveform = utterances(audio)[0][:count]
    *partials, result = stream(connection, waveform, chunk_samples=1280 * chunks)
    assert_same(result, offline(student, waveform))
    assert [partial.audio_seconds for partial in partials] == [
        (i + 1) * 0.08 * chunks for i in range(count // (1280 * chunks))
    ]
    texts = [partial.text for partial in partials]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise([*texts, result["text"]]))


class Echo:
    """A connection that takes 0.3 s for a step and counts samples; `now` is its clock."""

    def __init__(self):
        self.now, self.sent = 5.0, []

    def predict(self, signature, **inputs):
        if signature == "stream_init":
            return {"state_count": [0]}
        self.sent.append((signature, round(self.now, 6), inputs["waveforms"].shape[1], inputs["state_count"]))
        self.now += 0.3
        count = [inputs["state_count"][0] + inputs["waveforms"].shape[1]]
        if signature == "stream_step":
            return {"state_count": count, "text": [str(count[0])], "is_endpoint": [count[0] > 300], "new_tokens": [[1]]}
        return {"text": [str(count[0])], "words": [["a", ""]], "num_words": [1], "log_prob": [0.0]}

    def sleep(self, seconds):
        self.now += seconds


def test_real_time_sends_pieces_when_a_microphone_has_them():
    echo = Echo()
    events = list(
        stream(
            echo, np.zeros(450, np.float32), chunk_samples=200, sample_rate=200, real_time=True,
            clock=lambda: echo.now, sleep=echo.sleep,
        )  # fmt: skip
    )
    # Pieces end at 6 s and 7 s, the rest of a quarter of a second at 7.25 s, when the server is still at work.
    assert echo.sent == [
        ("stream_step", 6.0, 200, [0]), ("stream_step", 7.0, 200, [200]), ("stream_finalize", 7.3, 50, [400]),
    ]  # fmt: skip
    first, second, result = events
    assert first[:2] == ("200", 1.0) and second[:2] == ("400", 2.0)
    np.testing.assert_allclose([first.latency_seconds, second.latency_seconds], 0.3)
    assert (first.is_endpoint, second.is_endpoint) == (False, True)
    assert result == {"text": "450", "log_prob": 0.0, "words": [{"word": "a"}]}
    assert isinstance(first, Partial)


def test_a_server_that_falls_behind_shows_in_the_latency():
    echo = Echo()
    partials = list(
        stream(
            echo, np.zeros(400, np.float32), chunk_samples=100, sample_rate=1000, real_time=True,
            clock=lambda: echo.now, sleep=echo.sleep,
        )  # fmt: skip
    )[:-1]
    # A piece of 0.1 s every 0.3 s: each comes 0.2 s later than the one before.
    np.testing.assert_allclose([partial.latency_seconds for partial in partials], [0.3, 0.5, 0.7, 0.9])


def test_refusals_and_absence(served, connection):
    with pytest.raises(ClientError, match="5.0 s of audio") as refused:
        recognise(connection, np.zeros(80_001, np.float32))
    assert refused.value.of_this_request
    for protocol in ("grpc", "rest"):
        other = connect(getattr(served, protocol), protocol=protocol, model="another")
        with pytest.raises(ClientError, match="Servable not found"):
            recognise(other, np.zeros(100, np.float32))
        absent = connect("127.0.0.1:9", protocol=protocol, model="student", seconds=5.0)
        with pytest.raises(ClientError, match="127.0.0.1:9: .*(refused|UNAVAILABLE)") as failed:
            recognise(absent, np.zeros(100, np.float32))
        assert not failed.value.of_this_request
    with pytest.raises(ValueError, match="HOST:PORT"):
        connect("localhost", model="student")
    with pytest.raises(ValueError, match="grpc or rest"):
        connect("localhost:1", protocol="http", model="student")


def test_the_binary(student, served, audio, tmp_path):
    """Files and folders, as a stream, among files that cannot be used."""
    expected = {}
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    for name, waveform in zip(("folder/b.wav", "folder/inner/a.wav"), utterances(audio)[1:], strict=True):
        samples = np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2")
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
            file.writeframes(samples.tobytes())
        expected[name] = offline(student, samples.astype(np.float32) / 32768)["text"][0].decode()
    (tmp_path / "text.wav").write_text("not audio at all")
    (tmp_path / "folder" / "notes.txt").write_text("not audio either")
    done = subprocess.run(
        [
            sys.executable, "-m", "tf_rnnt_kd.serving.client", f"--server={served.grpc}", "--stream", "--details",
            "--chunk_samples=1280", "text.wav", "folder",
        ],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(pathlib.Path(__file__).parents[3])},
    )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {result["file"]: result["text"] for result in results} == expected
    assert [len(result["step_latency_seconds"]) for result in results] == [11_111 // 1280, 17_500 // 1280]
    assert done.returncode == 1
    first, *shown = done.stderr.splitlines()
    assert first.startswith("text.wav: not_audio")
    texts = [line.split("  ")[-1] for line in shown if "end of speech" not in line]
    assert texts[-1] == expected["folder/inner/a.wav"] and len(texts) > 2
