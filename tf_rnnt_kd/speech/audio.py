"""Audio files to waveforms: FLAC, WAV, OGG Vorbis -> float32 mono at one sample rate.

`containers.probe` first makes sure that the file is whole, then tensorflow-io decodes it. Everything that makes a file
useless for training raises `AudioError` with a `reason` to count by.
"""

import math
import os
import struct

import numpy as np
import tensorflow as tf
import tensorflow_io as tfio

from tf_rnnt_kd.speech.containers import AudioFormat, probe
from tf_rnnt_kd.speech.errors import AudioError

# -80 dBFS, about three steps of 16 bits: below it there is dither at most.
SILENCE_PEAK = 1e-4
# Float files may overshoot a little (they are clipped); far beyond 1 they are not scaled to -1..1 at all.
MAX_PEAK = 4.0
# Length of the resampler's filter, in samples at the lower of the two rates (it rounds up to a multiple of 8).
_RESAMPLER_TAPS = 64


def decode_audio(
    source: bytes | str | os.PathLike, *, target_rate: int = 16000, min_seconds: float = 0.0
) -> np.ndarray:
    """Decodes a file's content, or the file at a path (of any file system that `tf.io.gfile` knows).

    Several channels are averaged, another sample rate is resampled (ceil(S * target_rate / rate) samples).

    Args:
        source: the bytes of a file, or its path.
        target_rate: samples per second of the result.
        min_seconds: less than this is refused as too short; an empty waveform always is.

    Returns:
        Float32 [S] in -1..1.

    Raises:
        AudioError: with one of the reasons in `speech.errors.REASONS`.
    """
    content = source if isinstance(source, bytes) else _read(os.fspath(source))
    audio = probe(content)
    try:
        channels = _DECODERS[audio.kind](content, audio)
    except tf.errors.OpError as error:
        raise AudioError("damaged", f"the decoder refuses it: {error.message}") from error
    if audio.num_samples not in (None, len(channels)):
        raise AudioError("damaged", f"decoded to {len(channels)} samples, the file promises {audio.num_samples}")
    if len(channels) < max(1, min_seconds * audio.sample_rate):
        raise AudioError("too_short", f"{len(channels)} samples at {audio.sample_rate} Hz")
    if not np.isfinite(channels).all():
        raise AudioError("non_finite", f"{np.count_nonzero(~np.isfinite(channels))} samples are NaN or infinite")
    peak = np.abs(channels).max()
    if peak > MAX_PEAK:
        raise AudioError("out_of_range", f"float samples reach {peak:.6g}: scale them to -1..1")
    waveform = channels.mean(axis=1)
    if np.abs(waveform - waveform.mean()).max() < SILENCE_PEAK:
        raise AudioError("silence", f"no sample is louder than {SILENCE_PEAK} ({len(waveform)} samples)")
    if audio.sample_rate != target_rate:
        waveform = resample(waveform, from_rate=audio.sample_rate, to_rate=target_rate)
    return np.clip(waveform, -1.0, 1.0)


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
    ]
)
def _resample(waveform: tf.Tensor, from_rate: tf.Tensor, to_rate: tf.Tensor) -> tf.Tensor:
    return tfio.audio.resample(waveform, from_rate, to_rate)


def _read(path: str) -> bytes:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.NotFoundError as error:
        raise AudioError("missing_audio", f"{path} does not exist") from error
    except tf.errors.OpError as error:
        raise AudioError("unreadable", f"{path} cannot be read: {error.message}") from error


def _decode_flac(content: bytes, audio: AudioFormat) -> np.ndarray:
    return _decode_integers(tfio.audio.decode_flac, content, audio)


def _decode_wav(content: bytes, audio: AudioFormat) -> np.ndarray:
    content = _plain_wav(content, audio)
    if audio.bits != 32:
        return _decode_integers(tfio.audio.decode_wav, content, audio)
    samples = tfio.audio.decode_wav(content, dtype=tf.float32)
    if audio.is_float:
        return samples.numpy()
    # tensorflow-io takes every 32-bit sample for a float: read the same bits as what they are.
    return (tf.bitcast(samples, tf.int32).numpy() / 2.0**31).astype(np.float32)


def _plain_wav(content: bytes, audio: AudioFormat) -> bytes:
    """The same samples behind the plainest header: tensorflow-io stumbles over chunks of odd length."""
    sample_bytes = audio.channels * audio.bits // 8
    size = audio.num_samples * sample_bytes
    tag, rate = (3 if audio.is_float else 1), audio.sample_rate
    form = struct.pack("<HHIIHH", tag, audio.channels, rate, rate * sample_bytes, sample_bytes, audio.bits)
    header = struct.pack("<4sI8sI16s4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, form, b"data", size)
    return header + content[audio.data_start : audio.data_start + size]


def _decode_ogg(content: bytes, audio: AudioFormat) -> np.ndarray:
    del audio  # always float
    return tfio.audio.decode_vorbis(content).numpy()


def _decode_integers(decode, content: bytes, audio: AudioFormat) -> np.ndarray:
    dtype, offset, scale = _INTEGERS[audio.bits]
    samples = decode(content, dtype=dtype).numpy()
    return ((samples.astype(np.float64) - offset) / scale).astype(np.float32)


# bits -> dtype, zero, full scale: 8 bits come unsigned, 24 bits at the top of 32.
_INTEGERS = {8: (tf.uint8, 128, 2.0**7), 16: (tf.int16, 0, 2.0**15), 24: (tf.int32, 0, 2.0**31)}
_DECODERS = {"flac": _decode_flac, "wav": _decode_wav, "ogg": _decode_ogg}
