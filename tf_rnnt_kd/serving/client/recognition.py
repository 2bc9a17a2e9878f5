"""Speech to a served model and its words back: as a whole, or piece by piece as a microphone gives it."""

import time
from typing import NamedTuple

import numpy as np


class Partial(NamedTuple):
    """What a stream has said after a step.

    text: of the stream so far. audio_seconds: that the server has heard. latency_seconds: from the end of the step's
    audio, as a microphone would have given it, to the answer; without real time from sending to the answer.
    is_endpoint: whether the speaker seems to have ended, None where the model does not say.
    """

    text: str
    audio_seconds: float
    latency_seconds: float
    is_endpoint: bool | None


def recognise(connection, waveform):
    """The text of a waveform and all that comes with it.

    Args:
      connection: a GrpcConnection or RestConnection. waveform: float32 [S] in -1..1 at the model's sample rate.

    Returns:
      {"text", "log_prob", "words": [{"word", "end_seconds", "confidence", ...}]}.

    Raises:
      ClientError: the server is not there, or refuses.
    """
    result = connection.predict("serving_default", waveforms=waveform[None], num_samples=_count(waveform))
    return _described(result)


def stream(
    connection, waveform, *, chunk_samples, sample_rate=16000, real_time=False, clock=time.monotonic, sleep=time.sleep
):
    """Sends a waveform in chunks; the stream's state travels with them, so that any replica may answer each.

    Args:
      connection: a GrpcConnection or RestConnection. waveform: float32 [S] in -1..1.
      chunk_samples: of a step; a multiple of the model's own (chunk_samples in its metadata.json).
      sample_rate: Hz. real_time: send each chunk when a microphone would have it.
      clock, sleep: seconds.

    Yields:
      A Partial after each step; last the dictionary of `recognise`.

    Raises:
      ClientError: the server is not there, or refuses.
    """
    state = connection.predict("stream_init", batch_size=np.array(1, np.int32))
    started = clock()
    whole = len(waveform) - len(waveform) % chunk_samples
    for start in range(0, whole, chunk_samples):
        end_seconds = (start + chunk_samples) / sample_rate
        due = started + end_seconds if real_time else clock()
        if due > clock():
            sleep(due - clock())
        outputs = connection.predict("stream_step", waveforms=waveform[None, start : start + chunk_samples], **state)
        state = {name: value for name, value in outputs.items() if name.startswith("state_")}
        is_endpoint = bool(outputs["is_endpoint"][0]) if "is_endpoint" in outputs else None
        yield Partial(_text(outputs["text"][0]), end_seconds, clock() - due, is_endpoint)
    rest = waveform[whole:]
    if real_time:
        sleep(max(started + len(waveform) / sample_rate - clock(), 0.0))
    yield _described(connection.predict("stream_finalize", waveforms=rest[None], num_samples=_count(rest), **state))


def _count(waveform):
    return np.array([len(waveform)], np.int32)


def _described(result):
    """Results for one utterance -> the dictionary of `recognise`."""
    fields = {
        "word": [_text(word) for word in result["words"][0]],
        **{
            name.removeprefix("word_"): [float(value) for value in result[name][0]]
            for name in sorted(result)
            if name.startswith("word_")
        },
    }
    count = int(result["num_words"][0])
    words = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)][:count]
    return {"text": _text(result["text"][0]), "log_prob": float(result["log_prob"][0]), "words": words}


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
