"""Many at once: nobody gets another's words, and who misbehaves hurts nobody but himself."""

import asyncio
import concurrent.futures
import json
import threading
import time

import grpc
import numpy as np
import pytest
from aiohttp import ClientSession
from server_running import (
    HTTP,
    metrics,
    offline,
    pieces_of,
    raw_connection,
    read_all,
    running,
    session,
    utterances,
)

from tf_rnnt_kd.serving.client.connections import connect
from tf_rnnt_kd.serving.client.recognition import stream
from tf_rnnt_kd.serving.server.limits import Limits

STREAMS = 24
HEAD = b"POST /v1/models/student:predict HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n"


def different(audio):
    """Waveforms of different lengths that begin at different places."""
    three = utterances(audio)
    return [np.concatenate([three[i % 3][700 * i :], three[(i + 1) % 3][: 900 * (i % 7)]]) for i in range(STREAMS)]


def by_grpc(served, waveform, chunks):
    """A stream whose state travels with it, by a connection of its own."""
    connection = connect(served.grpc, model="student")
    *_, result = stream(connection, waveform, chunk_samples=1280 * chunks)
    connection.close()
    return result["text"]


def misbehave(served, stop):
    """Malformed, oversized, slow and aborted requests, over and over; how many."""
    url, count, slow = f"{served.url}/v1/models/student:predict", 0, []
    while not stop.is_set():
        assert HTTP.post(url, data=b"{]").status_code == 400
        assert HTTP.post(url, data=bytes(2**20 + 1)).status_code == 413
        zeros = {"waveforms": [[0.0] * 40_000], "num_samples": [40_000]}
        body = json.dumps({"inputs": zeros}).encode()
        aborted = raw_connection(
            served.rest, HEAD.replace(b"1000", str(len(body)).encode()) + b"\r\n" + body
        )
        aborted.close()
        slow.append(raw_connection(served.rest, HEAD + b"\r\n{"))
        slow.append(raw_connection(served.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        with grpc.insecure_channel(served.grpc) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(bytes(1000))
        count += 1
        time.sleep(0.05)
    for connection in slow:
        connection.close()
    return count


async def sessions_at_once(served, waveforms):
    """Sessions for all waveforms, and between them some that go away in the middle."""

    async def leaves(waveform):
        await session(served.url, "student", pieces_of(waveform[:9000], [3000]) + [b"abc"])

    finished = [
        session(served.url, "student", pieces_of(waveform, [1280 * (1 + i % 3), 999]), pause=0.002)
        for i, waveform in enumerate(waveforms)
    ]
    results, _ = await asyncio.gather(
        asyncio.gather(*finished), asyncio.gather(*(leaves(waveform) for waveform in waveforms[:4]))
    )
    return [messages[-1]["text"] for messages, _ in results]


def test_many_streams_among_bad_clients_get_their_own_words(student, served, audio):
    waveforms = different(audio)
    expected = [offline(student, waveform)["text"][0].decode() for waveform in waveforms]
    assert len(set(expected)) > STREAMS // 2, "too many equal texts to see a mix-up: change the audio"
    before = metrics(served)
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as threads:
        stop = threading.Event()
        bad = threads.submit(misbehave, served, stop)
        calls = [threads.submit(by_grpc, served, waveforms[i], 1 + i % 2) for i in range(1, STREAMS, 2)]
        by_session = served.loop.call(sessions_at_once(served, waveforms[::2]))
        by_state = [call.result() for call in calls]
        stop.set()
        assert bad.result() > 0
    assert by_session == expected[::2]
    assert by_state == expected[1::2]
    after = metrics(served)
    rows, batches = (
        after[f"tf_rnnt_kd_batch_rows_{what}", ()] - before[f"tf_rnnt_kd_batch_rows_{what}", ()]
        for what in ("sum", "count")
    )
    assert rows > 1.5 * batches, "streams that wait should run as batches"
    settled(served)


def settled(served):
    """Waits until nothing runs and no session is open."""
    for _ in range(400):
        now = metrics(served)
        if now["tf_rnnt_kd_pending", ()] == now["tf_rnnt_kd_sessions", ()] == 0:
            return
        time.sleep(0.05)
    raise AssertionError("requests or sessions of clients that are gone are still there")


@pytest.fixture(scope="module")
def impatient(served):
    with running(served.model, limits=Limits(request_seconds=0.5, idle_seconds=0.5)) as server:
        yield server


def test_slow_clients_lose_their_connection(impatient):
    half_a_head = raw_connection(impatient.rest, HEAD)
    half_a_body = raw_connection(impatient.rest, HEAD + b"\r\n{")
    nothing = raw_connection(impatient.rest, b"")
    assert HTTP.get(f"{impatient.url}/healthz").ok
    assert b"408" in read_all(half_a_body).splitlines()[0]
    assert read_all(half_a_head) == read_all(nothing) == b""
    messages, _ = impatient.loop.call(session(impatient.url, "student", [np.zeros(100)], end=False))
    assert messages[-1]["code"] == "DEADLINE_EXCEEDED" and "nothing came for 0.5 s" in messages[-1]["error"]
    settled(impatient)


def test_one_session_too_many_is_told_so(served):
    async def two(url):
        async with ClientSession() as http, http.ws_connect(f"{url}/v1/models/student:stream") as held:
            assert (await held.receive_json())["type"] == "ready"
            refused, _ = await session(url, "student", [])
            await held.send_json({"type": "end"})
            return refused, await held.receive_json()

    with running(served.model, limits=Limits(sessions=1)) as server:
        refused, held = server.loop.call(two(server.url))
    assert (refused[-1]["code"], held["type"]) == ("RESOURCE_EXHAUSTED", "final")
