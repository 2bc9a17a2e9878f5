"""Runners that give a bundle up, or run it more than once: nothing is lost, nothing is doubled."""

import contextlib
import os
import signal

import pytest

from tools.engines import portable


def test_bundles_that_run_three_times_write_the_same_bytes(world, engines, tmp_path):
    engines.label(world, tmp_path, "--runner=FnApiRunner", "--direct_runner_bundle_repeat=2")
    assert engines.digests(tmp_path) == world["expected"]


def test_a_killed_worker_fails_the_job_and_a_rerun_completes_it(world, engines, tmp_path, slow_teacher):
    output = tmp_path / "out"
    with portable.worker_pool(tmp_path) as pool, portable.local_job_service(tmp_path) as service:
        flags = portable.flags(service, workers=pool.address)

        def kill_workers():
            for pid in pool.workers():
                os.kill(pid, signal.SIGKILL)

        with pytest.raises(Exception, match="."):  # whatever Beam makes of it
            slow_teacher.label(world, output, *flags, meanwhile=kill_workers)
        assert not (output / "dataset.json").exists()
        engines.label({**world, "teacher": slow_teacher.path}, output, *flags)
    assert engines.digests(output) == world["expected"]
    ids = engines.record_ids(output)
    assert sorted(ids) == sorted(f"good-{i}" for i in range(30))


def test_two_jobs_at_once_in_one_folder_do_each_other_no_harm(world, engines, tmp_path, slow_teacher):
    """As a worker that lost its runner goes on for a while, beside the job that replaces it: here to the end."""
    output = tmp_path / "out"
    slow = {**world, "teacher": slow_teacher.path}

    def another_job():
        with contextlib.suppress(Exception):
            engines.label(slow, output)

    # One may miss what the other has just finished and cleared away, and fail.
    with contextlib.suppress(Exception):
        slow_teacher.label(world, output, meanwhile=another_job, calls=2)
    engines.label(slow, output)
    assert engines.digests(output) == world["expected"]
    assert sorted(engines.record_ids(output)) == sorted(f"good-{i}" for i in range(30))
    assert not [path for path in output.rglob("*") if path.name.endswith(".tmp")]
