"""Runners of this machine that need nothing but Beam itself: the same bytes, whoever does the work."""

import pytest
from apache_beam.options.pipeline_options import StandardOptions

from beam_pipelines import command_line
from beam_pipelines.transforms import infer
from tools.engines import portable


@pytest.fixture
def only_elsewhere(monkeypatch):
    """Makes the teacher unusable in this process: what is labelled was labelled by another."""

    def label(self, *_, **__):
        raise AssertionError("the teacher was called in the submitting process")

    monkeypatch.setattr(infer.Teacher, "label", label)


def test_in_process_the_corpus_is_labelled_and_what_cannot_be_is_not(world, engines, tmp_path):
    engines.label(world, tmp_path)
    assert engines.digests(tmp_path) == world["expected"]
    assert sorted(engines.record_ids(tmp_path)) == sorted(f"good-{i}" for i in range(30))


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_write_the_same_bytes(world, engines, tmp_path, only_elsewhere, workers):
    mode = ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    engines.label(world, tmp_path, "--runner=DirectRunner", *mode)
    assert engines.digests(tmp_path) == world["expected"]


def test_direct_runner_never_looks_for_prism():
    for name in ("DirectRunner", "direct", "directrunner"):
        options = command_line.beam_options([f"--runner={name}", "--direct_num_workers=2"])
        assert options.view_as(StandardOptions).runner == "FnApiRunner"
    assert command_line.beam_options([]).view_as(StandardOptions).runner is None
    assert command_line.beam_options(["--runner=PrismRunner"]).view_as(StandardOptions).runner == "PrismRunner"


def test_a_job_service_with_workers_in_the_submitting_process(world, engines, tmp_path):
    with portable.local_job_service(tmp_path / "service") as service:
        engines.label(world, tmp_path / "out", *portable.flags(service))
    assert engines.digests(tmp_path / "out") == world["expected"]


def test_a_job_service_with_workers_from_a_pool(world, engines, tmp_path, only_elsewhere):
    with portable.worker_pool(tmp_path) as pool, portable.local_job_service(tmp_path) as service:
        engines.label(world, tmp_path / "out", *portable.flags(service, workers=pool.address))
    assert engines.digests(tmp_path / "out") == world["expected"]
