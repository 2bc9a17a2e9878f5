"""The SavedModel in processes and loaders that know nothing of this project."""

import ctypes
import os
import pathlib
import subprocess
import sys
import wave

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

DOCS = pathlib.Path(__file__).parents[2] / "docs"

# Runs the script of the docs, then fails if anything but TensorFlow was needed.
WATCHED = """
import runpy, sys
script = sys.argv.pop(1)
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
roots = {name.partition(".")[0] for name in sys.modules}
foreign = roots & {"tf_rnnt_kd", "beam_pipelines", "tensorflow_text", "tensorflow_io", "sentencepiece", "apache_beam"}
sys.exit(f"imported {foreign}" if foreign or "tensorflow" not in roots else 0)
"""


def test_the_script_of_the_docs_needs_tensorflow_alone(student, audio, tmp_path):
    expected = []
    for b, count in enumerate(audio[1]):
        samples = np.round(np.clip(audio[0][b, :count], -1, 1) * 32767).astype("<i2")
        with wave.open(str(tmp_path / f"{b}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
            file.writeframes(samples.tobytes())
        waveforms = (samples / 32768.0).astype(np.float32)[None]
        text = student.recognizer.recognise(waveforms, np.array([count], np.int32))["text"].numpy()[0].decode()
        expected.append(f"{b}.wav\t{text}")
    command = [sys.executable, "-c", WATCHED, str(DOCS / "serve_with_tensorflow_alone.py"), str(student.path)]
    result = subprocess.run(
        [*command, "0.wav", "1.wav", "2.wav"],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == expected
    assert len({line.partition("\t")[2] for line in expected} - {""}) == 3


def test_the_graph_loader_of_tensorflow_1(student, audio):
    waveforms, num_samples = audio
    expected = student.signatures["teacher"](waveforms=waveforms, num_samples=num_samples)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(student.path))
        signature = meta_graph.signature_def["teacher"]
        actual = session.run(
            {key: value.name for key, value in signature.outputs.items()},
            {signature.inputs["waveforms"].name: waveforms, signature.inputs["num_samples"].name: num_samples},
        )
    assert actual["text"].tolist() == expected["text"].numpy().tolist()
    np.testing.assert_array_equal(actual["tokens"], expected["tokens"])
    np.testing.assert_allclose(actual["full_sum_log_prob"], expected["full_sum_log_prob"], atol=1e-3, rtol=1e-5)


def test_the_loader_of_tensorflow_serving(student, audio):
    """TF Serving loads through the C++ library; TensorFlow's C interface is the way to it from here."""
    waveforms, num_samples = audio
    expected = student.signatures["serving_default"](waveforms=waveforms, num_samples=num_samples)
    session = CSession(student.path)
    fetch = ["tokens", "log_prob", "word_end_seconds"]
    actual = session.run("serving_default", waveforms=waveforms, num_samples=num_samples, fetch=fetch)
    np.testing.assert_array_equal(actual["tokens"], expected["tokens"])
    np.testing.assert_allclose(actual["log_prob"], expected["log_prob"], atol=1e-3, rtol=1e-5)
    np.testing.assert_allclose(actual["word_end_seconds"], expected["word_end_seconds"], rtol=1e-6)
    np.testing.assert_allclose(session.run("joint", fetch=["bias"])["bias"], student.model.joint_bias.numpy())


class _Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p)]


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class CSession:
    """TF_LoadSessionFromSavedModel and TF_SessionRun of TensorFlow's C interface, for numeric tensors."""

    def __init__(self, path):
        folder = pathlib.Path(tf.sysconfig.get_lib())
        self._c = ctypes.CDLL(str(next(folder.glob("libtensorflow_cc.so.*"))))
        pointers = "NewStatus NewGraph NewSessionOptions NewBuffer LoadSessionFromSavedModel GraphOperationByName"
        for name in (*pointers.split(), "TensorData", "AllocateTensor"):
            getattr(self._c, f"TF_{name}").restype = ctypes.c_void_p
        self._c.TF_Message.restype = ctypes.c_char_p
        self._c.TF_Dim.restype = ctypes.c_int64
        self._status = ctypes.c_void_p(self._c.TF_NewStatus())
        self._graph = ctypes.c_void_p(self._c.TF_NewGraph())
        options = ctypes.c_void_p(self._c.TF_NewSessionOptions())
        buffer = ctypes.c_void_p(self._c.TF_NewBuffer())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = ctypes.c_void_p(
            self._c.TF_LoadSessionFromSavedModel(
                options, None, str(path).encode(), tags, 1, self._graph, buffer, self._status
            )
        )
        self._check()
        content = ctypes.cast(buffer, ctypes.POINTER(_Buffer)).contents
        self._meta_graph = meta_graph_pb2.MetaGraphDef.FromString(ctypes.string_at(content.data, content.length))

    def run(self, name, *, fetch, **arguments):
        signature = self._meta_graph.signature_def[name]
        inputs = (_Output * len(arguments))(*[self._output(signature.inputs[key].name) for key in arguments])
        values = (ctypes.c_void_p * len(arguments))(*[self._tensor(value) for value in arguments.values()])
        outputs = (_Output * len(fetch))(*[self._output(signature.outputs[key].name) for key in fetch])
        results = (ctypes.c_void_p * len(fetch))()
        fed, fetched = (inputs, values, len(arguments)), (outputs, results, len(fetch))
        self._c.TF_SessionRun(self._session, None, *fed, *fetched, None, 0, None, self._status)
        self._check()
        return {key: self._array(ctypes.c_void_p(result)) for key, result in zip(fetch, results, strict=True)}

    def _output(self, tensor_name):
        operation, _, index = tensor_name.partition(":")
        return _Output(self._c.TF_GraphOperationByName(self._graph, operation.encode()), int(index))

    def _tensor(self, value):
        value = np.ascontiguousarray(value)
        shape = (ctypes.c_int64 * value.ndim)(*value.shape)
        kind = tf.as_dtype(value.dtype).as_datatype_enum
        tensor = self._c.TF_AllocateTensor(kind, shape, value.ndim, ctypes.c_size_t(value.nbytes))
        ctypes.memmove(self._c.TF_TensorData(ctypes.c_void_p(tensor)), value.tobytes(), value.nbytes)
        return tensor

    def _array(self, tensor):
        shape = [self._c.TF_Dim(tensor, axis) for axis in range(self._c.TF_NumDims(tensor))]
        dtype = tf.as_dtype(self._c.TF_TensorType(tensor)).as_numpy_dtype
        data = ctypes.string_at(self._c.TF_TensorData(tensor), int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return np.frombuffer(data, dtype).reshape(shape)

    def _check(self):
        if self._c.TF_GetCode(self._status):
            raise RuntimeError(self._c.TF_Message(self._status).decode())
