"""A Flink cluster of separate processes on this machine: a job manager, task managers, a pool for Python workers.

    python -m tools.engines.flink run -- python -m beam_pipelines.pseudo_label --records=... --output=...
    python -m tools.engines.flink start; ...; python -m tools.engines.flink stop

`run` starts the cluster, adds Beam's flags for it to the command, and stops it again; `start` prints those flags.
Get the parts first: python -m tools.engines.fetch flink
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence

from absl import flags

from tf_rnnt_kd import command_line
from tools.engines import fetch
from tools.engines.portable import WorkerPool
from tools.engines.processes import Server, free_port

FLAGS = flags.FLAGS
_STATE = fetch.FOLDER / "flink_cluster.json"
_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
# Flink's own list for Java 17, without what only its SQL compiler needs.
_OPENED = ("lang", "lang.reflect", "net", "io", "nio", "text", "time", "util", "util.concurrent",
           "util.concurrent.atomic", "util.concurrent.locks")  # fmt: skip
JAVA_OPTIONS = (
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED),
)
_LOG4J = """rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
"""


class FlinkCluster:
    """Starts with `start`, ends with `stop`; also a context manager.

    Args:
        folder: for configuration, logs and Flink's temporary files.
        task_managers: how many at the start.
        slots: of each task manager: how many subtasks it runs at once.
    """

    def __init__(self, folder: pathlib.Path, *, task_managers: int = 2, slots: int = 2):
        self._folder, self._num_task_managers, self._slots = folder, task_managers, slots
        self.rest_port, self._rpc_port = free_port(), free_port()
        self._manager: Server | None = None
        self._pool: WorkerPool | None = None
        self.task_managers: list[Server] = []

    def __enter__(self) -> "FlinkCluster":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the cluster takes jobs."""
        if reason := fetch.missing(fetch.FLINK_LIBRARIES):
            raise ValueError(reason)
        self._configure()
        try:
            self._manager = Server(self._java(_JOB_MANAGER, memory="512m"), log=self._folder / "job_manager.log")
            self._manager.wait_for_port(self.rest_port)
            self._pool = WorkerPool(self._folder)
            for _ in range(self._num_task_managers):
                self.start_task_manager()
            self.wait_for_task_managers(self._num_task_managers)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all its processes."""
        for server in filter(None, [*self.task_managers, self._pool, self._manager]):
            server.stop()

    def start_task_manager(self) -> Server:
        """One more; it registers with the job manager by itself."""
        log = self._folder / f"task_manager_{len(self.task_managers)}.log"
        self.task_managers.append(Server(self._java(_TASK_MANAGER, memory="768m"), log=log))
        return self.task_managers[-1]

    def wait_for_task_managers(self, count: int, *, seconds: float = 60.0) -> None:
        """Returns when `count` task managers are registered; RuntimeError after `seconds`."""
        deadline = time.monotonic() + seconds
        while (registered := len(self.get("/taskmanagers")["taskmanagers"])) != count:
            if time.monotonic() > deadline:
                tails = "\n".join(server.tail() for server in self.task_managers)
                raise RuntimeError(f"{registered} task managers registered, expected {count}:\n{tails}")
            time.sleep(0.2)

    def get(self, path: str) -> dict:
        """An answer of Flink's REST interface, such as `/jobs/overview`."""
        with urllib.request.urlopen(f"http://localhost:{self.rest_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def beam_flags(self, *, parallelism: int) -> list[str]:
        """Beam's flags for a job on this cluster, Python workers started by the pool; ValueError without the jar."""
        if reason := fetch.missing(fetch.FLINK_JOB_SERVER_JAR):
            raise ValueError(reason)
        return [
            "--runner=FlinkRunner",
            f"--flink_master=localhost:{self.rest_port}",
            f"--flink_version={fetch.flink_series()}",
            f"--flink_job_server_jar={fetch.found(fetch.FLINK_JOB_SERVER_JAR)}",
            "--environment_type=EXTERNAL",
            f"--environment_config={self._pool.address}",
            f"--parallelism={parallelism}",
        ]

    def pids(self) -> list[int]:
        """Process groups of all that runs."""
        return [server.pid for server in [*self.task_managers, self._pool, self._manager]]

    def _java(self, main, *, memory):
        jars = f"{fetch.found(fetch.FLINK_LIBRARIES)}/*"
        logging = f"-Dlog4j2.configurationFile={self._folder / 'conf' / 'log4j.properties'}"
        configuration = ["--configDir", str(self._folder / "conf")]
        return ["java", f"-Xmx{memory}", *JAVA_OPTIONS, logging, "-cp", jars, main, *configuration]

    def _configure(self):
        settings = {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": self._rpc_port,
            "rest.address": "localhost",
            "rest.port": self.rest_port,
            "taskmanager.host": "localhost",
            "taskmanager.numberOfTaskSlots": self._slots,
            # What Flink's shell scripts compute from the machine's memory.
            "taskmanager.cpu.cores": "1.0",
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "128m",
            "taskmanager.memory.jvm-overhead.max": "128m",
            "taskmanager.memory.task.heap.size": "384m",
            "taskmanager.memory.task.off-heap.size": "0m",
            "taskmanager.memory.managed.size": "128m",
            "taskmanager.memory.network.min": "64m",
            "taskmanager.memory.network.max": "64m",
            "jobmanager.memory.heap.size": "384m",
            # A lost task manager restarts the job, and is noticed in seconds.
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 5,
            "restart-strategy.fixed-delay.delay": "1 s",
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 6000,
            "io.tmp.dirs": str(self._folder / "temporary"),
            "parallelism.default": 1,
        }
        (self._folder / "temporary").mkdir(parents=True, exist_ok=True)
        conf = self._folder / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "config.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
        (conf / "log4j.properties").write_text(_LOG4J)


def main(arguments: Sequence[str]) -> int:
    action, *command = arguments or ["none"]
    if action == "stop":
        return _stop()
    if action not in ("start", "run") or (action == "run") != bool(command):
        raise ValueError(f"start, stop, or run -- COMMAND: got {' '.join(arguments) or 'nothing'}")
    folder = fetch.FOLDER / "flink_cluster"
    if reason := fetch.missing(fetch.FLINK_LIBRARIES, fetch.FLINK_JOB_SERVER_JAR):
        raise ValueError(reason)
    cluster = FlinkCluster(folder, task_managers=FLAGS.task_managers, slots=FLAGS.slots)
    cluster.start()
    more = cluster.beam_flags(parallelism=FLAGS.task_managers * FLAGS.slots)
    if action == "start":
        _STATE.write_text(json.dumps(cluster.pids()))
        sys.stdout.write(" ".join(more) + "\n")
        return 0
    try:
        return subprocess.run([*command, *more], check=False, env=os.environ).returncode
    finally:
        cluster.stop()


def _stop():
    if not _STATE.exists():
        raise ValueError("no cluster was started here")
    for pid in json.loads(_STATE.read_text()):
        try:
            os.killpg(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    _STATE.unlink()
    return 0


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_integer("task_managers", 2, "How many task managers.", lower_bound=1, **add)
    flags.DEFINE_integer("slots", 2, "Slots of each.", lower_bound=1, **add)


if __name__ == "__main__":
    command_line.start(main, define_flags, takes_arguments=True)
