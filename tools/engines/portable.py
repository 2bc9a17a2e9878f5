"""Job services of Beam's portable runner, and the pool that starts Python workers for them.

    with portable.worker_pool(folder) as pool, portable.local_job_service(folder) as service:
        flags = portable.flags(service, workers=pool.address)
        ... python -m beam_pipelines.pseudo_label ... *flags
"""

import contextlib
import pathlib
import sys
from collections.abc import Iterator

from tools.engines.processes import Server, free_port


class WorkerPool:
    """A process that starts a Python worker process whenever a runner asks for one.

    Args:
        folder: for its log.
    """

    def __init__(self, folder: pathlib.Path):
        port = free_port()
        command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
        self.address = f"localhost:{port}"
        self._server = Server(command, log=folder / "worker_pool.log")
        try:
            self._server.wait_for_port(port)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Its process id, which is that of the group that the workers are in."""
        return self._server.pid

    def workers(self) -> list[int]:
        """Process ids of the workers that run now."""
        threads = pathlib.Path(f"/proc/{self._server.pid}/task").iterdir()
        return sorted(int(pid) for thread in threads for pid in (thread / "children").read_text().split())

    def stop(self) -> None:
        """Ends the pool and its workers."""
        self._server.stop()


@contextlib.contextmanager
def worker_pool(folder: pathlib.Path) -> Iterator[WorkerPool]:
    """A WorkerPool, stopped at the end."""
    pool = WorkerPool(folder)
    try:
        yield pool
    finally:
        pool.stop()


@contextlib.contextmanager
def local_job_service(folder: pathlib.Path) -> Iterator[str]:
    """The job service in pure Python that comes with Beam; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", f"--job_port={port}"]
    with _running([*command, f"--staging_dir={folder / 'staging'}"], port=port, log=folder / "job_service.log"):
        yield f"localhost:{port}"


@contextlib.contextmanager
def prism(binary: pathlib.Path, folder: pathlib.Path) -> Iterator[str]:
    """Prism, Beam's portable runner in Go; gives its address."""
    port, web_port = free_port(), free_port()
    command = [binary, f"--job_port={port}", f"--web_port={web_port}", "--idle_shutdown_timeout=-1ms"]
    with _running(command, port=port, log=folder / "prism.log"):
        yield f"localhost:{port}"


def flags(service: str, *, workers: str | None = None) -> list[str]:
    """Beam's flags for a job service; `workers` is a pool's address, None for workers inside the submitting process."""
    where = ["--environment_type=LOOPBACK"]
    if workers:
        where = ["--environment_type=EXTERNAL", f"--environment_config={workers}"]
    return ["--runner=PortableRunner", f"--job_endpoint={service}", *where]


@contextlib.contextmanager
def _running(command, *, port, log):
    server = Server(command, log=log)
    try:
        server.wait_for_port(port)
        yield
    finally:
        server.stop()
