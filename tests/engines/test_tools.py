"""The scripts around the engines: servers are waited for, stopped and killed, and what is missing is named."""

import pathlib
import sys
import urllib.request

import pytest

from tools.engines import fetch, portable
from tools.engines.flink import FlinkCluster
from tools.engines.processes import Server, free_port

_SERVE = "import http.server, sys; http.server.HTTPServer(('localhost', int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()"  # noqa: E501


def test_a_server_is_waited_for_and_stopped(tmp_path):
    port = free_port()
    server = Server([sys.executable, "-c", _SERVE, port], log=tmp_path / "logs" / "web.log")
    server.wait_for_port(port, seconds=30)
    assert server.running
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(f"http://localhost:{port}/")
    server.stop()
    assert not server.running
    with pytest.raises(RuntimeError, match=r"web ended with status -15.*web.log ends with:(.|\n)*501"):
        server.wait_for_port(port)


def test_a_server_that_cannot_start_says_why(tmp_path):
    server = Server([sys.executable, "-c", "raise SystemExit('no such thing')"], log=tmp_path / "x.log")
    with pytest.raises(RuntimeError, match="x ended with status 1(.|\n)*no such thing"):
        server.wait_for_port(free_port())


def test_kill_is_sigkill(tmp_path):
    server = Server([sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "x.log")
    assert server.running
    server.kill()
    assert not server.running


def test_workers_get_this_python_and_this_code(tmp_path):
    program = "import shutil, beam_pipelines; print(shutil.which('python')); print(beam_pipelines.__path__[0])"
    server = Server([sys.executable, "-c", program], log=tmp_path / "x.log")
    server._process.wait()
    python, code = server.tail().splitlines()
    assert pathlib.Path(python).parent == pathlib.Path(sys.executable).parent
    assert pathlib.Path(code) == pathlib.Path(__file__).resolve().parents[2] / "beam_pipelines"


def test_what_is_missing_is_named_with_the_command_that_gets_it(tmp_path, monkeypatch):
    for name in (fetch.PRISM, fetch.FLINK_LIBRARIES, fetch.FLINK_JOB_SERVER_JAR):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    assert fetch.missing(fetch.PRISM) == "PRISM_BINARY not found: python -m tools.engines.fetch prism"
    with pytest.raises(ValueError, match="FLINK_LIBRARIES not found: .*fetch flink"):
        FlinkCluster(tmp_path).start()
    monkeypatch.setenv(fetch.PRISM, str(tmp_path))
    assert fetch.missing(fetch.PRISM) == ""
    assert fetch.found(fetch.PRISM) == tmp_path
    with pytest.raises(ValueError, match="name engines of: prism, flink; got spark"):
        fetch.main(["spark"])
    assert portable.flags("localhost:1") == [
        "--runner=PortableRunner", "--job_endpoint=localhost:1", "--environment_type=LOOPBACK",
    ]  # fmt: skip
