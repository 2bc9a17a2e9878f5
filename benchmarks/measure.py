"""Figures of one call that can be trusted: CPU time in turn with a yardstick, and peak memory, each in a fresh process.

    figures = in_child("benchmarks.lattice_rows:time_row", name="rnnt", shape=[8, 400, 80, 1024, 640], repetitions=5)

The child runs on one thread. Its clock is CPU time, which other work on the machine does not stretch by waiting; it
still stretches it through shared caches and clock rates, so calls to compare take turns and ratios are taken of
medians. Memory is the operating system's count of resident pages, so nothing that an allocator holds is forgotten.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
"""What must stand in the environment before a library reads it."""


def in_child(function, *, environment=None, interpreter=None, **arguments):
    """Calls a function in a new process with one thread.

    Args:
      function: 'module:name'; its arguments and its result must be expressible in JSON.
      environment: variables to set beside ONE_THREAD.
      interpreter: of another environment than this process'; it needs what the function imports only.
      **arguments: of the function.

    Returns:
      What the function returned.

    Raises:
      RuntimeError: the child failed; its last line of output says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        python = interpreter or sys.executable
        command = [python, "-m", "benchmarks.measure", function, json.dumps(arguments), str(answer)]
        done = subprocess.run(
            command, env={**os.environ, **ONE_THREAD, **(environment or {})}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False, cwd=Path(__file__).resolve().parents[1],
        )  # fmt: skip
        if done.returncode or not answer.exists():
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise RuntimeError(f"{function} ended with status {done.returncode}: {last}")
        return json.loads(answer.read_text(encoding="utf-8"))


def one_thread_tensorflow():
    """Limits TensorFlow; must come before its first operation. (A process that has begun keeps what it has.)"""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # already initialised: a test calls in process
        return


def interleaved(calls, *, repetitions, clock=time.process_time):
    """Times calls in turn: yardstick, a, yardstick, b, yardstick, and that `repetitions` times.

    Args:
      calls: {name: function without arguments that returns when its work is done}; the first is the yardstick, run
        before, between and after all others. Each is called once untimed before.
      repetitions: how often each of the others is timed.
      clock: seconds.

    Returns:
      {name: [seconds]}.
    """
    yardstick, *others = calls
    seconds = {name: [] for name in calls}

    def timed(name):
        start = clock()
        calls[name]()
        seconds[name].append(clock() - start)

    for call in calls.values():
        call()
    timed(yardstick)
    for _ in range(repetitions):
        for name in others:
            timed(name)
            timed(yardstick)
    return seconds


def fastest(calls, *, clock=time.process_time):
    """Of several calls that do the same, that whose second run takes least."""
    return min(calls, key=lambda call: first_and_later(call, clock=clock)[1])


def first_and_later(call, *, clock=time.process_time):
    """(seconds of the first call, which traces and compiles; seconds of the second)."""
    marks = [clock()]
    for _ in range(2):
        call()
        marks.append(clock())
    return marks[1] - marks[0], marks[2] - marks[1]


def peak_memory(call, *, calls=3):
    """By how many bytes the process grows at the highest point of a call, above what it held before the first.

    Args:
      call: function without arguments.
      calls: how many calls; the result of one is held while the next runs, as in a training loop.

    Returns:
      (first, steady): of the first call, which traces and compiles, and of the last.
    """
    gc.collect()
    _return_freed_memory()
    before = _status("VmRSS")
    peaks = []
    for _ in range(calls):
        _reset_peak()
        held = call()
        peaks.append(_peak() - before)
    del held
    return peaks[0], peaks[-1]


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])


def spread(values):
    """Largest minus smallest, as a share of the median."""
    return (max(values) - min(values)) / median(values)


def processor():
    """The CPU's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def _status(field):
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}: memory is measured on Linux only")


def _reset_peak():
    """Lets the kernel's peak start anew. Where that is not allowed, `_peak` is that of the process' life: no less."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def _peak():
    try:
        return _status("VmHWM")
    except RuntimeError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _return_freed_memory():
    """What was freed but kept by malloc would hide the same amount of growth."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main(argv):
    function, arguments, answer = argv
    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    Path(answer).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
