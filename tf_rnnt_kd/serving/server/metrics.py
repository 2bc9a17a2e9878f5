"""What Prometheus collects from the server."""

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, in a registry of its own; all calls may come from any thread."""

    def __init__(self):
        self._registry = prometheus_client.CollectorRegistry()
        # Resident memory, CPU seconds and open files of this process.
        prometheus_client.ProcessCollector(registry=self._registry)
        here = {"namespace": "tf_rnnt_kd", "registry": self._registry}
        self._requests = Counter(
            "requests", "Requests answered, by gRPC's name of the outcome.", ["protocol", "signature", "code"], **here
        )
        self._seconds = Histogram(
            "request_seconds", "From a request's arrival to its answer.", ["protocol", "signature"],
            buckets=_SECONDS, **here,
        )  # fmt: skip
        self._queue = Histogram("queue_seconds", "That a call waited for a worker.", buckets=_SECONDS, **here)
        self._batch = Histogram("batch_rows", "Rows that ran as one call.", buckets=_ROWS, **here)
        self._audio = Counter("audio_seconds", "Audio received by sessions and in waveforms.", **here)
        self._sessions = Gauge("sessions", "Sessions that are open.", **here)
        self._pending = Gauge("pending", "Calls that wait or run.", **here)

    def answered(self, *, protocol, signature, code, seconds):
        """Counts a request. signature: one of the model's, or '' (else anyone could make labels without end)."""
        self._requests.labels(protocol, signature, code).inc()
        self._seconds.labels(protocol, signature).observe(seconds)

    def queued(self, seconds):
        """A call waited so long."""
        self._queue.observe(seconds)

    def batch(self, rows):
        """So many rows run as one."""
        self._batch.observe(rows)

    def audio(self, seconds):
        """So much audio came."""
        self._audio.inc(seconds)

    def sessions(self, change):
        """+1 or -1."""
        self._sessions.inc(change)

    def watch_pending(self, count):
        """count: function without arguments that says how many calls wait or run now."""
        self._pending.set_function(count)

    def text(self):
        """Bytes in Prometheus' text format; their content type is `CONTENT_TYPE`."""
        return prometheus_client.generate_latest(self._registry)


CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
