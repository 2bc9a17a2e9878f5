"""The bytes of one file, or why they cannot be had."""

import stat
from pathlib import Path

import tensorflow as tf

from tf_rnnt_kd.speech.errors import AudioError

# A file is held in memory as a whole.
MAX_BYTES = 4 << 30
# Manifests may hold names of any length: so much of one is shown.
_SHOWN = 300


def read_file(path: str) -> bytes:
    """Reads a file of any file system that `tf.io.gfile` knows.

    Raises:
        AudioError: missing_audio, unreadable or too_long.
    """
    path = path.removeprefix("file://")
    return _read_remote(path) if "://" in path else _read_local(path)


def _read_remote(path: str) -> bytes:
    try:
        size = tf.io.gfile.stat(path).length
        _refuse_if_big(size, path)
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.NotFoundError as error:
        raise AudioError("missing_audio", f"{_shown(path)} does not exist") from error
    except tf.errors.OpError as error:
        raise AudioError("unreadable", f"{_shown(path)} cannot be read: {error.message[:_SHOWN]}") from error


def _read_local(path: str) -> bytes:
    """By Python, not TensorFlow: names may be any bytes, and what is no file must not be opened (a pipe waits)."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("unreadable", f"{_shown(path)} is no file but a {_kind(status.st_mode)}")
        _refuse_if_big(status.st_size, path)
        # Files of /proc and /sys say 0, and reading some of them waits as well.
        return Path(path).read_bytes() if status.st_size else b""
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioError("missing_audio", f"{_shown(path)} does not exist") from error
    except AudioError:
        raise
    except OSError as error:
        raise AudioError("unreadable", f"{_shown(path)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise AudioError("unreadable", f"{_shown(path)} is no name of a file: {error}") from error


def _shown(path: str) -> str:
    return repr(path) if len(path) <= _SHOWN else f"{path[:_SHOWN]!r}... ({len(path)} characters)"


def _kind(mode: int) -> str:
    checks = {"folder": stat.S_ISDIR, "pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
    return next((name for name, check in checks.items() if check(mode)), "device")


def _refuse_if_big(size: int, path: str) -> None:
    if size > MAX_BYTES:
        raise AudioError("too_long", f"{_shown(path)} has {size} bytes, only {MAX_BYTES} are read: cut it into parts")
