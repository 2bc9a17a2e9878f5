"""A full disk is known by whatever library meets it, and told from other errors."""

import contextlib
import resource

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.training import faults


@contextlib.contextmanager
def small_files(limit):
    """No file of this process may grow beyond `limit` bytes: the nearest to a full disk that needs no rights."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def with_python(path):
    path.write_bytes(bytes(10_000))


def with_tensorflow(path):
    with tf.io.gfile.GFile(str(path), "w") as file:
        file.write("x" * 10_000)


def with_hdf5(path):
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(10_000)


@pytest.mark.parametrize("write", [with_python, with_tensorflow, with_hdf5])
def test_a_full_disk_is_known(tmp_path, write):
    with small_files(5000), pytest.raises((OSError, tf.errors.OpError)) as caught:
        write(tmp_path / "file")
    assert faults.is_disk_full(caught.value), repr(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[1,2]"),
        ValueError("no space left"),
    ],
)
def test_other_errors_are_not(error):
    assert not faults.is_disk_full(error)


def test_lost_workers():
    assert faults.is_worker_lost(tf.errors.UnavailableError(None, None, "failed to connect to all addresses"))
    assert not faults.is_worker_lost(tf.errors.InvalidArgumentError(None, None, "shapes"))


def test_every_reason_has_its_own_status():
    kinds = [faults.TrainingFault, *faults.TrainingFault.__subclasses__()]
    assert len({kind.exit_status for kind in kinds}) == len(kinds) == 4
