"""Audio files to waveforms: FLAC, WAV, OGG, MP3, AIFF and more -> float32 mono at one sample rate.

`files` reads a file, `containers` makes sure that it is whole, `decoders` has its samples decoded. Everything that
makes a file useless for training raises `AudioError` with a `reason` to count by.
"""

import math
import os

import numpy as np
import tensorflow as tf
import tensorflow_io as tfio

from tf_rnnt_kd.speech.containers import probe
from tf_rnnt_kd.speech.decoders import decode
from tf_rnnt_kd.speech.errors import AudioError
from tf_rnnt_kd.speech.files import read_file
from tf_rnnt_kd.speech.level import SILENCE_PEAK

# Float files may overshoot a little (they are clipped); far beyond 1 they are not scaled to -1..1 at all.
MAX_PEAK = 4.0
# A file's samples are held in memory as a whole: 12 hours at 16 kHz are 2.8 GB.
MAX_SECONDS = 12 * 3600.0
# Length of the resampler's filter, in samples at the lower of the two rates (it rounds up to a multiple of 8).
_RESAMPLER_TAPS = 64


def decode_audio(
    source: bytes | str | os.PathLike,
    *,
    target_rate: int = 16000,
    min_seconds: float = 0.0,
    max_seconds: float = MAX_SECONDS,
) -> np.ndarray:
    """Decodes a file's content, or the file at a path (of any file system that `tf.io.gfile` knows).

    Several channels are averaged, another sample rate is resampled (ceil(S * target_rate / rate) samples).

    Args:
        source: the bytes of a file, or its path.
        target_rate: samples per second of the result.
        min_seconds: less than this is refused as too short; an empty waveform always is.
        max_seconds: more than this is refused as too long, before it is decoded.

    Returns:
        Float32 [S] in -1..1.

    Raises:
        AudioError: with one of the reasons in `speech.errors.REASONS`.
    """
    content = source if isinstance(source, bytes) else read_file(os.fspath(source))
    channels, rate = _decoded(content, max_seconds)
    if len(channels) < max(1, min_seconds * rate):
        raise AudioError("too_short", f"{len(channels)} samples at {rate} Hz")
    peak = max(channels.max(), -channels.min())  # NaN if there is one; no copies, an hour is long
    if not np.isfinite(peak):
        raise AudioError("non_finite", f"{np.count_nonzero(~np.isfinite(channels))} samples are NaN or infinite")
    if peak > MAX_PEAK:
        raise AudioError("out_of_range", f"float samples reach {peak:.6g}: scale them to -1..1")
    waveform = channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)
    mean = waveform.mean()
    if max(waveform.max() - mean, mean - waveform.min()) < SILENCE_PEAK:
        raise AudioError("silence", f"no sample is louder than {SILENCE_PEAK} ({len(waveform)} samples)")
    if rate != target_rate:
        waveform = resample(waveform, from_rate=rate, to_rate=target_rate)
    return np.clip(waveform, -1.0, 1.0)


def _decoded(content: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    """Samples [S, channels] and sample rate; whatever goes wrong is a reason to refuse one file, not to end a job."""
    try:
        return decode(content, probe(content), max_seconds=max_seconds)
    except (AudioError, MemoryError):
        raise
    except Exception as error:
        raise AudioError("decoder_failed", f"{type(error).__name__}: {error}") from error


def resample(waveform: np.ndarray, *, from_rate: int, to_rate: int) -> np.ndarray:
    """Float32 [S] -> float32 [ceil(S * to_rate / from_rate)], in step with the input.

    tensorflow-io's resampler puts out half its filter before the signal, and drops as much at the end. Zeros on both
    sides make up for it: so many in front that the signal begins on a whole output sample.
    """
    taps = _RESAMPLER_TAPS
    if from_rate > to_rate:
        taps = -(-(taps * from_rate // to_rate) // 8) * 8
    period = from_rate // math.gcd(from_rate, to_rate)
    front = -(taps // 2) % period
    start = (front + taps // 2) * to_rate // from_rate
    num_samples = -(-len(waveform) * to_rate // from_rate)
    padded = np.pad(waveform.astype(np.float32), (front, taps + period))
    return _resample(padded, from_rate, to_rate).numpy()[start : start + num_samples]


# As a tf.function it is traced once; called eagerly tensorflow-io traces it anew for every length.
@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.float32),
        tf.TensorSpec([], tf.int64),
        tf.TensorSpec([], tf.int64),
    ],
    autograph=False,
)
def _resample(waveform: tf.Tensor, from_rate: tf.Tensor, to_rate: tf.Tensor) -> tf.Tensor:
    return tfio.audio.resample(waveform, from_rate, to_rate)
