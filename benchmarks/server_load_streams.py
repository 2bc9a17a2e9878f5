"""Clients of benchmarks/server_load.py: streams at a microphone's pace, and others that misbehave."""

import asyncio
import contextlib
import dataclasses
import json
import random
import time

import aiohttp
import grpc
import numpy as np

CHUNK_SECONDS = 0.16


@dataclasses.dataclass
class Utterance:
    """waveform: float32 [S]. text, tokens: what the export gives for it at once."""

    waveform: np.ndarray
    text: str
    tokens: list


@dataclasses.dataclass
class Figures:
    """What clients saw; latencies in seconds by protocol."""

    finished: int = 0
    words: int = 0
    tokens: int = 0
    audio_seconds: float = 0.0
    disturbances: int = 0
    wrong: list = dataclasses.field(default_factory=list)
    failed: list = dataclasses.field(default_factory=list)
    latencies: dict = dataclasses.field(default_factory=lambda: {"session": [], "grpc": []})


async def run_streams(server, utterances, *, sessions, states, seconds, disturb):
    """Runs streams for a while, each one utterance after another; those that run at the end are finished.

    Args:
      server: namespace of grpc, rest ('host:port'), name, chunk_samples, sample_rate.
      utterances: list of Utterance. sessions, states: how many streams by WebSocket, and by gRPC with their state.
      seconds: how long. disturb: whether others misbehave meanwhile.

    Returns:
      Figures.
    """
    figures, end = Figures(), time.monotonic() + seconds
    size = -(-int(CHUNK_SECONDS * server.sample_rate) // server.chunk_samples) * server.chunk_samples
    options = [("grpc.max_receive_message_length", -1)]
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http,
        grpc.aio.insecure_channel(server.grpc, options=options) as channel,
    ):
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        talks = [_by_session(http, server, size)] * sessions + [_by_state(call, server, size)] * states
        protocols = ["session"] * sessions + ["grpc"] * states
        tasks = [
            _one_after_another(talk, protocol, utterances, figures, end=end, seed=i)
            for i, (talk, protocol) in enumerate(zip(talks, protocols, strict=True))
        ]
        if disturb:
            tasks.append(_disturb(http, server, figures, end=end))
        await asyncio.gather(*tasks)
    return figures


async def _one_after_another(talk, protocol, utterances, figures, *, end, seed):
    draw = random.Random(seed)
    # Not all at one moment: a chunk's end is another time for each speaker.
    await asyncio.sleep(draw.random() * 2)
    while time.monotonic() < end:
        utterance = draw.choice(utterances)
        try:
            text, tokens = await talk(utterance.waveform, figures.latencies[protocol])
        except (ValueError, OSError, grpc.RpcError, aiohttp.ClientError, asyncio.TimeoutError) as error:
            figures.failed.append(f"{protocol}: {type(error).__name__}: {error}")
            continue
        figures.finished += 1
        figures.words += len(text.split())
        figures.tokens += len(tokens)
        figures.audio_seconds += len(utterance.waveform) / 16000
        if (text, tokens) != (utterance.text, utterance.tokens):
            figures.wrong.append({"protocol": protocol, "expected": utterance.text, "got": text})


def _by_session(http, server, size):
    url = f"ws://{server.rest}/v1/models/{server.name}:stream"

    async def talk(waveform, latencies):
        async with http.ws_connect(url, max_msg_size=0) as socket:
            ready = await socket.receive_json()
            if ready["type"] != "ready":
                raise ValueError(str(ready))
            started = time.monotonic()
            sending = asyncio.create_task(_speak(socket, waveform, size, server.sample_rate, started))
            try:
                before = ""
                async for message in socket:
                    answer = json.loads(message.data)
                    if answer["type"] == "error":
                        raise ValueError(str(answer))
                    if not answer["text"].startswith(before):
                        raise ValueError(f"{answer['text']!r} does not go on from {before!r}")
                    before = answer["text"]
                    if answer["type"] == "final":
                        return answer["text"], answer["tokens"]
                    latencies.append(time.monotonic() - started - answer["seconds"])
            finally:
                sending.cancel()
            raise ValueError("the server closed the session")

    return talk


async def _speak(socket, waveform, size, rate, started):
    for start in range(0, len(waveform), size):
        piece = waveform[start : start + size]
        await asyncio.sleep(max(started + (start + len(piece)) / rate - time.monotonic(), 0))
        await socket.send_bytes(piece.astype("<f4").tobytes())
    await socket.send_json({"type": "end"})


def _by_state(call, server, size):
    # Here, so that this module's other users need no TensorFlow.
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    async def predict(signature, state, **inputs):
        request = predict_pb2.PredictRequest(model_spec={"name": server.name, "signature_name": signature})
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        for name, proto in state.items():
            request.inputs[name].CopyFrom(proto)
        return predict_pb2.PredictResponse.FromString(await call(request.SerializeToString())).outputs

    async def talk(waveform, latencies):
        state = await predict("stream_init", {}, batch_size=np.array(1, np.int32))
        started = time.monotonic()
        whole = len(waveform) // size * size
        for start in range(0, whole, size):
            due = started + (start + size) / server.sample_rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            outputs = await predict("stream_step", state, waveforms=waveform[None, start : start + size])
            state = {name: proto for name, proto in outputs.items() if name.startswith("state_")}
            latencies.append(time.monotonic() - due)
        await asyncio.sleep(max(started + len(waveform) / server.sample_rate - time.monotonic(), 0))
        rest = waveform[None, whole:]
        outputs = await predict(
            "stream_finalize", state, waveforms=rest, num_samples=np.array([rest.shape[1]], np.int32)
        )
        count = int(tf.make_ndarray(outputs["num_tokens"])[0])
        tokens = tf.make_ndarray(outputs["tokens"])[0, :count].tolist()
        return tf.make_ndarray(outputs["text"])[0].decode(), tokens

    return talk


async def _disturb(http, server, figures, *, end):
    """Once a second: a malformed, an oversized, an aborted and a slow request, and a session that goes away."""
    url, host, port = f"http://{server.rest}/v1/models/{server.name}", *server.rest.split(":")
    slow = []
    while time.monotonic() < end:
        with contextlib.suppress(OSError, aiohttp.ClientError):
            async with http.post(f"{url}:predict", data=b"{]") as answer:
                if answer.status != 400:
                    figures.failed.append(f"a malformed request got {answer.status}")
            async with http.post(f"{url}:predict", data=bytes(17 * 2**20)) as answer:
                if answer.status != 413:
                    figures.failed.append(f"an oversized request got {answer.status}")
        head = f"POST /v1/models/{server.name}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{"
        _, aborted = await asyncio.open_connection(host, int(port))
        aborted.write(head.encode())
        aborted.close()
        slow.append((await asyncio.open_connection(host, int(port)))[1])
        slow[-1].write(head.encode())
        async with http.ws_connect(f"{url}:stream") as socket:
            await socket.send_bytes(bytes(40_000))
        figures.disturbances += 5
        await asyncio.sleep(1)
    for connection in slow:
        connection.close()
