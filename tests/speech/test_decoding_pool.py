"""A crash or a hang costs the job that caused it, twice, and nothing else.

Jobs are texts for `eval`, which every process has: functions of this file cannot be imported there.
"""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tf_rnnt_kd.speech import decoding_pool
from tf_rnnt_kd.speech.decoding_pool import DecoderPool
from tf_rnnt_kd.speech.errors import AudioError

_ROOT = Path(__file__).parents[2]
_CRASH = "__import__('ctypes').string_at(0)"
_SLEEP_IN_PYTHON = "__import__('time').sleep(1000)"
# Holds the interpreter's lock: no thread and no signal handler of the process gets a turn.
_SLEEP_IN_C = "__import__('ctypes').PyDLL(None).sleep(1000)"
_PID = "__import__('os').getpid()"


@pytest.fixture(scope="module")
def _without_tensorflow():
    """Importing it takes seconds each time that a process is started, and `eval` needs none of it."""
    with pytest.MonkeyPatch.context() as patch:
        preload = "decoding_process.preload = lambda: None; "
        start = "decoding_process.main()"
        assert decoding_pool._PROGRAM.endswith(start)
        patch.setattr(decoding_pool, "_PROGRAM", decoding_pool._PROGRAM.removesuffix(start) + preload + start)
        yield


@pytest.fixture(scope="module")
def pool(_without_tensorflow):
    with DecoderPool(num_processes=2, timeout_seconds=2.0) as pool:
        yield pool


def _reasons(outcomes):
    return [outcome.reason if isinstance(outcome, AudioError) else outcome for outcome in outcomes]


def test_outcomes_come_in_the_order_of_the_jobs(pool):
    jobs = [f"__import__('time').sleep({0.2 if index % 3 == 0 else 0}) or {index}" for index in range(12)]
    assert list(pool.map(eval, jobs)) == list(range(12))
    assert list(pool.map(eval, [])) == []


def test_work_is_done_elsewhere_by_as_many_processes_as_asked_for(pool):
    pids = set(pool.map(eval, [f"__import__('time').sleep(0.1) or {_PID}"] * 8))
    assert len(pids) == 2 and os.getpid() not in pids


def test_a_crash_costs_one_job(pool):
    outcomes = list(pool.map(eval, ["1", _CRASH, "3", "__import__('os')._exit(7)", "__import__('os').abort()", "6"]))
    assert _reasons(outcomes) == [1, "decoder_crashed", 3, "decoder_crashed", "decoder_crashed", 6]
    assert "SIGSEGV" in str(outcomes[1]) and "status 7" in str(outcomes[3]) and "SIGABRT" in str(outcomes[4])


def test_a_hang_costs_one_job_even_in_native_code(pool):
    outcomes = list(pool.map(eval, ["1", _SLEEP_IN_PYTHON, "3", _SLEEP_IN_C, "5"]))
    assert _reasons(outcomes) == [1, "decoder_timeout", 3, "decoder_timeout", 5]
    assert "2 seconds" in str(outcomes[1])


def test_a_job_whose_process_was_killed_from_outside_is_done_again(pool, tmp_path):
    """The first try kills its own process, as the kernel would when memory is short; the second finds the mark."""
    mark = tmp_path / "tried"
    job = f"""(lambda p: 'done' if p.exists() else (p.touch(), __import__('os').kill({_PID}, 9)))(
        __import__('pathlib').Path({str(mark)!r}))"""
    assert list(pool.map(eval, [job, "2"])) == ["done", 2]
    assert mark.exists()


def test_processes_that_died_between_jobs_are_replaced_and_nobody_is_blamed(pool):
    for pid in set(pool.map(eval, [f"__import__('time').sleep(0.1) or {_PID}"] * 4)):
        os.kill(pid, 9)
    assert list(pool.map(eval, ["1", "2", "3"])) == [1, 2, 3]


def test_audio_errors_come_back_and_mistakes_of_the_program_are_raised(pool):
    error = "__import__('tf_rnnt_kd.speech.errors', fromlist=['x']).AudioError('silence', 'quiet')"
    (outcome,) = pool.map(eval, [f"(_ for _ in ()).throw({error})"])
    assert (outcome.reason, str(outcome)) == ("silence", "quiet")
    with pytest.raises(ZeroDivisionError) as caught:
        list(pool.map(eval, ["1", "1 / 0", "3"]))
    assert "in a decoder process" in str(caught.value.__cause__)
    with pytest.raises(Exception, match="pickle"):
        list(pool.map(eval, ["lambda: 0"]))
    assert list(pool.map(eval, ["4"])) == [4]


