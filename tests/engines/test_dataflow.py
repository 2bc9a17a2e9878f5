"""The Dataflow job that would be submitted: caught by a stub of the services, without an account."""

import contextlib
import http.server
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tarfile
import threading

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from gcp_storage_emulator.server import create_server
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tools.engines import processes

_ROOT = pathlib.Path(__file__).parents[2]
_IMAGE = "europe-docker.pkg.dev/a-project/images/tf-rnnt-kd:1"
_ACCELERATOR = "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver:5xx"
_NAMES = {"REGION-docker": "europe-docker", "REGION": "europe-west4", "PROJECT": "a-project", "REPOSITORY": "images",
          "BUCKET": "a-bucket"}  # fmt: skip


def documented_flags():
    """Flags for Beam of the command in docs/how_to/dataflow.md, its names in capitals filled in."""
    page = (_ROOT / "docs" / "how_to" / "dataflow.md").read_text()
    (command,) = re.findall(r"```bash\npython -m beam_pipelines.pseudo_label(.*?)```", page, re.DOTALL)
    for name, value in _NAMES.items():
        command = command.replace(name, value)
    words = shlex.split(command.replace("\\\n", " "))
    return words[words.index("--runner=DataflowRunner") :]


class DataflowService:
    """Dataflow's service as far as a submission needs it: keeps the bodies of jobs, and says that they were cancelled.

    A context manager; `address` is for --dataflow_endpoint, `jobs` what was created.
    """

    def __init__(self):
        self.jobs = jobs = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                jobs.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer({"id": "job-1", "name": jobs[-1]["name"], "currentState": "JOB_STATE_PENDING"})

            def do_GET(self):  # of the job, or of its messages
                job = {"id": "job-1", "currentState": "JOB_STATE_CANCELLED"}
                self._answer({} if "messages" in self.path else job)

            def _answer(self, content):
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
        self.address = f"http://localhost:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def cloud_storage(bucket):
    """(address of an emulated Cloud Storage with that bucket, function that gives {name: content} of what is there)."""
    port = processes.free_port()
    server = create_server("localhost", port, in_memory=True, default_bucket=bucket)
    server.start()
    address = f"http://localhost:{port}"

    def content():
        client = storage.Client(
            project="x", credentials=AnonymousCredentials(), client_options={"api_endpoint": address}
        )
        return {blob.name: blob.download_as_bytes() for blob in client.list_blobs(bucket)}

    try:
        yield address, content
    finally:
        server.stop()


@pytest.fixture(scope="module")
def submitted(world, engines, tmp_path_factory):
    """(job, {name: content} of what was staged), of the command that docs/how_to/dataflow.md shows."""
    folder = tmp_path_factory.mktemp("dataflow")
    credentials = folder / "credentials.json"
    # With a token that is good for ever nothing asks an authority.
    fake = dict.fromkeys(("client_id", "client_secret", "refresh_token", "token"), "x")
    credentials.write_text(json.dumps({"type": "authorized_user", "expiry": "2999-01-01T00:00:00Z", **fake}))
    with DataflowService() as dataflow, cloud_storage("a-bucket") as (storage_address, content):
        environment = {
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "GOOGLE_CLOUD_PROJECT": "a-project",
            "STORAGE_EMULATOR_HOST": storage_address,
            "NO_GCE_CHECK": "true",
        }
        done = subprocess.run(
            [
                sys.executable, "-m", "beam_pipelines.pseudo_label", *engines.arguments(world, folder / "out"),
                *documented_flags(), f"--dataflow_endpoint={dataflow.address}",
            ],
            env={**os.environ, **environment}, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        staged = {name.rpartition("/")[2]: blob for name, blob in content().items()}
    assert dataflow.jobs, done.stderr[-3000:]
    assert done.returncode != 0  # the job was cancelled, and the command says so
    assert "CANCELLED" in done.stderr
    (job,) = dataflow.jobs
    return job, staged


def test_the_job_asks_for_what_the_flags_say(submitted):
    job, _ = submitted
    (pool,) = job["environment"]["workerPools"]
    assert job["name"] == "label"
    assert job["type"] == "JOB_TYPE_BATCH"
    assert pool["machineType"] == "g2-standard-8"
    assert pool["diskSizeGb"] == 100
    assert pool["numWorkers"] == 2
    assert pool["numThreadsPerWorker"] == 2
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 50
    (image,) = pool["sdkHarnessContainerImages"]
    assert image["containerImage"] == pool["workerHarnessContainerImage"] == _IMAGE
    assert job["environment"]["serviceOptions"] == [_ACCELERATOR]
    experiments = set(job["environment"]["experiments"])
    assert {"use_runner_v2", "beam_fn_api"} <= experiments
    # One process per machine, so one copy of the teacher on its accelerator.
    assert "use_multiple_sdk_containers" not in experiments
    assert "no_use_multiple_sdk_containers" in experiments


def test_the_staged_pipeline_is_ours_and_runs_in_our_image(submitted):
    _, staged = submitted
    pipeline = beam_runner_api_pb2.Pipeline.FromString(staged["pipeline.pb"])
    names = {transform.unique_name for transform in pipeline.components.transforms.values()}
    steps = {step for name in names for step in name.split("/")}
    assert {"Shards", "Read", "Teacher", "Write"} <= steps
    images = set()
    for environment in pipeline.components.environments.values():
        assert environment.urn == "beam:env:docker:v1"
        images.add(beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image)
        urls = [
            beam_runner_api_pb2.ArtifactUrlPayload.FromString(dependency.type_payload).url
            for dependency in environment.dependencies
        ]
        assert "gs://a-bucket/staging" in urls[0]
        assert any(url.endswith("/workflow.tar.gz") for url in urls)
    assert images == {_IMAGE}


def test_the_package_of_the_setup_file_holds_the_code_and_installs(submitted, tmp_path):
    job, staged = submitted
    locations = [package["location"] for package in job["environment"]["workerPools"][0]["packages"]]
    assert any(location.endswith("/workflow.tar.gz") for location in locations)
    with tarfile.open(fileobj=io.BytesIO(staged["workflow.tar.gz"])) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    tracked = [
        path.relative_to(_ROOT)
        for package in ("tf_rnnt_kd", "beam_pipelines")
        for path in (_ROOT / package).rglob("*.py")
    ]
    assert len(tracked) > 50
    assert not [str(path) for path in tracked if (root / path).read_bytes() != (_ROOT / path).read_bytes()]
    # As Beam's boot program does on a worker whose image has all requirements.
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
         f"--target={tmp_path / 'site'}", str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "beam_pipelines" / "transforms" / "infer.py").exists()
