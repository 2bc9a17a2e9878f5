"""The warm-up file as TensorFlow Serving reads it: signatures that need no XLA, once, with requests that succeed."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tf_rnnt_kd.serving.warmup import NEEDS_XLA


def read(path):
    records = tf.data.TFRecordDataset(str(path / "assets.extra" / "tf_serving_warmup_requests"))
    return [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]


def compiled_by_xla(signature):
    functions = signature.graph.as_graph_def().library.function
    return any("_XlaMustCompile" in x.attr and x.attr["_XlaMustCompile"].b for x in functions)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_every_signature_without_xla_is_called_once(name, request):
    served = request.getfixturevalue(name)
    logs = read(served.path)
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    requests = {log.predict_log.request.model_spec.signature_name: log.predict_log.request for log in logs}
    assert len(logs) == len(requests) and set(requests) == {
        name for name, signature in served.signatures.items() if not compiled_by_xla(signature)
    }
    assert set(served.signatures) - set(requests) == set(NEEDS_XLA)
    for signature, one in requests.items():
        expected = served.signatures[signature].structured_input_signature[1]
        arguments = {key: tf.make_ndarray(value) for key, value in one.inputs.items()}
        assert set(arguments) == set(expected)
        for key, spec in expected.items():
            assert spec.is_compatible_with(tf.constant(arguments[key])), (signature, key)
        for key, value in served.signatures[signature](**arguments).items():
            assert value.dtype == tf.string or np.all(np.isfinite(tf.cast(value, tf.float64))), (signature, key)