def test_jobs_are_not_taken_far_ahead(pool):
    taken = []

    def jobs():
        for index in range(100):
            taken.append(index)
            yield str(index)

    outcomes = pool.map(eval, jobs())
    assert next(outcomes) == 0
    assert len(taken) <= 5
    outcomes.close()
    assert list(pool.map(eval, ["7"])) == [7]


def test_big_arrays_come_through(pool):
    (outcome,) = pool.map(eval, ["__import__('numpy').arange(20_000_000, dtype='float32')"])
    np.testing.assert_array_equal(outcome, np.arange(20_000_000, dtype=np.float32))


def _alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_processes_end_with_the_pool_though_they_are_busy(_without_tensorflow):
    with DecoderPool(num_processes=1, timeout_seconds=600.0) as pool:
        (pid,) = pool.map(eval, [_PID])
        pending = pool.map(eval, ["1", _SLEEP_IN_C, "3"])
        assert next(pending) == 1
        start = time.monotonic()
    assert time.monotonic() - start < 10
    assert not _alive(pid)


_SCRIPT = """
    import sys, time
    from tf_rnnt_kd.speech.decoding_pool import DecoderPool

    print("imported as", __name__, flush=True)
    pool = DecoderPool(num_processes=1, timeout_seconds=600.0)
    print("pid", *pool.map(eval, [{pid!r}]), flush=True)
    if "stay" in sys.argv:
        list(pool.map(eval, [{sleep!r}]))
"""


def _script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(_SCRIPT.format(pid=_PID, sleep=_SLEEP_IN_PYTHON)))
    return [sys.executable, str(path)], {**os.environ, "PYTHONPATH": str(_ROOT)}


def test_a_script_without_a_main_guard_runs_once_and_ends(tmp_path):
    command, environment = _script(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.count("imported as __main__") == done.stdout.count("imported as") == 1
    assert not _alive(int(done.stdout.split("pid ")[1]))


def test_processes_end_when_their_owner_is_killed(tmp_path):
    command, environment = _script(tmp_path)
    with subprocess.Popen([*command, "stay"], env=environment, stdout=subprocess.PIPE, text=True) as owner:
        pid = next(int(line.split()[1]) for line in owner.stdout if line.startswith("pid"))
        time.sleep(0.5)
        assert _alive(pid)
        owner.kill()
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def test_that_no_process_can_be_started_is_said(monkeypatch):
    monkeypatch.setattr(decoding_pool, "_PROGRAM", "raise SystemExit(3)")
    with DecoderPool(num_processes=1) as pool, pytest.raises(RuntimeError, match="no decoder process.*status 3"):
        list(pool.map(eval, ["1"]))


def test_wrong_settings_are_refused():
    for settings in ({"num_processes": -1}, {"timeout_seconds": 0.0}, {"attempts": 0}):
        with pytest.raises(ValueError, match="at least"):
            DecoderPool(**settings)


def test_it_works_in_a_beam_worker(_without_tensorflow):
    """One pool for each instance of a DoFn, as pipelines have it, made in `setup`."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.testing.util import assert_that, equal_to

    class Decode(beam.DoFn):
        def setup(self):
            self._pool = DecoderPool(num_processes=1, timeout_seconds=10.0)

        def teardown(self):
            self._pool.close()

        def process(self, texts):
            yield from _reasons(self._pool.map(eval, texts))

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | beam.Create([["1", _CRASH, "3"]]) | beam.ParDo(Decode())
        assert_that(found, equal_to([1, "decoder_crashed", 3]))


def test_files_are_decoded_as_in_this_process(tmp_path):
    paths = []
    for index in range(6):
        path = tmp_path / f"{index}.flac"
        soundfile.write(path, 0.1 * np.sin(np.arange(4000 + index) / (3 + index)), 16000)
        paths.append(path)
    paths.insert(2, tmp_path / "absent.flac")
    (tmp_path / "cut.flac").write_bytes(paths[0].read_bytes()[:-10])
    paths.insert(4, tmp_path / "cut.flac")
    with DecoderPool(num_processes=1) as there, DecoderPool(num_processes=0) as here:
        decoded = list(there.decode(paths, target_rate=8000))
        assert _reasons(there.decode([paths[0].read_bytes()], min_seconds=1.0)) == ["too_short"]
        for one, other in zip(decoded, here.decode(paths, target_rate=8000), strict=True):
            if isinstance(one, AudioError):
                assert (one.reason, str(one)) == (other.reason, str(other))
            else:
                np.testing.assert_array_equal(one, other)
    assert [_reasons(decoded)[index] for index in (2, 4)] == ["missing_audio", "truncated"]
