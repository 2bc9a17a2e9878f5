"""Requests that TensorFlow Serving replays before a model takes traffic, so that no user waits for a first call.

One of each signature, as records of PredictionLog in assets.extra/tf_serving_warmup_requests, but for NEEDS_XLA. Shapes
do not matter: what the first call costs is the graph's own.
"""

import pathlib

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.serving.device import DeviceRecognizer
from tf_rnnt_kd.serving.streaming import StreamingRecognizer

WARMUP_PATH = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
_SECONDS = 1.0

NEEDS_XLA = ("teacher", "teacher_forced", "score", "nbest", "nbest_biased")
"""Signatures with a lattice, which XLA compiles. TensorFlow Serving on CPU refuses it without
--xla_cpu_compilation_enabled, and a model with a warm-up request that fails is not loaded at all."""


def warmup_requests(recognizer):
    """{signature: its arguments, arrays by name}, of a Recognizer's signatures that any server can run."""
    count = round(_SECONDS * recognizer.frontend.sample_rate)
    noise = 0.02 * np.random.default_rng(0).normal(size=[1, count])
    audio = {"waveforms": noise.astype(np.float32), "num_samples": np.array([count], np.int32)}
    requests = {"serving_default": audio, "hidden": audio, "joint": {}}
    if recognizer.model.is_streaming:
        streaming, device = StreamingRecognizer(recognizer), DeviceRecognizer(recognizer)
        state, chunk = _arrays(streaming.start(1)), audio["waveforms"][:, : streaming.chunk_samples]
        num_samples = np.array([device.chunk_samples], np.int32)
        requests |= {
            "stream_init": {"batch_size": np.array(1, np.int32)},
            "stream_step": {"waveforms": chunk, **state},
            "stream_finalize": {"waveforms": chunk, "num_samples": np.array([chunk.shape[1]], np.int32), **state},
            "stream_ids": {
                "waveforms": np.resize(audio["waveforms"], [1, device.chunk_samples]), "num_samples": num_samples,
                **_arrays(device.start()),
            },
        }  # fmt: skip
    return requests


def write_warmup(saved_model, *, requests) -> None:
    """Adds them to the folder of a SavedModel."""
    # Here: nothing but an export needs the package tensorflow-serving-api.
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    path = pathlib.Path(saved_model) / WARMUP_PATH
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, arguments in requests.items():
            # The server warms up the model that the file lies in, whatever name stands here.
            request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="", signature_name=signature))
            for name, value in arguments.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _arrays(tensors):
    return {name: value.numpy() for name, value in tensors.items()}
