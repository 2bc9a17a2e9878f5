"""Requests that are wrong: each gets its status and a sentence that says what to do, and hurts nothing."""

import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from server_running import HTTP, predict_request
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

HUGE = tensor_pb2.TensorProto(
    dtype=1, float_val=[0.0], tensor_shape={"dim": [{"size": 1}, {"size": 10**12}]}
)
GRPC_CASES = {
    "another model": ({"model": "teacher"}, "NOT_FOUND", "Latest.teacher.*this server has student"),
    "another version": ({"version": {"value": 7}}, "NOT_FOUND", "Specific.student, 7"),
    "a label": ({"version_label": "stable"}, "INVALID_ARGUMENT", "knows no labels"),
    "another signature": ({"signature": "dance"}, "INVALID_ARGUMENT", "'dance' is not there.*serving_default"),
    "nothing": ({"inputs": {}}, "INVALID_ARGUMENT", "lacks num_samples, waveforms"),
    "one too many": ({"change": {"speed": np.zeros(1)}}, "INVALID_ARGUMENT", "unknown speed"),
    "doubles": ({"change": {"waveforms": np.zeros([1, 9])}}, "INVALID_ARGUMENT", "float64, it must be float32"),
    "no batch": ({"change": {"waveforms": np.zeros([9], np.float32)}}, "INVALID_ARGUMENT", r"\[9\].*\[any, any\]"),
    "rows": ({"change": {"num_samples": np.array([1, 2], np.int32)}}, "INVALID_ARGUMENT", "same number of rows"),
    "a length": ({"change": {"num_samples": np.array([10], np.int32)}}, "INVALID_ARGUMENT", r"must lie in 0\.\.9"),
    "much audio": (
        {"change": {"waveforms": np.zeros([1, 80_001], np.float32)}}, "INVALID_ARGUMENT", "5.0 s of audio.*stream them"
    ),
    "a bomb": ({"change": {"waveforms": HUGE}}, "INVALID_ARGUMENT", "more than the 1048576 bytes"),
    "many streams": (
        {"signature": "stream_init", "inputs": {"batch_size": np.array(10**9, np.int32)}}, "INVALID_ARGUMENT", "1 to 4"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GRPC_CASES)
def test_bad_predict_requests(stubs, case):
    changes, code, message = GRPC_CASES[case]
    inputs = {"waveforms": np.zeros([1, 9], np.float32), "num_samples": np.array([9], np.int32)}
    inputs = changes.get("inputs", {**inputs, **changes.get("change", {})})
    spec = {name: value for name, value in changes.items() if name not in ("inputs", "change")}
    with pytest.raises(grpc.RpcError, match=message) as refused:
        stubs["prediction"].Predict(predict_request(**{"signature": "serving_default", **spec}, inputs=inputs))
    assert refused.value.code().name == code


def test_bad_steps_metadata_and_bytes(served, stubs, student):
    state = student.signatures["stream_init"](batch_size=tf.constant(1))
    part = {"waveforms": np.zeros([1, 1281], np.float32), **{name: value.numpy() for name, value in state.items()}}
    with pytest.raises(grpc.RpcError) as refused:
        stubs["prediction"].Predict(predict_request("stream_step", inputs=part))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    said = refused.value.details()
    assert said.startswith("assertion failed: [a step takes a multiple of 1280 samples") and said.endswith("[1281]")
    with pytest.raises(grpc.RpcError, match="metadata_field"):
        stubs["prediction"].GetModelMetadata(
            get_model_metadata_pb2.GetModelMetadataRequest(model_spec={"name": "student"})
        )
    with pytest.raises(grpc.RpcError, match="unknown wrong"):
        stubs["prediction"].Predict(predict_pb2.PredictRequest(
            model_spec={"name": "student", "signature_name": "stream_init"}, output_filter=["wrong"],
            inputs={"batch_size": tf.make_tensor_proto(1)},
        ))  # fmt: skip
    with grpc.insecure_channel(served.grpc) as channel:
        base = "/tensorflow.serving.PredictionService/"
        for method, body, code in (
            ("Predict", b"\xff\xff no message", "INVALID_ARGUMENT"), ("Predict", bytes(2**21), "RESOURCE_EXHAUSTED"),
            ("Classify", b"", "UNIMPLEMENTED"), ("Dance", b"", "UNIMPLEMENTED"),
        ):  # fmt: skip
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(base + method)(body)
            assert refused.value.code().name == code


GOOD = {"waveforms": [[0.0] * 9], "num_samples": [9]}
REST_CASES = {
    "no JSON": ("{", 400, "JSON parse error"),
    "a deep list": ("[" * 100_000, 400, "JSON parse error"),
    "no object": ("[]", 400, "either 'instances' or 'inputs'"),
    "both": ({"inputs": GOOD, "instances": [GOOD]}, 400, "either 'instances' or 'inputs'"),
    "another key": ({"inputs": GOOD, "signatur": "x"}, 400, "unknown keys: signatur"),
    "a signature": ({"inputs": GOOD, "signature_name": "x"}, 400, "'x' is not there"),
    "no signature": ({"inputs": GOOD, "signature_name": ["x"]}, 400, "must be a string"),
    "strings": ({"inputs": {**GOOD, "waveforms": [["0.5"]]}}, 400, "waveforms.*float32 and nothing else"),
    "nothing": ({"inputs": {**GOOD, "waveforms": [[None]]}}, 400, "waveforms.*float32"),
    "ragged": ({"inputs": {**GOOD, "waveforms": [[0.0], [0.0, 1.0]]}}, 400, "differ in length"),
    "a fraction": ({"inputs": {**GOOD, "num_samples": [1.5]}}, 400, "num_samples.*int32"),
    "a large number": ({"inputs": {**GOOD, "num_samples": [2**31]}}, 400, "beyond int32"),
    "without names": ({"inputs": [[0.0]]}, 400, "must be an object with num_samples, waveforms"),
    "an argument less": ({"inputs": {"waveforms": [[0.0]]}}, 400, "lacks num_samples"),
    "an argument more": ({"inputs": {**GOOD, "speed": 1}}, 400, "unknown speed"),
    "no instances": ({"instances": []}, 400, "at least one element"),
    "unequal instances": ({"instances": [{"waveforms": [0.0], "num_samples": 1}, {}]}, 400, "same names"),
    "no rows": ({"instances": [{"batch_size": 1}], "signature_name": "stream_init"}, 400, "batch_size has shape"),
    "too large": ("[" + "0," * 2**20 + "0]", 413, "larger than 1048576 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", REST_CASES)
def test_bad_bodies(served, case):
    body, status, message = REST_CASES[case]
    response = HTTP.post(
        f"{served.url}/v1/models/student:predict", data=body if isinstance(body, str) else json.dumps(body)
    )
    assert response.status_code == status
    with pytest.raises(ValueError, match=message):
        raise ValueError(response.json()["error"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/teacher", 404), ("GET", "/v1/models/student/versions/77", 404),
        ("POST", "/v1/models/teacher:predict", 404), ("GET", "/v1/models/student:predict", 405),
        ("POST", "/v1/models/student:classify", 501), ("GET", "/v2", 404), ("GET", "/../model.py", 404),
        ("GET", "/v1/models/teacher:stream", 404),
    ],
)  # fmt: skip
def test_bad_addresses(served, method, path, status):
    response = HTTP.request(method, served.url + path)
    assert response.status_code == status and response.json()["error"]


