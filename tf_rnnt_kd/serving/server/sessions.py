"""Recognition while audio comes in, over a WebSocket, with the state on the server's side.

    client -> float32 samples, little-endian, any number per binary message, at the model's sample rate
    client -> {"type": "end"}
    server -> {"type": "ready", ...} at once, {"type": "partial", "text", "seconds", ...} after each step, and last
              {"type": "final", "text", "words", ...} after the end, or {"type": "error", "code", "error"}

A connection is one stream. What a model's stream_step says of a stream beside its text, `is_endpoint` for one, is in
`partial` under the same name. A model that does not stream gives `final` alone.
"""

import asyncio
import contextlib
import json
import math
import time

import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web

from tf_rnnt_kd.serving.server.errors import RequestError
from tf_rnnt_kd.serving.server.limits import check_audio

MAX_CHUNKS = 16
"""Of one step. A power of two, as all steps are: streams that are behind by about as much run as one batch."""

_STREAM_STATE = "state_"
_WORD_FIELDS = {
    "words": "word", "word_start_seconds": "start_seconds", "word_end_seconds": "end_seconds",
    "word_confidence": "confidence",
}  # fmt: skip


class Sessions:
    """The sessions of one model; `handle` is their route.

    Args:
      model: a ServedModel. scheduler: a Scheduler. limits: Limits. metrics: Metrics.
    """

    def __init__(self, model, *, scheduler, limits, metrics):
        self._model, self._scheduler, self._limits, self._metrics = model, scheduler, limits, metrics
        self._open = set()

    async def handle(self, request):
        """Answers one connection from its beginning to its end."""
        version = request.match_info.get("version")
        self._model.require(request.match_info["name"], version=None if version is None else int(version))
        _refuse_other_sites(request)
        socket = web.WebSocketResponse(
            max_msg_size=self._limits.request_bytes, heartbeat=self._limits.idle_seconds, compress=False
        )
        room = len(self._open) < self._limits.sessions
        self._open.add(socket)
        self._metrics.sessions(1)
        started, code = time.monotonic(), "CANCELLED"
        try:
            await socket.prepare(request)
            if not room:  # said here, because browsers hide what stands in a refused handshake
                raise RequestError("RESOURCE_EXHAUSTED", f"{self._limits.sessions} sessions are open: try again later")
            await self._recognise(socket)
            code = "OK"
        except RequestError as error:
            code = error.code
            await self._say_goodbye(socket, code, str(error), WSCloseCode.POLICY_VIOLATION)
        except (ConnectionError, asyncio.TimeoutError):
            pass  # the client is gone, or takes no answers
        finally:
            self._open.discard(socket)
            self._metrics.sessions(-1)
            self._metrics.answered(
                protocol="session", signature="stream_step" if self._model.streams else "serving_default", code=code,
                seconds=time.monotonic() - started,
            )  # fmt: skip
        return socket

    @property
    def count(self):
        """How many are open."""
        return len(self._open)

    async def close(self):
        """Tells all clients that the server stops."""
        for socket in list(self._open):
            await self._say_goodbye(socket, "UNAVAILABLE", "the server stops", WSCloseCode.GOING_AWAY)

    async def _recognise(self, socket):
        model = self._model
        await self._send(
            socket, type="ready", model=model.name, version=model.version, sample_rate=model.sample_rate,
            chunk_samples=model.metadata["chunk_samples"], streaming=model.streams,
        )  # fmt: skip
        stream = (_Stream if model.streams else _Whole)(model, self._scheduler, self._limits)
        async for samples in self._audio(socket):
            self._metrics.audio(len(samples) / model.sample_rate)
            async for partial in stream.add(samples):
                await self._send(socket, type="partial", **partial)
        final = await stream.finish()
        await self._send(socket, type="final", seconds=stream.samples / model.sample_rate, **_described(final))
        await socket.close()

    async def _audio(self, socket):
        """Arrays of samples until the client says that there are no more."""
        while True:
            try:
                # Around the whole of it: aiohttp's own time begins anew with each answer to a ping.
                message = await asyncio.wait_for(socket.receive(), self._limits.idle_seconds)
            except asyncio.TimeoutError:
                raise RequestError(
                    "DEADLINE_EXCEEDED", f"nothing came for {self._limits.idle_seconds:g} s"
                ) from None
            if message.type is WSMsgType.TEXT:
                if _parsed(message.data) != {"type": "end"}:
                    raise RequestError("INVALID_ARGUMENT", 'text messages must be {"type": "end"}; audio is binary')
                return
            if message.type is not WSMsgType.BINARY:
                raise ConnectionError("closed before the end")
            if len(message.data) % 4:
                raise RequestError("INVALID_ARGUMENT", f"{len(message.data)} bytes are no whole number of float32")
            samples = np.frombuffer(message.data, "<f4")
            check_audio(samples)
            yield np.clip(samples, -1.0, 1.0).astype(np.float32)

    async def _say_goodbye(self, socket, code, error, close_code):
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
            await self._send(socket, type="error", code=code, error=error)
            await socket.close(code=close_code)

    async def _send(self, socket, **message):
        if socket.closed:
            return
        text = json.dumps(message, ensure_ascii=False)
        # A client that does not read its answers ends its own session and nothing else.
        await asyncio.wait_for(socket.send_str(text), self._limits.request_seconds)


