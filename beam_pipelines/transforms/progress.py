"""Progress of a pipeline that runs in this process.

DoFns call `expect` and `advance`; the launching program wraps `pipeline.run()` in `shown`. A terminal gets a bar,
anything else one line per tenth. With runners whose workers live elsewhere nothing arrives here, and nothing is shown.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator

import tqdm

_INTERVAL_SECONDS = 0.2


class _Counter:
    """Process-wide, because a DoFn is pickled on its way to the worker thread and loses what it was given."""

    def __init__(self):
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.expected = self.done = 0

    def add(self, *, expected: int = 0, done: int = 0) -> None:
        with self._lock:
            self.expected += expected
            self.done += done


_COUNTER = _Counter()


def expect(items: int) -> None:
    """So many more items will come."""
    _COUNTER.add(expected=items)


def advance(items: int = 1) -> None:
    """So many items are done."""
    _COUNTER.add(done=items)


def say(line: str) -> None:
    """One line for people on stderr, beside a bar if there is one."""
    tqdm.tqdm.write(line, file=sys.stderr)


@contextlib.contextmanager
def shown(description: str, *, unit: str = "utterances", file=None) -> Iterator[None]:
    """Shows the progress of what runs inside, on `file` (stderr)."""
    file = file or sys.stderr
    _COUNTER.reset()
    stop = threading.Event()
    show = _bar if file.isatty() else _lines
    thread = threading.Thread(target=show, args=(description, unit, file, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _bar(description: str, unit: str, file, stop: threading.Event) -> None:
    with tqdm.tqdm(desc=description, unit=f" {unit}", file=file, total=0) as bar:
        finished = False
        while not finished:
            finished = stop.wait(_INTERVAL_SECONDS)
            bar.total = _COUNTER.expected
            bar.update(_COUNTER.done - bar.n)


def _lines(description: str, unit: str, file, stop: threading.Event) -> None:
    tenths, finished = 0, False
    while not finished:
        finished = stop.wait(_INTERVAL_SECONDS)
        done, expected = _COUNTER.done, _COUNTER.expected
        # Items are still being found while none is done: a share of them would mean nothing.
        if done and done * 10 // expected > tenths:
            tenths = done * 10 // expected
            file.write(f"{description}: {done} of {expected} {unit} ({100 * done // expected} %)\n")
            file.flush()
