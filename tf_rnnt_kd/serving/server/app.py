"""The server as a whole: gRPC and HTTP on one event loop, started and stopped together."""

import asyncio
import contextlib
import signal
import time

import grpc

from tf_rnnt_kd.extras import missing

try:
    import prometheus_client  # noqa: F401 (for metrics.py)
    from aiohttp import web
except ModuleNotFoundError as error:
    raise missing("serving", error) from error

from tf_rnnt_kd.serving.server import grpc_service, rest
from tf_rnnt_kd.serving.server.limits import Limits
from tf_rnnt_kd.serving.server.metrics import Metrics
from tf_rnnt_kd.serving.server.scheduler import Scheduler


class Server:
    """Serves a model from the running event loop.

    Args:
      model: a ServedModel.
      host: address to listen on. Anyone who reaches it may use the server: there is no password.
      port: of gRPC. rest_port: of REST and the page. 0 takes a free one.
      limits: Limits; their defaults if not given.
      workers, max_batch: see Scheduler.

    Attributes:
      port, rest_port: where it listens, after `start`.
    """

    def __init__(
        self, model, *, host="127.0.0.1", port=8500, rest_port=8501, limits=None, workers=2, max_batch=32
    ):
        self.host, self.port, self.rest_port = host, port, rest_port
        self._limits = limits = limits or Limits()
        metrics = Metrics()
        self._scheduler = Scheduler(model, limits=limits, metrics=metrics, workers=workers, max_batch=max_batch)
        parts = {"scheduler": self._scheduler, "limits": limits, "metrics": metrics}
        self._handlers = grpc_service.handlers(model, **parts)
        self._application = rest.application(model, **parts)

    async def start(self):
        """Begins to listen.

        Raises:
          ValueError: a port is taken.
        """
        await self._start_rest()
        try:
            await self._start_grpc()
        except ValueError:
            await self._runner.cleanup()
            raise

    async def stop(self, *, grace_seconds=10.0):
        """Takes no new requests, lets those that run end for up to grace_seconds, and ends what is left."""
        self._application[rest.STATE]["stopping"] = True
        for site in list(self._runner.sites):
            await site.stop()
        grpc_stopped = asyncio.create_task(self._grpc.stop(grace_seconds))
        sessions = self._application[rest.SESSIONS]
        end = time.monotonic() + grace_seconds
        while (self._scheduler.pending or sessions.count) and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await sessions.close()
        await grpc_stopped
        await self._runner.cleanup()
        self._scheduler.close()

    async def _start_rest(self):
        self._runner = web.AppRunner(
            self._application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0, lingering_time=2.0,
            # Also the time that a connection has to send the head of a request.
            keepalive_timeout=self._limits.idle_seconds,
        )  # fmt: skip
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.rest_port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ValueError(f"cannot listen on {self.host}:{self.rest_port} (--rest_port): {error.strerror}") from None
        self.rest_port = self._runner.addresses[0][1]

    async def _start_grpc(self):
        self._grpc = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._limits.request_bytes),
                ("grpc.max_send_message_length", -1),
                # Two servers on one port would share its requests.
                ("grpc.so_reuseport", 0),
                # A connection may not hold all requests, nor hold one for ever by never ending its message; clients
                # connect again by themselves.
                ("grpc.max_concurrent_streams", self._limits.pending),
                ("grpc.max_connection_age_ms", 600_000),
                ("grpc.max_connection_age_grace_ms", int(1000 * self._limits.request_seconds)),
                ("grpc.keepalive_time_ms", int(1000 * self._limits.idle_seconds)),
                # Small messages may not unfold to large ones.
                ("grpc.compression_enabled_algorithms_bitset", 1),
            ]
        )
        self._grpc.add_generic_rpc_handlers(self._handlers)
        try:
            self.port = self._grpc.add_insecure_port(f"{self.host}:{self.port}")
        except RuntimeError:
            raise ValueError(f"cannot listen on {self.host}:{self.port} (--port): is it taken?") from None
        await self._grpc.start()


async def serve_until_stopped(server, *, on_start, grace_seconds):
    """Runs a server until SIGTERM or SIGINT; on_start() is called once it listens."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await server.start()
    on_start()
    with contextlib.suppress(asyncio.CancelledError):
        await stopped.wait()
    await server.stop(grace_seconds=grace_seconds)
