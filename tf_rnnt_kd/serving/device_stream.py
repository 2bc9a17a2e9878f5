"""The host's side of a recogniser for devices: cuts audio into chunks, carries the state, joins tokens to text.

Works with whatever runs the step of device.py on arrays: LiteRT, a signature of a SavedModel.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_rnnt_kd.text.pieces import WORD_START


class Transcript(NamedTuple):
    """text; tokens, token_frames (int) and token_confidence of each; word_end_seconds of each word; log_prob of the
    path."""

    text: str
    tokens: list[int]
    token_frames: list[int]
    token_confidence: list[float]
    word_end_seconds: list[float]
    log_prob: float


class DeviceStream:
    """One stream. Give it samples with `accept`, in pieces of any length, and `finish` it.

    Args:
      step: what takes waveforms [1, chunk], num_samples [1] and the state by name, and returns arrays by name.
      metadata: of the export: `pieces`, `frame_seconds`, and under `device` `chunk_samples`, `flush_chunks`,
        `hop_samples` and `state`, see DeviceRecognizer.
    """

    def __init__(self, step: Callable[..., Mapping[str, np.ndarray]], *, metadata: Mapping[str, Any]):
        self._step, self._metadata, self._device = step, metadata, metadata["device"]
        self._state = initial_state(self._device["state"])
        self._waiting = np.zeros([0], np.float32)
        self._num_samples = 0
        self._tokens: list[int] = []
        self._frames: list[int] = []
        self._confidence: list[float] = []
        self._log_prob = 0.0

    def accept(self, samples) -> list[int]:
        """Takes samples, float32 [S], and returns the tokens that they added."""
        self._num_samples += len(samples)
        self._waiting = np.concatenate([self._waiting, np.asarray(samples, np.float32)])
        count, size = len(self._tokens), self._device["chunk_samples"]
        while len(self._waiting) >= size:
            self._advance(self._waiting[:size])
            self._waiting = self._waiting[size:]
        return self._tokens[count:]

    def finish(self) -> Transcript:
        """The end of the stream. Less than a hop of samples in all is no speech."""
        if self._num_samples >= self._device["hop_samples"]:
            if len(self._waiting):
                self._advance(self._waiting)
            for _ in range(self._device["flush_chunks"]):
                self._advance(self._waiting[:0])
        pieces = self._metadata["pieces"]
        return Transcript(
            text=text_of(self._tokens, pieces=pieces),
            tokens=self._tokens,
            token_frames=self._frames,
            token_confidence=self._confidence,
            word_end_seconds=self._word_ends(pieces),
            log_prob=self._log_prob,
        )

    def _advance(self, samples):
        chunk = np.zeros([1, self._device["chunk_samples"]], np.float32)
        chunk[0, : len(samples)] = samples
        outputs = self._step(waveforms=chunk, num_samples=np.array([len(samples)], np.int32), **self._state)
        self._state = {name: outputs[name] for name in self._state}
        count = int(outputs["num_tokens"][0])
        self._tokens += outputs["tokens"][0, :count].tolist()
        self._frames += outputs["token_frames"][0, :count].tolist()
        self._confidence += outputs["token_confidence"][0, :count].tolist()
        self._log_prob += float(outputs["log_prob"][0])

    def _word_ends(self, pieces):
        """End of the frame of each word's last token; a mark that no letter follows gives no word."""
        words = []
        for token, frame in zip(self._tokens, self._frames, strict=True):
            if pieces[token].startswith(WORD_START) or not words:
                words.append(["", 0])
            words[-1] = [words[-1][0] + pieces[token].replace(WORD_START, ""), frame]
        return [(frame + 1) * self._metadata["frame_seconds"] for letters, frame in words if letters]


def transcribe(step, waveform, *, metadata) -> Transcript:
    """Of one utterance, float32 [S], from its first sample to its last."""
    stream = DeviceStream(step, metadata=metadata)
    stream.accept(waveform)
    return stream.finish()


def initial_state(described) -> dict[str, np.ndarray]:
    """{name: array} of `metadata["device"]["state"]`: each {"shape", "dtype", "initial"}, a number or nested lists."""
    return {
        name: np.broadcast_to(np.array(one["initial"], one["dtype"]), one["shape"]).copy()
        for name, one in described.items()
    }


def describe_state(state) -> dict[str, dict[str, Any]]:
    """The inverse of `initial_state`, as JSON takes it; nearly all of a state is one number."""
    described = {}
    for name, value in state.items():
        value = np.asarray(value)
        is_constant = value.size == 0 or bool(np.all(value == value.flat[0]))
        initial = (value.flat[0].item() if value.size else 0) if is_constant else value.tolist()
        described[name] = {"shape": list(value.shape), "dtype": value.dtype.name, "initial": initial}
    return described


def text_of(tokens, *, pieces) -> str:
    """Text of token ids: words separated by one space."""
    return " ".join("".join(pieces[token] for token in tokens).replace(WORD_START, " ").split())
