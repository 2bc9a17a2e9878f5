"""prepare_corpus on the same engines: audio files in, the same bytes out."""

import hashlib

import numpy as np
import pytest
import soundfile

from beam_pipelines import command_line
from beam_pipelines.corpus import prepare_corpus
from tools.engines import fetch, portable


def _digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(LibriSpeech folder with a damaged file and a duplicate, digests of what the runner of this process makes)."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for speaker in ("11", "12", "13"):
        chapter = root / "corpus" / "train" / speaker / "7"
        chapter.mkdir(parents=True)
        for number in range(6):
            name = f"{speaker}-7-{number:04d}"
            samples = 0.1 * random.standard_normal(int(16_000 * random.uniform(0.3, 1.0)))
            soundfile.write(chapter / f"{name}.flac", samples, 16_000)
            with (chapter / f"{speaker}-7.trans.txt").open("a") as transcripts:
                transcripts.write(f"{name} WORDS OF {speaker}\n")
    first = root / "corpus" / "train" / "11" / "7"
    content = (first / "11-7-0000.flac").read_bytes()
    (first / "11-7-0001.flac").write_bytes(content)
    (first / "11-7-0002.flac").write_bytes(content[: len(content) // 2])
    info, _ = prepare_corpus(str(root / "corpus"), output=str(root / "expected"))
    assert info.counts == {"input": 18, "written": 16, "rejected": 2}
    return root / "corpus", _digests(root / "expected")


def _prepare(corpus, output, *beam_flags):
    prepare_corpus(str(corpus), output=str(output), beam_options=command_line.beam_options(beam_flags))


def test_bundles_that_run_three_times(corpus, tmp_path):
    folder, expected = corpus
    _prepare(folder, tmp_path, "--runner=FnApiRunner", "--direct_runner_bundle_repeat=2")
    assert _digests(tmp_path) == expected


def test_two_worker_processes(corpus, tmp_path):
    folder, expected = corpus
    mode = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    _prepare(folder, tmp_path, "--runner=DirectRunner", *mode)
    assert _digests(tmp_path) == expected


def test_a_job_service_with_workers_from_a_pool(corpus, tmp_path):
    folder, expected = corpus
    with portable.worker_pool(tmp_path) as pool, portable.local_job_service(tmp_path) as service:
        _prepare(folder, tmp_path / "out", *portable.flags(service, workers=pool.address))
    assert _digests(tmp_path / "out") == expected


@pytest.mark.skipif(bool(fetch.missing(fetch.PRISM)), reason=fetch.missing(fetch.PRISM))
def test_prism(corpus, tmp_path):
    folder, expected = corpus
    _prepare(folder, tmp_path, "--runner=PrismRunner", f"--prism_location={fetch.found(fetch.PRISM)}")
    assert _digests(tmp_path) == expected
