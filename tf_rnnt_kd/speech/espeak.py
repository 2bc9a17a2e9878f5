"""eSpeak NG through ctypes, from the package `espeakng-loader`: text to samples with the times of its words.

The library keeps state of its own (phases of its oscillators) that no call resets, so what it says depends on what it
said before in the same process. For equal bytes make the same calls in a fresh process.
"""

import ctypes
import functools
import re
from pathlib import Path

import numpy as np

from tf_rnnt_kd.extras import missing

NATIVE_RATE = 22050
# eSpeak's voice files for English; the Shavian alphabet is not one of sound.
ACCENTS = (
    "en-us",
    "en-us-nyc",
    "en",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-scotland",
    "en-029",
)

_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DO_NOT_EXIT = 0x1, 0x8000
_RATE, _PITCH, _PITCH_RANGE, _WORD_GAP = 1, 3, 4, 7
_UTF8 = 1
_END_OF_LIST, _WORD, _PHONEME = 0, 1, 7


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Engine:
    """The one eSpeak of this process; get it from `engine()`."""

    def __init__(self):
        try:
            import espeakng_loader
        except ModuleNotFoundError as error:
            raise missing("demo", error) from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = Path(espeakng_loader.get_data_path())
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, bytes(data), _PHONEME_EVENTS | _DO_NOT_EXIT)
        if rate != NATIVE_RATE:
            raise ValueError(f"eSpeak NG did not start (sample rate {rate}): reinstall espeakng-loader")
        self._variants = {file.name for file in (data / "voices" / "!v").iterdir()}
        # Both are used for breath and jitter, and eSpeak would seed its own from the clock.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        ctypes.CDLL(None).srand(1)
        self._chunks: list[np.ndarray] = []
        self._events: list[tuple[int, int, int, bytes]] = []
        self._callback = _Callback(self._receive)  # the library keeps the pointer, so we must keep the object
        self._library.espeak_SetSynthCallback(self._callback)

    def say(
        self, text: str, *, voice: str, rate: int = 175, pitch: int = 50, pitch_range: int = 50, word_gap: int = 0
    ) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
        """Speaks a text.

        Args:
            text: words, commas between them make pauses.
            voice: accent, or accent+variant, as "en-us+f2".
            rate: words per minute.
            pitch, pitch_range: 0..99.
            word_gap: extra pause between words, in units of 10 ms.

        Returns:
            Samples float32 [S] in -1..1 at `NATIVE_RATE`, and (word, start, end) in seconds. A word ends where the
            next one or a pause begins.

        Raises:
            ValueError: no such voice, nothing was said, or eSpeak read two words as one.
        """
        variant = voice.partition("+")[2]  # eSpeak itself passes over a variant that it does not have
        if (variant and variant not in self._variants) or self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"eSpeak has no voice {voice!r}: take one of {ACCENTS}, a plus sign, and a variant")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_PITCH_RANGE, pitch_range), (_WORD_GAP, word_gap)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        self._events.clear()
        encoded = text.encode()
        status = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        if status or not self._chunks:
            raise ValueError(f"eSpeak said nothing for {text!r} (status {status})")
        samples = np.concatenate(self._chunks)
        return samples.astype(np.float32) / np.float32(32768.0), self._word_times(text, len(samples))

    def _receive(self, samples, count, events) -> int:
        if count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END_OF_LIST:
            event = events[index]
            symbol = event.id.string if event.type == _PHONEME else b""
            self._events.append((event.type, event.text_position, event.sample, symbol))
            index += 1
        return 0

    def _word_times(self, text: str, num_samples: int) -> list[tuple[str, float, float]]:
        words = {match.start() + 1: match.group() for match in re.finditer(r"[^\s,]+", text)}
        starts = {position: sample for kind, position, sample, _ in self._events if kind == _WORD}
        if list(starts) != list(words):
            raise ValueError(f"eSpeak read {len(starts)} words in {text!r}, expected {len(words)}: use other words")
        # Phonemes that begin with an underscore are pauses.
        breaks = [sample for kind, _, sample, symbol in self._events if kind == _PHONEME and symbol.startswith(b"_")]
        limits = sorted([*breaks, *starts.values(), num_samples])
        return [
            (word, starts[position] / NATIVE_RATE, next(x for x in limits if x > starts[position]) / NATIVE_RATE)
            for position, word in words.items()
        ]


@functools.cache
def engine() -> Engine:
    """The process's engine, made at the first call.

    Raises:
        ValueError: espeakng-loader is missing or broken.
    """
    return Engine()
