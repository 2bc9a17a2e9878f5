"""One server over the small student for all tests of this folder that do not need their own."""

import sys
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

# --import-mode=importlib gives tests no package; the helpers here are imported by name.
sys.path.insert(0, str(Path(__file__).parent))

from server_running import running, served_model  # noqa: E402

from tf_rnnt_kd.serving.server.limits import Limits  # noqa: E402

LIMITS = Limits(
    request_bytes=2**20, audio_seconds=5.0, stream_seconds=4.0, request_seconds=20.0, idle_seconds=20.0, rows=4
)


@pytest.fixture(scope="session")
def served(student):
    with running(served_model(student, "student"), limits=LIMITS) as server:
        yield server


@pytest.fixture(scope="session")
def stubs(served):
    with grpc.insecure_channel(served.grpc) as channel:
        yield {
            "prediction": prediction_service_pb2_grpc.PredictionServiceStub(channel),
            "model": model_service_pb2_grpc.ModelServiceStub(channel),
        }
