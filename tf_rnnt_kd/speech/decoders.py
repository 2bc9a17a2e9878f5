"""The samples of a file that `containers.probe` has found whole.

tensorflow-io decodes FLAC, plain WAV, Vorbis and MP3, libsndfile (python-soundfile) what it lacks. Samples are float32
[S, channels], as the file has them.
"""

import io
import os
import re
import struct

import numpy as np
import soundfile
import tensorflow as tf
import tensorflow_io as tfio

from tf_rnnt_kd.speech import flac
from tf_rnnt_kd.speech.audio_format import AudioFormat
from tf_rnnt_kd.speech.errors import AudioError

# Others are no speech but a damaged header, and a resampling filter for them would fill the memory.
MIN_RATE, MAX_RATE = 4000, 192000
# What libsndfile is asked for at a time, because it may promise more than there is.
_BLOCK = 1 << 20
# libsndfile's errors for what it knows, and cannot decode: format not recognised, unsupported, unimplemented.
_NOT_DECODED = (1, 4, 18)
# Where in TensorFlow an error came from.
_NODE = re.compile(r"\{\{function_node [^}]*\}\} | \[Op:[^]]*\]")


def decode(content: bytes, audio: AudioFormat, *, max_seconds: float) -> tuple[np.ndarray, int]:
    """Samples and sample rate.

    Args:
        content: the file.
        audio: what `containers.probe` says about it.
        max_seconds: more is not decoded.

    Raises:
        AudioError: too_long, unsupported_format, or damaged where the decoder refuses it or finds another number of
            samples.
    """
    if audio.sample_rate:
        _check_extent(audio.num_samples or 0, audio.sample_rate, max_seconds)
    try:
        if audio.decoder == "sndfile":
            samples, rate = _decode_sndfile(content, max_seconds)
        elif audio.decoder == "mp3":
            samples, rate = _decode_mp3(content, audio, max_seconds)
        else:
            samples, rate = _DECODERS[audio.decoder](content, audio), audio.sample_rate
    except tf.errors.OpError as error:
        message = _NODE.sub("", error.message)
        raise AudioError("damaged", f"the decoder refuses it: {message}") from error
    except soundfile.LibsndfileError as error:  # its text has an address in it
        reason = "unsupported_format" if error.code in _NOT_DECODED else "damaged"
        raise AudioError(reason, f"the decoder refuses it: {error.error_string}") from error
    promised = None if audio.slack is None else audio.num_samples
    if promised is not None and abs(promised - len(samples)) > audio.slack:
        raise AudioError("damaged", f"decoded to {len(samples)} samples, the file promises {promised}")
    return samples, rate


def _check_extent(num_samples: int, rate: int, max_seconds: float) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError("unsupported_format", f"{rate} samples per second: {MIN_RATE} to {MAX_RATE} are decoded")
    if num_samples > max_seconds * rate:
        raise AudioError(
            "too_long", f"{num_samples / rate:.0f} seconds, at most {max_seconds:g} are decoded: cut it into parts"
        )


def _decode_flac(content: bytes, audio: AudioFormat) -> np.ndarray:
    return _decode_integers(tfio.audio.decode_flac, flac.plain(content, audio), audio.bits)


def _decode_wav(content: bytes, audio: AudioFormat) -> np.ndarray:
    content = _plain_wav(content, audio)
    if audio.bits != 32:
        return _decode_integers(tfio.audio.decode_wav, content, audio.bits)
    samples = tfio.audio.decode_wav(content, dtype=tf.float32)
    if audio.is_float:
        return samples.numpy()
    # tensorflow-io takes every 32-bit sample for a float: read the same bits as what they are.
    return tf.bitcast(samples, tf.int32).numpy().astype(np.float32) / np.float32(2.0**31)


def _plain_wav(content: bytes, audio: AudioFormat) -> bytes:
    """The same samples behind the plainest header: tensorflow-io stumbles over chunks of odd length."""
    sample_bytes = audio.channels * audio.bits // 8
    size = audio.num_samples * sample_bytes
    tag, rate = (3 if audio.is_float else 1), audio.sample_rate
    form = struct.pack("<HHIIHH", tag, audio.channels, rate, rate * sample_bytes, sample_bytes, audio.bits)
    header = struct.pack("<4sI8sI16s4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, form, b"data", size)
    return header + content[audio.data_start : audio.data_start + size]


def _decode_vorbis(content: bytes, audio: AudioFormat) -> np.ndarray:
    return tfio.audio.decode_vorbis(content).numpy()


def _decode_mp3(content: bytes, audio: AudioFormat, max_seconds: float) -> tuple[np.ndarray, int]:
    try:
        return tfio.audio.decode_mp3(content).numpy(), audio.sample_rate
    except tf.errors.OpError:
        # It refuses what begins in the middle of a longer recording; libsndfile leaves such a first frame out.
        return _decode_sndfile(content, max_seconds)


def _decode_integers(decode, content: bytes, bits: int) -> np.ndarray:
    dtype, offset, scale = _INTEGERS[bits]
    samples = decode(content, dtype=dtype).numpy().astype(np.float32)  # exact: 24 bits at most
    samples -= np.float32(offset)
    samples /= np.float32(scale)
    return samples


def _decode_sndfile(content: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(_Memory(content)) as file:
        _check_extent(0, file.samplerate, max_seconds)
        blocks, num_samples = [], 0
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block)
            num_samples += len(block)
            _check_extent(num_samples, file.samplerate, max_seconds)
        return np.concatenate(blocks or [np.zeros([0, 1], np.float32)]), file.samplerate


class _Memory(io.BytesIO):
    """A file's content for libsndfile, which asks damaged files for places before their beginning."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return -1


# bits -> dtype, zero, full scale: 8 bits come unsigned, more than 16 shifted up by 8 bits.
_INTEGERS = {
    8: (tf.uint8, 128, 2.0**7),
    12: (tf.int32, 0, 2.0**19),
    16: (tf.int16, 0, 2.0**15),
    20: (tf.int32, 0, 2.0**27),
    24: (tf.int32, 0, 2.0**31),
}
_DECODERS = {"flac": _decode_flac, "wav": _decode_wav, "vorbis": _decode_vorbis}
