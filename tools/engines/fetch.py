"""Gets the engines that `tests/engines` runs the pipelines on, into build/engines:

    python -m tools.engines.fetch prism flink

prism needs Go, flink needs Java 11 or 17 and Maven. What is there already is left alone. PRISM_BINARY, FLINK_LIBRARIES
(a folder with flink-dist-*.jar) and FLINK_JOB_SERVER_JAR name copies that lie elsewhere.
"""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence

from absl import flags

from tf_rnnt_kd import command_line

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "build" / "engines"
FLINK_VERSION = "1.19.3"
# Not every mirror has every release; job services and SDKs of neighbouring releases understand each other.
PRISM_VERSION = "2.73.0"
JOB_SERVER_VERSION = "2.62.0"
PRISM, FLINK_LIBRARIES, FLINK_JOB_SERVER_JAR = "PRISM_BINARY", "FLINK_LIBRARIES", "FLINK_JOB_SERVER_JAR"


def beam_version() -> str:
    """The version of the Python SDK, which engines should have too."""
    return importlib.metadata.version("apache-beam")


def flink_series() -> str:
    """Flink's version as the names of Beam's jars have it."""
    return ".".join(FLINK_VERSION.split(".")[:2])


def found_at(name: str) -> pathlib.Path:
    """Where a part of an engine lies, one of the three names above, once it is fetched."""
    default = {
        PRISM: FOLDER / "bin" / "prism",
        FLINK_LIBRARIES: FOLDER / f"flink-{FLINK_VERSION}" / "lib",
        FLINK_JOB_SERVER_JAR: FOLDER / f"beam-flink-{flink_series()}-job-server.jar",
    }[name]
    return pathlib.Path(os.environ.get(name) or default)


def found(name: str) -> pathlib.Path | None:
    """`found_at`, None where there is nothing."""
    path = found_at(name)
    return path if path.exists() else None


def missing(*names: str) -> str:
    """Why tests that need these parts are skipped, and what to do; empty where all are there."""
    absent = [name for name in names if found(name) is None]
    if not absent:
        return ""
    engine = "prism" if PRISM in absent else "flink"
    return f"{', '.join(absent)} not found: python -m tools.engines.fetch {engine}"


def fetch_prism() -> None:
    """Compiles Prism with the Go toolchain: of Beam's version, or of `PRISM_VERSION` where that one is not offered."""
    environment = {"GOBIN": str(FOLDER / "bin")}
    module = "github.com/apache/beam/sdks/v2/go/cmd/prism"
    try:
        _call(["go", "install", f"{module}@v{beam_version()}"], needs="Go, https://go.dev", environment=environment)
    except ValueError as error:
        sys.stderr.write(f"{error}\ntaking {PRISM_VERSION} instead\n")
        _call(["go", "install", f"{module}@v{PRISM_VERSION}"], needs="Go, https://go.dev", environment=environment)


def fetch_flink() -> None:
    """Unpacks Flink's jars from the Python package that carries them."""
    name = f"apache-flink-libraries=={FLINK_VERSION}"
    download = FOLDER / "download"
    _call([sys.executable, "-m", "pip", "download", "-q", "--no-deps", f"--dest={download}", name], needs="pip")
    (archive,) = download.glob(f"*{FLINK_VERSION}.tar.gz")
    library = FOLDER / f"flink-{FLINK_VERSION}" / "lib"
    unpacked = library.with_name("lib.new")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    with tarfile.open(archive) as file:
        for member in file:
            if member.isfile() and "/deps/lib/" in member.name:
                member.name = pathlib.PurePath(member.name).name
                file.extract(member, unpacked, filter="data")
    unpacked.rename(library)  # all of it or nothing
    shutil.rmtree(download)


def fetch_job_server() -> None:
    """Beam's job server for Flink, from Maven Central.

    That of Beam's version is there as one jar. A mirror may lack it, and have an older runner of which to make one.
    """
    name = f"beam-runners-flink-{flink_series()}-job-server"
    jar, repository = found_at(FLINK_JOB_SERVER_JAR), f"-Dmaven.repo.local={FOLDER / 'maven'}"
    download = FOLDER / "download"
    try:
        # No `dependency:get` before: that asks for the jar's dependencies too, which it holds already.
        artifact = f"-Dartifact=org.apache.beam:{name}:{beam_version()}"
        options = [artifact, f"-DoutputDirectory={download}", repository, "-U"]
        _call(["mvn", "-B", "-q", "dependency:copy", *options], needs="Maven, and Maven Central")
        (made,) = download.glob("*.jar")
    except ValueError as error:
        sys.stderr.write(f"{error}\nmaking one of Beam {JOB_SERVER_VERSION} instead\n")
        project = pathlib.Path(__file__).parent / "flink_job_server.pom.xml"
        options = [f"-Dflink={flink_series()}", f"-Dbeam={JOB_SERVER_VERSION}", f"-Doutput={download}", repository]
        _call(["mvn", "-B", "-q", "-f", str(project), "package", *options], needs="Maven, and Maven Central")
        made = download / "job-server.jar"
    made.rename(jar)
    shutil.rmtree(download)


_ENGINES = {
    "prism": ((PRISM, fetch_prism),),
    "flink": ((FLINK_LIBRARIES, fetch_flink), (FLINK_JOB_SERVER_JAR, fetch_job_server)),
}


def main(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in _ENGINES]
    if unknown or not names:
        raise ValueError(f"name engines of: {', '.join(_ENGINES)}; got {', '.join(names) or 'none'}")
    for name in names:
        for part, fetch in _ENGINES[name]:
            if not found(part):
                sys.stderr.write(f"fetching {part} into {FOLDER}\n")
                fetch()
            sys.stderr.write(f"{part}={found(part)}\n")


def _call(command, *, needs, environment=None):
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not shutil.which(command[0]):
        raise ValueError(f"no {command[0]} on PATH; needed: {needs}")
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise ValueError(f"{' '.join(map(str, command))} failed: {lines[0] if lines else done.returncode}")


def _no_flags(values: flags.FlagValues) -> None:
    """The engines' names are all that it takes."""


if __name__ == "__main__":
    command_line.start(main, _no_flags, takes_arguments=True)
