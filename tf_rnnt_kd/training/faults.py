"""How a training ends early: for each reason an exception, and an exit status that tells a scheduler what to do."""

import errno

import tensorflow as tf

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_WORDS = ("no space left", "quota exceeded", "file too large")


class TrainingFault(Exception):
    """A training ended before its last step; `exit_status` is that of the process."""

    exit_status = 1


class Interrupted(TrainingFault):
    """It was asked to stop (SIGTERM, SIGINT) and has saved what it had: the same command goes on."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h


class StorageError(TrainingFault):
    """A file could not be written; the last checkpoint is whole. To be mended by a person."""

    exit_status = 74  # EX_IOERR


class WorkerLost(TrainingFault):
    """Another worker is gone: all of them have to be started again, with the same commands."""

    exit_status = 69  # EX_UNAVAILABLE


def is_disk_full(error: BaseException) -> bool:
    """Whether an OSError or TensorFlow error says that a file system takes no more bytes."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _DISK_ERRORS
    # TensorFlow raises ResourceExhaustedError for memory as well, and h5py an OSError without a number.
    text = str(error).lower()
    return isinstance(error, (OSError, tf.errors.OpError)) and any(words in text for words in _DISK_WORDS)


def is_worker_lost(error: BaseException) -> bool:
    """Whether an error of a step with several workers says that one of them went away."""
    errors = tf.errors
    gone = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
    return isinstance(error, gone)
