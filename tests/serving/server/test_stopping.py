"""The binary from its first line to its last, and what stands in the way of a start."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from aiohttp import ClientError, ClientSession
from server_running import Loop, offline, utterances
from tensorflow_serving.apis import prediction_log_pb2

from tf_rnnt_kd.serving.server.app import Server
from tf_rnnt_kd.serving.server.errors import RequestError
from tf_rnnt_kd.serving.server.warm_up import warm_up
from tf_rnnt_kd.serving.warmup import WARMUP_PATH


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tf_rnnt_kd.serving.server", *arguments], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, **options,
    )  # fmt: skip


async def stream_across_the_stop(url, process, waveform):
    """Sends half, has the server stopped, sends the rest; (last message, whether new clients are refused)."""
    async with ClientSession() as http, http.ws_connect(f"{url}/v1/models/mine:stream") as connection:
        assert (await connection.receive_json())["type"] == "ready"
        await connection.send_bytes(waveform[:6000].tobytes())
        assert (await connection.receive_json())["type"] == "partial"
        process.send_signal(signal.SIGTERM)
        refused = False
        for _ in range(100):
            try:
                # Not on a connection that was open before.
                async with ClientSession() as another, another.get(f"{url}/healthz") as answer:
                    assert answer.status in (200, 503)
            except ClientError:
                refused = True
                break
            await asyncio.sleep(0.05)
        await connection.send_bytes(waveform[6000:].tobytes())
        await connection.send_json({"type": "end"})
        async for message in connection:
            last = message.json()
        return last, refused


def test_a_stream_that_runs_when_the_server_stops_ends_well(student, audio):
    waveform = utterances(audio)[1]
    process = start(f"--model={student.path}", "--name=mine", "--port=0", "--rest_port=0", "--nowarm_up")
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"mine, version \d+: gRPC 127.0.0.1:\d+, REST and page (http://127.0.0.1:\d+)\n", line)
        assert found, line + process.stderr.read()
        last, refused = asyncio.run(stream_across_the_stop(found[1], process, waveform))
        assert refused
        assert (last["type"], last["text"]) == ("final", offline(student, waveform)["text"][0].decode())
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()


def test_a_model_is_needed():
    process = start()
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, len(errors.splitlines())) == (1, "", 1)
    assert "--model=DIR is missing" in errors


def test_ports_that_are_taken(served):
    loop = Loop()
    try:
        for flag, ports in (("--port", (served.port, 0)), ("--rest_port", (0, served.rest_port))):
            server = Server(served.model, port=ports[0], rest_port=ports[1])
            with pytest.raises(ValueError, match=rf"cannot listen on 127.0.0.1:{max(ports)} \({flag}\)"):
                loop.call(server.start())
    finally:
        loop.close()


def test_warm_up_runs_the_requests_of_the_export(tmp_path):
    ran = []

    def check(signature, inputs):
        if signature == "wrong":
            raise RequestError("INVALID_ARGUMENT", "there is no such signature")

    model = types.SimpleNamespace(
        folder=tmp_path, check=check, run=lambda signature, inputs: ran.append((signature, inputs["x"].tolist()))
    )
    assert warm_up(model) == 0
    path = tmp_path / WARMUP_PATH
    path.parent.mkdir()
    write_requests(path, "", "score")
    assert warm_up(model) == 2 and ran == [("serving_default", [0, 1]), ("score", [0, 1])]
    write_requests(path, "score", "wrong")
    with pytest.raises(ValueError, match="request 1 of wrong: there is no such signature"):
        warm_up(model)


def write_requests(path, *signatures):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.model_spec.signature_name = signature
            log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.arange(2)))
            writer.write(log.SerializeToString())
