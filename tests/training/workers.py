"""Starts the workers of a training on several machines as processes of this one."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess

ROOT = pathlib.Path(__file__).parents[2]


def free_ports(count):
    """Ports that nobody listens on at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def start_workers(commands, *, log_folder):
    """One process per command, each with its TF_CONFIG; stdout and stderr go to log_folder/worker-N.log.

    Returns:
      Popen objects, in the order of the commands.
    """
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(len(commands))]}
    processes = []
    for index, command in enumerate(commands):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": json.dumps(task)}
        with (pathlib.Path(log_folder) / f"worker-{index}.log").open("w") as log:
            processes.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
    return processes


def wait_for_workers(processes, *, log_folder, timeout=500):
    """Waits until all have ended well; kills the others once one has not, and all after `timeout` seconds.

    Raises:
      AssertionError: one failed or was too slow; the text holds the ends of all logs.
    """
    try:
        for process in processes:
            if process.wait(timeout):
                break
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    if any(codes):
        logs = sorted(pathlib.Path(log_folder).glob("worker-*.log"))
        ends = "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in logs)
        raise AssertionError(f"exit codes {codes}\n{ends}")
