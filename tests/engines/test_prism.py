"""Prism, the portable runner with which Dataflow's Runner v2 shares its protocol."""

import pytest

from beam_pipelines.transforms import infer
from tools.engines import fetch, portable

_MISSING = fetch.missing(fetch.PRISM)
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)


def test_prism_with_workers_in_the_submitting_process(world, engines, tmp_path):
    engines.label(world, tmp_path, "--runner=PrismRunner", f"--prism_location={fetch.found(fetch.PRISM)}")
    assert engines.digests(tmp_path) == world["expected"]


def test_prism_with_workers_from_a_pool(world, engines, tmp_path, monkeypatch):
    monkeypatch.setattr(infer.Teacher, "label", None)  # in this process
    binary = fetch.found(fetch.PRISM)
    with portable.worker_pool(tmp_path) as pool, portable.prism(binary, tmp_path) as service:
        engines.label(world, tmp_path / "out", *portable.flags(service, workers=pool.address))
    assert engines.digests(tmp_path / "out") == world["expected"]
