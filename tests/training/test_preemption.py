"""Signals: nothing is lost before the first step, a request to save within the loop, and once more means at once."""

import os
import signal

import pytest

from tf_rnnt_kd.training.faults import Interrupted
from tf_rnnt_kd.training.preemption import Preemption, agreement


@pytest.fixture(autouse=True)
def _interruptible():
    """A suite that was started in the background ignores Ctrl-C, and Preemption would respect that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_the_loop_it_stops_at_once(number):
    with Preemption(), pytest.raises(Interrupted, match=f"{number.name} before the first step"):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_within_the_loop_it_waits(number):
    with Preemption() as preemption, preemption.deferred():
        assert preemption.requested is None
        os.kill(os.getpid(), number)
        assert preemption.requested == number.name
        os.kill(os.getpid(), signal.SIGTERM)  # schedulers repeat it
        assert preemption.requested == number.name


def test_ctrl_c_twice_stops_without_saving():
    with pytest.raises(KeyboardInterrupt), Preemption() as preemption, preemption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_given_back_and_what_is_ignored_stays_ignored():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Preemption():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with Preemption() as preemption, preemption.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            assert preemption.requested is None
    finally:
        signal.signal(signal.SIGINT, before[1])


def test_one_worker_agrees_with_itself():
    assert agreement(None)(True) is True and agreement(None)(False) is False
