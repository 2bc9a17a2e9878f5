"""A server in a thread of the test's process, and clients that misbehave."""

import asyncio
import contextlib
import socket
import threading
import types

import numpy as np
import requests
import tensorflow as tf
from aiohttp import ClientSession, WSMsgType
from prometheus_client import parser
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from tf_rnnt_kd.serving.server.app import Server
from tf_rnnt_kd.serving.server.model import ServedModel

HTTP = requests.Session()
HTTP.trust_env = False  # no proxy between a test and its own server


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, coroutine, seconds=60):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def running(model, **settings):
    """A Server over a ServedModel on free ports: grpc and rest are 'host:port', url is of REST."""
    loop = Loop()
    server = Server(model, port=0, rest_port=0, **settings)
    try:
        loop.call(server.start())
        try:
            yield types.SimpleNamespace(
                loop=loop, server=server, model=model, grpc=f"127.0.0.1:{server.port}",
                rest=f"127.0.0.1:{server.rest_port}", url=f"http://127.0.0.1:{server.rest_port}",
                port=server.port, rest_port=server.rest_port,
            )  # fmt: skip
        finally:
            loop.call(server.stop(grace_seconds=5.0))
    finally:
        loop.close()


def served_model(exported, name):
    return ServedModel(exported.path, name=name)


def offline(exported, waveform):
    """serving_default's results for one waveform, as arrays."""
    results = exported.signatures["serving_default"](
        waveforms=tf.constant(waveform[None]), num_samples=tf.constant([len(waveform)])
    )
    return {name: value.numpy() for name, value in results.items()}


def predict_request(signature="serving_default", *, model="student", inputs=None, **spec):
    """A PredictRequest; inputs are arrays or TensorProtos."""
    request = predict_pb2.PredictRequest(model_spec={"name": model, "signature_name": signature, **spec})
    for name, value in (inputs or {}).items():
        is_proto = isinstance(value, tensor_pb2.TensorProto)
        request.inputs[name].CopyFrom(value if is_proto else tf.make_tensor_proto(value))
    return request


def utterances(audio):
    """The three waveforms of the fixture, without what stands behind their ends."""
    waveforms, num_samples = audio
    return [waveform[:count] for waveform, count in zip(waveforms, num_samples, strict=True)]


async def session(url, name, pieces, *, pause=0.0, end=True, headers=None):
    """Sends arrays or raw messages over a WebSocket; the server's messages, and the close code."""
    messages = []
    async with ClientSession() as http, http.ws_connect(
        f"{url}/v1/models/{name}:stream", headers=headers, max_msg_size=0
    ) as connection:
        async def send():
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    if isinstance(piece, str):
                        await connection.send_str(piece)
                    else:
                        data = piece if isinstance(piece, bytes) else np.asarray(piece, "<f4").tobytes()
                        await connection.send_bytes(data)
                    await asyncio.sleep(pause)
                if end:
                    await connection.send_json({"type": "end"})

        sending = asyncio.create_task(send())
        async for message in connection:
            if message.type is WSMsgType.TEXT:
                messages.append(message.json())
        await sending
        return messages, connection.close_code


def pieces_of(waveform, sizes):
    """The waveform cut into pieces of `sizes`, over and over."""
    start, index, pieces = 0, 0, []
    while start < len(waveform):
        pieces.append(waveform[start : start + sizes[index % len(sizes)]])
        start += sizes[index % len(sizes)]
        index += 1
    return pieces


def raw_connection(address, content):
    """A TCP connection that has sent `content` and nothing else."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(content)
    return connection


def read_all(connection):
    """What a server sends until it closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def metrics(served):
    """{(name, labels): value} of all metrics."""
    text = HTTP.get(f"{served.url}/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
