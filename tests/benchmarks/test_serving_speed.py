"""The figures of the serving benchmark: quantiles, and the share of what is not the encoder."""

import pytest

from benchmarks import serving_speed, serving_speed_model

FIGURES = {
    "chunks": {
        "saved_model": {"latency": [0.001 * k for k in range(1, 101)], "cpu_per_second": 0.25, "bytes": None},
        "int8": {"latency": [0.002], "cpu_per_second": 0.125, "bytes": 1_500_000},
    },
    # Medians: greedy 2, n-best 3, features 0.1, up to the encoder's end 1.8; so 0.3 of 2 are around the encoder.
    "whole": {
        8: {"greedy": [2.0, 9.0, 1.0], "nbest": [3.0], "features": [0.1], "to_encoder": [1.8]},
    },
    "step": {"step": [4.0], "features": [0.5], "to_encoder": [2.5]},
    "encoder": {"tensorflow": [0.004], "litert": [0.002], "openvino": [0.001], "difference": 2e-7},
    "utterance_seconds": 10.0,
}


def test_tables():
    streams, rows, runtimes = serving_speed.tables(FIGURES)
    assert streams[1:] == [
        ["saved_model", "", "0.2500", "51.00", "96.00", "100.00"],
        ["int8", "1.50", "0.1250", "2.00", "2.00", "2.00"],
    ]
    assert rows[1:] == [
        ["batch 8", "40", "1.50", "15.0 %"], ["one chunk of a stream", "", "", "at most 50.0 %"],
    ]
    assert runtimes[1:] == [
        ["tensorflow", "4.00", "1.00"], ["litert", "2.00", "0.50"], ["openvino", "1.00", "0.25"],
        ["largest difference", "2e-07", ""],
    ]


@pytest.mark.parametrize("rows", [1, 3])
def test_audio_is_the_same_each_time_and_differs_by_row(rows):
    audio = serving_speed_model.speech_like(2.5, rows=rows)
    assert audio.shape == (rows, 40000) and audio.dtype == "float32" and abs(audio).max() <= 1.0
    assert (audio == serving_speed_model.speech_like(2.5, rows=rows)).all()
    assert len({row.tobytes() for row in audio}) == rows
