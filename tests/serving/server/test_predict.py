"""The server against the export itself: the same results by gRPC and REST, its metadata, metrics and page files."""

import urllib.parse

import numpy as np
import tensorflow as tf
from server_running import HTTP, metrics, predict_request
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2


def two(audio):
    """Two utterances as arguments; what stands behind their ends is zero, for JSON."""
    waveforms, num_samples = audio
    return {"waveforms": np.nan_to_num(waveforms[1:, :17_500]), "num_samples": num_samples[1:]}


def test_predict_gives_what_the_export_gives(student, served, stubs, audio):
    for signature in ("serving_default", "nbest"):
        response = stubs["prediction"].Predict(predict_request(signature, inputs=two(audio)))
        expected = student.signatures[signature](**{name: tf.constant(value) for name, value in two(audio).items()})
        assert set(response.outputs) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(tf.make_ndarray(response.outputs[name]), value.numpy())
        assert (response.model_spec.name, response.model_spec.signature_name) == ("student", signature)
    response = stubs["prediction"].Predict(predict_pb2.PredictRequest(
        model_spec={"name": "student", "version": {"value": served.model.version}},
        inputs={name: tf.make_tensor_proto(value) for name, value in two(audio).items()}, output_filter=["text"],
    ))  # fmt: skip
    assert list(response.outputs) == ["text"]


def test_rest_in_columns_and_rows(student, served, audio):
    arguments = {name: value.tolist() for name, value in two(audio).items()}
    expected = student.signatures["serving_default"](**{name: tf.constant(value) for name, value in two(audio).items()})
    url = f"{served.url}/v1/models/student:predict"
    columns = HTTP.post(url, json={"inputs": arguments}).json()["outputs"]
    assert set(columns) == set(expected)
    assert columns["text"] == [text.decode() for text in expected["text"].numpy()]
    for name in ("tokens", "num_tokens", "token_confidence", "log_prob", "word_end_seconds"):
        np.testing.assert_array_equal(np.array(columns[name], expected[name].dtype.as_numpy_dtype), expected[name])
    rows = [{"waveforms": waveform, "num_samples": count} for waveform, count in zip(*arguments.values(), strict=True)]
    versioned = f"{served.url}/v1/models/student/versions/{served.model.version}:predict"
    by_row = HTTP.post(versioned, json={"signature_name": "serving_default", "instances": rows}).json()
    assert by_row["predictions"] == [{name: value[row] for name, value in columns.items()} for row in range(2)]
    # A single argument and a single result go without names.
    score = {**arguments, "tokens": [[1, 2], [3, 0]], "num_tokens": [2, 1]}
    alone = HTTP.post(url, json={"signature_name": "score", "inputs": score}).json()["outputs"]
    direct = student.signatures["score"](**{
        "tokens": tf.constant(score["tokens"]), "num_tokens": tf.constant(score["num_tokens"]),
        **{name: tf.constant(value) for name, value in two(audio).items()},
    })  # fmt: skip
    np.testing.assert_allclose(alone, direct["log_prob"], rtol=1e-6)
    started = HTTP.post(url, json={"signature_name": "stream_init", "inputs": 2}).json()["outputs"]
    assert started["state_num_tokens"] == [0, 0]


def test_status_and_metadata_by_both_doors(student, served, stubs):
    spec, version = {"name": "student"}, served.model.version
    status = stubs["model"].GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
    assert [(one.version, one.state) for one in status.model_version_status] == [(version, 30)]
    assert HTTP.get(f"{served.url}/v1/models/student").json() == {
        "model_version_status": [
            {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    packed = stubs["prediction"].GetModelMetadata(request).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(signatures)
    assert set(signatures.signature_def) == set(student.signatures)
    by_rest = HTTP.get(f"{served.url}/v1/models/student/versions/{version}/metadata").json()
    assert by_rest["model_spec"] == {"name": "student", "signature_name": "", "version": str(version)}
    defs = by_rest["metadata"]["signature_def"]["signature_def"]
    assert set(defs) == set(student.signatures)
    waveforms = defs["stream_step"]["inputs"]["waveforms"]
    assert (waveforms["dtype"], waveforms["tensor_shape"]) == ("DT_FLOAT", {"dim": [{"size": "-1"}, {"size": "-1"}]})


def test_health_and_metrics(served, stubs, audio):
    assert HTTP.get(f"{served.url}/healthz").json() == {"status": "SERVING"}
    before = metrics(served)
    stubs["prediction"].Predict(predict_request(inputs=two(audio)))
    HTTP.post(f"{served.url}/v1/models/student:predict", data="{")
    after = metrics(served)
    labels = {"protocol": "grpc", "signature": "serving_default", "code": "OK"}
    assert difference(before, after, "tf_rnnt_kd_requests_total", labels) == 1
    assert difference(before, after, "tf_rnnt_kd_request_seconds_count", {**labels, "code": None}) == 1
    refused = {"protocol": "rest", "signature": "", "code": "INVALID_ARGUMENT"}
    assert difference(before, after, "tf_rnnt_kd_requests_total", refused) == 1
    np.testing.assert_allclose(
        difference(before, after, "tf_rnnt_kd_audio_seconds_total", {}), two(audio)["waveforms"].size / 16000
    )
    assert after["process_resident_memory_bytes", ()] > 10**8
    assert after["tf_rnnt_kd_pending", ()] == after["tf_rnnt_kd_sessions", ()] == 0
    same = HTTP.get(f"{served.url}/monitoring/prometheus/metrics")
    assert same.headers["Content-Type"].startswith("text/plain; version=")


def difference(before, after, name, labels):
    key = name, tuple(sorted((label, value) for label, value in labels.items() if value is not None))
    return after[key] - before.get(key, 0.0)


def test_the_page_holds_all_it_needs(served):
    page = HTTP.get(served.url + "/")
    assert page.headers["Content-Security-Policy"] == "default-src 'self'"
    names = [part.split('"')[1] for part in page.text.replace("href=", "src=").split("src=")[1:]]
    assert {"style.css", "page.js", "recognizer.js"} == set(names)
    for name in [*names, "recorder.js"]:
        answer = HTTP.get(urllib.parse.urljoin(served.url, name))
        assert answer.status_code == 200 and "http:" not in answer.text and "//" + "cdn" not in answer.text
