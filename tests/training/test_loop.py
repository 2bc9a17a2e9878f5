"""What is done between steps, with a session that only counts: stopping, saving, skipped steps."""

import os
import signal
import types

import pytest
import tensorflow as tf

from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.faults import Interrupted
from tf_rnnt_kd.training.loop import Loop
from tf_rnnt_kd.training.preemption import Preemption


class Session:
    """Takes steps of two utterances; those in `broken` are not finite, and `bad` names the utterances to blame."""

    worker, batch_spec, best_wer, best_step = 0, {}, float("inf"), 0
    sparsity = types.SimpleNamespace(is_on=False, is_reached=True)

    def __init__(self, *, broken=(), bad=(), at_step=lambda step: None):
        self.step, self.skipped_steps, self._broken, self._at_step = 0, 0, broken, at_step
        self._bad, self.average_model = bad, None
        self.forward = self.Forward(self)

    class Forward:
        trainable_variables = ()

        def __init__(self, session):
            self.session = session

        def __call__(self, batch, step, training):
            assert not training and "utterance_id" not in batch
            names = [f"{self.session.step}-{row}" for row in range(2)]
            return {"loss": tf.constant([float("nan") if name in self.session._bad else 1.0 for name in names])}

    def advance(self):
        self.step += 1
        self._at_step(self.step)
        finite = self.step not in self._broken
        self.skipped_steps += not finite
        ids = tf.constant([f"{self.step}-{row}" for row in range(2)])
        return {"utterance_id": ids, "num_frames": tf.constant([5, 6])}, {"loss": tf.constant(1.5)}, finite

    def note_best(self, dev_wer):
        self.best_wer, self.best_step = dev_wer, self.step


class Journal:
    """Monitor, checkpoints and dev evaluation that write down what was asked of them."""

    def __init__(self, session, *, interrupt_evaluation_at=None):
        self._session, self._interrupt_at, self.entries = session, interrupt_evaluation_at, []

    def count(self, batch):
        pass

    def log_terms(self, values):
        self.entries.append(("terms", self._session.step))

    def log_dev(self, dev_wer, samples):
        self.entries.append(("dev", self._session.step))

    def log_skipped(self, names):
        self.entries.append(("skipped", self._session.step, names))

    def save(self, step, *, evaluation_pending):
        self.entries.append(("saved", step, evaluation_pending))

    def word_error_rate(self, *, is_stopped):
        if self._session.step == self._interrupt_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return None if is_stopped() else (1.0 / self._session.step, [("a", "b")])


def run(session, *, steps=10, tmp_path, monkeypatch, pending=False, interrupt_evaluation_at=None, **train):
    """Runs a loop; (entries of the journal, what it raised)."""
    config = default_config()
    config.train.update(steps=steps, log_every=4, eval_every=5, checkpoint_every=5, **train)
    monkeypatch.setattr("tf_rnnt_kd.training.workdir.save_best", lambda *arguments, **options: None)
    journal = Journal(session, interrupt_evaluation_at=interrupt_evaluation_at)
    with Preemption() as preemption, preemption.deferred():
        loop = Loop(
            session, config=config, workdir=tmp_path, checkpoints=journal, dev=journal, monitor=journal,
            preemption=preemption, strategy=None, pieces=(),
        )
        try:
            loop.run(evaluation_pending=pending)
        except (Interrupted, ValueError) as error:
            return journal.entries, error
    return journal.entries, None


@pytest.fixture
def setting(tmp_path, monkeypatch):
    return {"tmp_path": tmp_path, "monkeypatch": monkeypatch}


def test_everything_is_done_when_it_is_due_and_at_the_end(setting):
    session = Session()
    entries, error = run(session, steps=11, **setting)
    assert error is None and session.best_step == 11
    assert entries == [
        ("terms", 4), ("dev", 5), ("saved", 5, False), ("terms", 8), ("dev", 10), ("saved", 10, False), ("terms", 11),
        ("dev", 11), ("saved", 11, False),
    ]


def kill_at(step):
    return lambda now: os.kill(os.getpid(), signal.SIGTERM) if now == step else None


def test_sigterm_saves_the_step_and_stops(setting):
    entries, error = run(Session(at_step=kill_at(3)), **setting)
    assert isinstance(error, Interrupted) and "SIGTERM stopped it at step 3 of 10" in str(error)
    assert error.exit_status == 75
    assert entries == [("saved", 3, False)]


def test_sigterm_does_not_save_twice_and_does_not_stop_what_is_complete(setting):
    entries, error = run(Session(at_step=kill_at(5)), **setting)
    # The evaluation of that step is cut short and left for the next run.
    assert isinstance(error, Interrupted) and entries == [("terms", 4), ("saved", 5, True)]
    entries, error = run(Session(), interrupt_evaluation_at=10, **setting)
    assert isinstance(error, Interrupted) and entries[-1] == ("saved", 10, True)
    session = Session(at_step=kill_at(6))
    session.step = 5
    assert run(session, steps=6, **setting)[0][-1] == ("saved", 6, True)


def test_a_pending_evaluation_comes_first(setting):
    session = Session()
    session.step = 5
    entries, error = run(session, steps=6, pending=True, **setting)
    assert error is None and entries[0] == ("dev", 5)
    session = Session()
    session.step = 10
    entries, error = run(session, pending=True, interrupt_evaluation_at=10, **setting)
    assert isinstance(error, Interrupted) and entries == [("saved", 10, True)]


def test_workers_ask_each_other_equally_often(setting):
    counts = []
    for pending in (False, True):
        session, calls = Session(), []
        session.step = 5
        setting["monkeypatch"].setattr(
            "tf_rnnt_kd.training.loop.agreement", lambda strategy, calls=calls: lambda flag: calls.append(flag) or flag
        )
        assert run(session, pending=pending, **setting)[1] is None
        counts.append(len(calls))
    assert counts[0] == counts[1]


def test_skipped_steps_are_named_counted_and_too_many_stop_it(setting, capsys):
    session = Session(broken=(2, 3, 6, 7), bad=("3-1",))
    entries, error = run(session, max_skipped_steps=2, **setting)
    skipped = [entry for entry in entries if entry[0] == "skipped"]
    assert skipped == [("skipped", 2, ["2-0", "2-1"]), ("skipped", 3, ["3-1"]), ("skipped", 6, ["6-0", "6-1"])]
    assert isinstance(error, ValueError) and "3 steps were not finite (train.max_skipped_steps=2)" in str(error)
    shown = capsys.readouterr().err
    assert "step 2 skipped, 1 so far" in shown and "utterances: 2-0, 2-1; by itself each has a finite loss" in shown
    assert "not finite by themselves: 3-1" in shown
