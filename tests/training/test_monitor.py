"""What a training shows: lines with speed and time to go, the log, and TensorBoard's file read back."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.training import monitor as monitor_lib
from tf_rnnt_kd.training.monitor import Monitor


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(monitor_lib, "time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def fake_session(step=0, num_workers=1):
    return types.SimpleNamespace(step=step, hop_seconds=0.01, num_workers=num_workers)


def events(workdir):
    """{tag: last value} of TensorBoard's file."""
    (path,) = (workdir / "tensorboard").iterdir()
    found = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            found[value.tag] = (event.step, tf.make_ndarray(value.tensor))
    return found


def test_speed_and_time_to_go(tmp_path, clock, capsys):
    session = fake_session(num_workers=2)
    with Monitor(tmp_path, session=session, steps=100) as monitor:
        for step, seconds in ((10, 60.0), (20, 5.0), (30, 5.0)):
            for session.step in range(step - 9, step + 1):
                monitor.count({"num_frames": tf.constant([1000, 500])})
            clock.seconds += seconds
            monitor.log_terms({"loss": 3.0, "rnnt": 2.0})
    lines = capsys.readouterr().err.splitlines()
    # 15 s of audio in each step of each of two workers. The minute before step 10 is not what comes next.
    assert lines[0] == "step 10 of 100: loss 3.00, steps/s 0.17, audio h/h 5, to go 9 min"
    assert lines[1:] == [
        "step 20 of 100: loss 3.00, steps/s 2.00, audio h/h 60, to go 40 s",
        "step 30 of 100: loss 3.00, steps/s 2.00, audio h/h 60, to go 35 s",
    ]
    found = events(tmp_path)
    assert found["audio_hours_per_hour"] == (30, 60.0) and found["steps_per_second"] == (30, 2.0)
    assert found["rnnt"] == (30, 2.0)
    log = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert log[-1] == {"step": 30, "seconds": 70.0, "loss": 3.0, "rnnt": 2.0}


def test_evaluations_pictures_and_skipped_steps(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, size=[4, 5, 3]).astype(np.uint8)
    with Monitor(tmp_path, session=fake_session(7), steps=100) as monitor:
        monitor.log_dev(0.25, [("one two", "one too"), ("three", "")])
        monitor.log_pictures({"lattice": picture})
        monitor.log_skipped(["a", "b"])
    found = events(tmp_path)
    assert found["dev_wer"] == (7, np.float32(0.25))
    assert b"| one two | one too |" in found["dev_samples"][1].item()
    step, (width, height, encoded) = found["lattice"]
    assert (step, width, height) == (7, b"5", b"4")
    np.testing.assert_array_equal(tf.io.decode_png(encoded), picture)
    log = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert log == [{"step": 7, "dev_wer": 0.25}, {"step": 7, "skipped": ["a", "b"]}]


def test_a_pending_evaluation_is_dropped_from_the_log(tmp_path):
    with Monitor(tmp_path, session=fake_session(7), steps=100) as monitor:
        monitor.log_terms({"loss": 1.0})
        monitor.log_dev(0.25, [])
    terms, evaluation = ["loss", "seconds", "step"], ["dev_wer", "step"]
    for pending, kept in ((False, [terms, evaluation]), (True, [terms])):
        with Monitor(tmp_path, session=fake_session(7), steps=100, evaluation_pending=pending):
            pass
        log = [sorted(json.loads(line)) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
        assert log == kept


def test_other_workers_are_silent(tmp_path, capsys):
    with Monitor(tmp_path, session=fake_session(), steps=100, is_silent=True) as monitor:
        monitor.count({"num_frames": tf.constant([1000])})
        monitor.log_terms({"loss": 1.0})
        monitor.log_dev(0.25, [("a", "b")])
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().err
