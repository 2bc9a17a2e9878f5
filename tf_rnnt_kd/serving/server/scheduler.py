"""Who runs when: calls wait in two lanes, streams and whole utterances, and streams that wait run as one batch.

A worker that is free takes the call that has waited longest, and with it all that can run as one. Nothing waits for
company: while few streams are served each runs at once and alone, and batches grow with the load by themselves.
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
import functools
import logging
import time

from tf_rnnt_kd.serving.server import batching
from tf_rnnt_kd.serving.server.errors import RequestError


@dataclasses.dataclass(eq=False)
class _Call:
    signature: str
    inputs: dict
    rows: int
    key: tuple | None
    future: asyncio.Future
    since: float


@dataclasses.dataclass(eq=False)
class _Lane:
    waiting: collections.deque = dataclasses.field(default_factory=collections.deque)
    running: int = 0


class Scheduler:
    """Runs calls of a ServedModel for coroutines of one event loop.

    Args:
      model: a ServedModel. limits: Limits. metrics: Metrics.
      workers: batches that run at once, in each lane: a long utterance holds up no stream.
      max_batch: rows of a batch of several streams; 1 runs each call alone.
    """

    def __init__(self, model, *, limits, metrics, workers=2, max_batch=32):
        self._model, self._limits, self._metrics = model, limits, metrics
        self._workers = workers
        self._max_batch = max_batch if model.streams and batching.can_batch(model.inputs["stream_step"]) else 1
        self._lanes = {"stream": _Lane(), "whole": _Lane()}
        self._threads = concurrent.futures.ThreadPoolExecutor(workers * len(self._lanes), "signatures")
        self._pending = 0
        self._closed = False
        metrics.watch_pending(lambda: self._pending)

    async def run(self, signature, inputs):
        """Results of a signature.

        Args:
          signature: its name. inputs: {name: array}.

        Returns:
          {name: array}.

        Raises:
          RequestError: the arguments are wrong, too many calls wait, it took too long, or TensorFlow refused it.
        """
        rows = self._model.check(signature, inputs)
        self._limits.check(inputs, rows=rows, sample_rate=self._model.sample_rate)
        if self._closed:
            raise RequestError("UNAVAILABLE", "the server stops")
        if self._pending >= self._limits.pending:
            raise RequestError(
                "RESOURCE_EXHAUSTED", f"{self._pending} requests are waiting already: try again in a moment"
            )
        future = asyncio.get_running_loop().create_future()
        call = _Call(signature, inputs, rows, batching.key_of(signature, inputs), future, time.monotonic())
        lane = self._lanes["stream" if signature.startswith("stream_") else "whole"]
        lane.waiting.append(call)
        self._pending += 1
        try:
            self._start(lane)
            return await asyncio.wait_for(future, self._limits.request_seconds)
        except asyncio.TimeoutError:
            raise RequestError(
                "DEADLINE_EXCEEDED", f"no result within {self._limits.request_seconds:g} s: the server is too busy"
            ) from None
        finally:
            self._pending -= 1
            # Of a client that went away, or whose time is over: its audio need not be kept until its turn.
            if call in lane.waiting:
                lane.waiting.remove(call)

    @property
    def pending(self):
        """How many calls wait or run."""
        return self._pending

    def close(self):
        """Refuses what waits, and ends the threads once they are done with what they run."""
        self._closed = True
        for lane in self._lanes.values():
            self._answer(lane.waiting, [RequestError("UNAVAILABLE", "the server stops")] * len(lane.waiting))
            lane.waiting.clear()
        self._threads.shutdown(wait=False)

    def _start(self, lane):
        """Gives waiting calls to free workers."""
        while lane.waiting and lane.running < self._workers and not self._closed:
            calls = self._take(lane)
            lane.running += 1
            done = asyncio.get_running_loop().run_in_executor(self._threads, self._execute, calls)
            done.add_done_callback(functools.partial(self._finish, lane, calls))

    def _take(self, lane):
        first = lane.waiting.popleft()
        calls, rows = [first], first.rows
        if first.key is not None:
            for call in list(lane.waiting):
                if call.key == first.key and rows + call.rows <= self._max_batch:
                    lane.waiting.remove(call)
                    calls.append(call)
                    rows += call.rows
        return calls

    def _execute(self, calls):
        """Results or RequestErrors of calls, in a worker's thread."""
        started = time.monotonic()
        for call in calls:
            self._metrics.queued(started - call.since)
        self._metrics.batch(sum(call.rows for call in calls))
        if len(calls) > 1:
            try:
                outputs = self._model.run(calls[0].signature, batching.join([call.inputs for call in calls]))
                return batching.split(outputs, [call.rows for call in calls])
            except Exception:
                logging.debug("a batch failed; whose fault it was shows when each runs alone", exc_info=True)
        return [self._alone(call) for call in calls]

    def _alone(self, call):
        try:
            return self._model.run(call.signature, call.inputs)
        except RequestError as error:
            return error

    def _finish(self, lane, calls, done):
        lane.running -= 1
        self._answer(calls, done.result())
        self._start(lane)

    @staticmethod
    def _answer(calls, results):
        for call, result in zip(calls, results, strict=True):
            if call.future.done():
                continue
            if isinstance(result, RequestError):
                call.future.set_exception(result)
            else:
                call.future.set_result(result)
