"""A Flink cluster of separate processes; one of its task managers is killed while the pipeline runs."""

import pathlib

import pytest

from beam_pipelines.transforms import infer
from tools.engines import fetch
from tools.engines.flink import FlinkCluster

_NO_CLUSTER = fetch.missing(fetch.FLINK_LIBRARIES)
_NO_JOBS = fetch.missing(fetch.FLINK_LIBRARIES, fetch.FLINK_JOB_SERVER_JAR)
needs_cluster = pytest.mark.skipif(bool(_NO_CLUSTER), reason=_NO_CLUSTER)
needs_jobs = pytest.mark.skipif(bool(_NO_JOBS), reason=_NO_JOBS)


@needs_cluster
def test_a_killed_task_manager_is_noticed_and_replaced(tmp_path):
    with FlinkCluster(tmp_path, task_managers=2, slots=3) as cluster:
        overview = cluster.get("/overview")
        assert (overview["taskmanagers"], overview["slots-total"]) == (2, 6)
        assert overview["flink-version"] == fetch.FLINK_VERSION
        cluster.task_managers[0].kill()
        cluster.wait_for_task_managers(1)
        cluster.start_task_manager()
        cluster.wait_for_task_managers(2)
        assert cluster.get("/overview")["slots-available"] == 6
        pids = cluster.pids()
    assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids)


@needs_jobs
def test_the_same_records_as_in_process(world, engines, tmp_path, monkeypatch):
    monkeypatch.setattr(infer.Teacher, "label", None)  # in this process
    with FlinkCluster(tmp_path / "flink", task_managers=2, slots=1) as cluster:
        engines.label(world, tmp_path / "out", *cluster.beam_flags(parallelism=2))
        (job,) = cluster.get("/jobs/overview")["jobs"]
        assert job["state"] == "FINISHED"
    assert engines.digests(tmp_path / "out") == world["expected"]


@needs_jobs
def test_a_killed_task_manager_loses_and_doubles_nothing(world, engines, tmp_path, slow_teacher):
    with FlinkCluster(tmp_path / "flink", task_managers=2, slots=1) as cluster:
        flags = cluster.beam_flags(parallelism=2)

        def kill():
            cluster.task_managers[0].kill()
            cluster.start_task_manager()

        slow_teacher.label(world, tmp_path / "out", *flags, meanwhile=kill)
        (job,) = cluster.get("/jobs/overview")["jobs"]
        assert job["state"] == "FINISHED"
        history = cluster.get(f"/jobs/{job['jid']}/exceptions")["exceptionHistory"]["entries"]
        assert history, "the kill did not touch the job"
    assert engines.digests(tmp_path / "out") == world["expected"]
    ids = engines.record_ids(tmp_path / "out")
    assert len(ids) == len(set(ids)) == 30
