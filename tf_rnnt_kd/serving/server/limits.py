"""How much one request may ask for, so that none hurts the others."""

import dataclasses
import math

import numpy as np

from tf_rnnt_kd.serving.server.errors import RequestError

_LENGTHS = {"num_samples": "waveforms", "num_tokens": "tokens"}
"""{name: of which argument's second dimension it counts a part}"""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a server; each is a flag of its binary.

    request_bytes: of one message or body. audio_seconds: of all waveforms of a request together, padding included, and
      of a session of a model that does not stream. stream_seconds: of a streaming session.
    request_seconds: from the first byte of a request's body to its result, and for each answer that a client takes.
    idle_seconds: that a session may send nothing, or a connection no request.
    pending: requests at once that are read, wait or run. sessions: at once.
    rows: of a batch that a client sends. tokens: of an utterance that is scored, and of all phrases together.

    Raises:
      ValueError: one that is not positive.
    """

    request_bytes: int = 16 * 2**20
    audio_seconds: float = 120.0
    stream_seconds: float = 3600.0
    request_seconds: float = 30.0
    idle_seconds: float = 30.0
    pending: int = 128
    sessions: int = 64
    rows: int = 64
    tokens: int = 4096

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not value > 0:
                raise ValueError(f"the limit {name} must be above 0, not {value}")

    def check(self, inputs, *, rows, sample_rate):
        """Refuses arguments of a signature that ask for too much, or whose lengths contradict their arrays.

        Args:
          inputs: {name: array}, of the signature's dtypes and ranks. rows: of the batch that they are.
          sample_rate: Hz.

        Raises:
          RequestError: INVALID_ARGUMENT.
        """
        if rows > self.rows:
            raise _refusal(f"the request has {rows} rows; this server takes {self.rows} at once")
        if "batch_size" in inputs and not 1 <= inputs["batch_size"] <= self.rows:
            raise _refusal(f"batch_size is {inputs['batch_size']}; this server takes 1 to {self.rows}")
        if "waveforms" in inputs and inputs["waveforms"].size > self.audio_seconds * sample_rate:
            seconds = inputs["waveforms"].size / sample_rate
            raise _refusal(
                f"waveforms hold {seconds:.1f} s of audio; this server takes {self.audio_seconds:g} s in one request: "
                "send fewer or shorter ones, or stream them"
            )
        if "tokens" in inputs and inputs["tokens"].shape[1] > self.tokens:
            raise _refusal(f"tokens has {inputs['tokens'].shape[1]} columns; this server takes {self.tokens}")
        if "phrases" in inputs and inputs["phrases"].size > self.tokens:
            raise _refusal(f"phrases has {inputs['phrases'].size} tokens; this server takes {self.tokens}")
        for name, of in _LENGTHS.items():
            if name in inputs and of in inputs:
                _check_lengths(name, inputs[name], of, inputs[of])


def check_bytes(shape, itemsize, *, limit, name):
    """Refuses a tensor that says of itself that it is larger than a whole request may be.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    if any(size < 0 for size in shape) or math.prod(shape) * itemsize > limit:
        raise _refusal(f"{name} of shape {list(shape)} is more than the {limit} bytes that this server takes at once")


def check_audio(samples):
    """Refuses samples that are no audio in -1..1.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    peak = np.max(np.abs(samples), initial=0.0)
    if not np.isfinite(peak):
        raise _refusal("audio holds NaN or infinity: send float32, little-endian, in -1..1")
    if peak > 4.0:
        raise _refusal(f"samples reach {peak:.3g}: send float32, little-endian, in -1..1")


def _check_lengths(name, lengths, of, values):
    width = values.shape[1]
    if np.any((lengths < 0) | (lengths > width)):
        raise _refusal(f"{name} {lengths.tolist()} must lie in 0..{width}, the second dimension of {of}")


def _refusal(message):
    return RequestError("INVALID_ARGUMENT", message)
