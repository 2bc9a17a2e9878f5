"""SIGTERM and SIGINT as a request to save and stop, which all workers of a training follow in the same step."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

from tf_rnnt_kd.training.faults import Interrupted
from tf_rnnt_kd.training.strategy import worker_of

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preemption:
    """Listens for the signals within its `with` block.

    Outside `deferred()` a signal raises Interrupted where the program is: there is nothing to save. Within, it only
    sets `requested`; a second SIGINT raises KeyboardInterrupt.

    Attributes:
      requested: name of the first signal that came, or None.
    """

    def __init__(self):
        self.requested: str | None = None
        self._deferred = False
        self._earlier = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # others cannot set handlers
            for number in _SIGNALS:
                # Started with nohup or in the background, SIGINT is ignored and stays so.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._earlier[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception):
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Where work would be lost: a signal waits until the loop asks."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number, frame):
        again, self.requested = self.requested, self.requested or signal.Signals(number).name
        if not self._deferred:
            raise Interrupted(f"{self.requested} before the first step of this run: nothing is lost")
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt


def agreement(strategy=None) -> Callable[[bool], bool]:
    """A function flag -> whether any worker's flag is set. All workers must call it equally often, between steps.

    Args:
      strategy: a tf.distribute.Strategy, or None. Costs nothing unless there are several workers.
    """
    if worker_of(strategy)[1] == 1:
        return bool

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)], autograph=False)
    def count(flag):
        return strategy.reduce("SUM", strategy.run(tf.identity, args=(flag,)), axis=None)

    return lambda flag: bool(count(tf.constant(float(bool(flag)))) > 0)
