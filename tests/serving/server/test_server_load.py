"""The load benchmark on a few streams for a few seconds: what it counts, and that it sees what is wrong."""

import wave

import numpy as np
import pytest
from server_running import utterances

from benchmarks import server_load


@pytest.fixture(scope="module")
def folder(tmp_path_factory, audio):
    folder = tmp_path_factory.mktemp("load")
    for i, waveform in enumerate(utterances(audio)):
        with wave.open(str(folder / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
            file.writeframes(np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
    (folder / "text.wav").write_text("not audio at all")
    return folder


def test_a_short_load(student, folder):
    report = server_load.measure(
        student.path, folder, streams=6, sessions=3, minutes=0.06, most=3, disturb=True,
        server_arguments=["--nowarm_up"],
    )  # fmt: skip
    assert report["wrong"] == report["failed"] == []
    assert report["finished"] >= 6 and report["words"] > report["finished"] and report["disturbances"] >= 5
    assert set(report["latency_ms"]) == {"session", "grpc"}
    text = "\n".join(server_load.lines(report))
    assert "6 streams for 0.06 minutes" in text and "wrong: 0, failed: 0" in text


def test_growth_is_of_the_last_fifth_by_the_second():
    flat = [(float(second), 100.0 if second else 10.0) for second in range(101)]
    assert server_load.growth(flat) == 1.0
    leaking = [(second, 100 + size) for second, size in flat for size in [second]]
    assert server_load.growth(leaking) == pytest.approx(190 / 130, rel=0.01)
    assert server_load.growth([(0.0, 1.0), (1.0, 9.0)]) == 1.0


def test_percentiles():
    values = list(range(100, 0, -1))
    assert [server_load.percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [51, 96, 100, 100]


def test_audio_that_cannot_be_used(student, tmp_path):
    (tmp_path / "text.wav").write_text("not audio at all")
    with pytest.raises(ValueError, match="no audio file that can be used"):
        server_load.load_utterances(student.path, tmp_path, most=3)
