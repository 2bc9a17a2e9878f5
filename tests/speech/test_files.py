"""What is no readable file is refused before it is opened, with a reason, and never waits."""

import errno
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tf_rnnt_kd.speech import files
from tf_rnnt_kd.speech.audio import decode_audio
from tf_rnnt_kd.speech.errors import AudioError


def _reason(path):
    with pytest.raises(AudioError) as caught:
        decode_audio(path)
    return caught.value.reason


def _wav(path):
    soundfile.write(path, np.sin(np.arange(8000)) * 0.1, 16000, format="WAV")
    return path


def test_a_path_a_string_and_the_bytes_give_the_same(tmp_path):
    path = _wav(tmp_path / "a.wav")
    expected = decode_audio(path.read_bytes())
    np.testing.assert_array_equal(decode_audio(path), expected)
    np.testing.assert_array_equal(decode_audio(str(path)), expected)
    np.testing.assert_array_equal(decode_audio(f"file://{path}"), expected)


def test_what_is_not_there(tmp_path):
    _wav(tmp_path / "a.wav")
    (tmp_path / "dangling.wav").symlink_to("absent.wav")
    for name in ("absent.wav", "absent/absent.wav", "a.wav/b.wav", "dangling.wav"):
        assert _reason(tmp_path / name) == "missing_audio"
    assert _reason(f"file://{tmp_path}/absent.wav") == "missing_audio"


@pytest.mark.timeout(60)
def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "to_pipe.wav").symlink_to("pipe.wav")
    for name in ("pipe.wav", "folder.wav", "loop.wav", "to_pipe.wav"):
        assert _reason(tmp_path / name) == "unreadable"
    assert _reason(f"file://{tmp_path}/pipe.wav") == "unreadable"
    for path in ("/dev/zero", "/dev/random"):  # they never end
        assert _reason(path) == "unreadable"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "s"))  # absolute ones are too long for a socket
        assert _reason(tmp_path / "s") == "unreadable"


def test_names_that_no_file_can_have(tmp_path):
    assert _reason(f"{tmp_path}/a\0b.wav") == "unreadable"
    assert _reason(f"{tmp_path}/{'x' * 5000}.wav") == "unreadable"
    assert _reason("nosuch://bucket/a.wav") == "unreadable"


def test_names_that_are_no_utf8_are_names(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav")
    _wav(tmp_path / "a.wav").rename(path)
    assert len(decode_audio(path)) == 8000
    Path(path).unlink()
    with pytest.raises(AudioError) as caught:
        decode_audio(path)
    str(caught.value).encode()  # can be written


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """As the system says it to anybody but the superuser, whom it lets read everything."""
    path = _wav(tmp_path / "a.wav")

    def read_bytes(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(AudioError, match="Permission denied") as caught:
        decode_audio(path)
    assert caught.value.reason == "unreadable"


def test_empty_files_and_those_that_pretend_to_be(tmp_path):
    (tmp_path / "empty.wav").touch()
    assert _reason(tmp_path / "empty.wav") == "empty_file"
    assert _reason("/proc/self/status") == "empty_file"


def test_a_file_that_is_bigger_than_the_memory_is_not_read(tmp_path):
    path = tmp_path / "sparse.wav"
    with path.open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    assert _reason(path) == "too_long"