class _Stream:
    """A stream of a model that streams. samples: how many came."""

    def __init__(self, model, scheduler, limits):
        self._scheduler, self._chunk = scheduler, model.metadata["chunk_samples"]
        self._rate, self._limit = model.sample_rate, limits.stream_seconds
        self._state, self._rest, self.samples = None, np.zeros([0], np.float32), 0

    async def add(self, samples):
        """Takes samples; yields what is known of the stream after each step."""
        self.samples = _counted(self.samples, samples, self._rate, self._limit)
        self._rest = np.concatenate([self._rest, samples])
        while len(self._rest) >= self._chunk:
            chunks = min(len(self._rest) // self._chunk, MAX_CHUNKS)
            count = self._chunk << (chunks.bit_length() - 1)
            taken, self._rest = self._rest[:count], self._rest[count:]
            outputs = await self._scheduler.run("stream_step", {"waveforms": taken[None], **await self._started()})
            self._state = {name: value for name, value in outputs.items() if name.startswith(_STREAM_STATE)}
            yield {
                "seconds": (self.samples - len(self._rest)) / self._rate,
                **{name: _scalar(value) for name, value in outputs.items() if _is_one(name, value)},
            }

    async def finish(self):
        """stream_finalize's results."""
        rest = {"waveforms": self._rest[None], "num_samples": np.array([len(self._rest)], np.int32)}
        return await self._scheduler.run("stream_finalize", {**rest, **await self._started()})

    async def _started(self):
        if self._state is None:
            self._state = await self._scheduler.run("stream_init", {"batch_size": np.array(1, np.int32)})
        return self._state


class _Whole:
    """An utterance of a model that needs all of it. samples: how many came."""

    def __init__(self, model, scheduler, limits):
        self._scheduler, self._rate, self._limit = scheduler, model.sample_rate, limits.audio_seconds
        self._parts, self.samples = [], 0

    async def add(self, samples):
        """Keeps the samples; yields nothing."""
        self.samples = _counted(self.samples, samples, self._rate, self._limit)
        self._parts.append(samples)
        return
        yield

    async def finish(self):
        """serving_default's results."""
        waveform = np.concatenate([*self._parts, np.zeros([0], np.float32)])[None]
        num_samples = np.array([waveform.shape[1]], np.int32)
        return await self._scheduler.run("serving_default", {"waveforms": waveform, "num_samples": num_samples})


def _counted(count, samples, rate, limit):
    count += len(samples)
    if count > limit * rate:
        raise RequestError("RESOURCE_EXHAUSTED", f"this server takes {limit:g} s of audio in a session")
    return count


def _is_one(name, value):
    """Whether a result of stream_step is one value of the stream."""
    return value.ndim == 1 and not name.startswith((_STREAM_STATE, "num_"))


def _scalar(value):
    value = value.tolist()[0]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no infinity
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _described(final):
    """Results of one utterance as what goes into JSON."""
    count = int(final["num_words"][0])
    fields = {short: final[name][0, :count].tolist() for name, short in _WORD_FIELDS.items() if name in final}
    fields["word"] = [word.decode("utf-8", "replace") for word in fields["word"]]
    words = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
    tokens = final["tokens"][0, : int(final["num_tokens"][0])].tolist()
    return {"text": _scalar(final["text"]), "words": words, "tokens": tokens, "log_prob": float(final["log_prob"][0])}


def _parsed(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _refuse_other_sites(request):
    """Any page in the user's browser may open a WebSocket to localhost; only ours may use it."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
        raise web.HTTPForbidden(text=f"pages of {origin} may not use this server")
