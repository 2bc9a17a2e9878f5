"""Systems under test, and running one over a corpus: batches by length, timed.

A system is a callable `(waveforms [B, S] float32, num_samples [B] int32) -> list of B Hypothesis`, with a name and a
number of parameters. Two kinds exist: a SavedModel, seen through its signature alone, and a training's workdir.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.evaluation.latency import StreamTiming
from tf_rnnt_kd.model_versions import version_folder
from tf_rnnt_kd.records.schema import SAMPLE_RATE, Utterance
from tf_rnnt_kd.serving.metadata import read_metadata
from tf_rnnt_kd.serving.recognizer import Recognizer
from tf_rnnt_kd.training.workdir import load_model


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """What a system wrote, with the emission time of each word in seconds from the start of the audio.

    first_token_seconds: emission time of the first token; 0 without one, or where the system does not tell.
    word_confidence: of each word; empty where the system does not tell.
    """

    text: str
    word_end_seconds: tuple[float, ...]
    first_token_seconds: float = 0.0
    word_confidence: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class System:
    """A recogniser: `signature(waveforms, num_samples)` gives the tensors of `serving_default` (DESIGN section 5).

    timing: of its stream, None where it does not stream.
    """

    path: str
    signature: Callable[..., dict[str, tf.Tensor]]
    num_parameters: int
    timing: StreamTiming | None = None

    def __call__(self, waveforms: np.ndarray, num_samples: np.ndarray) -> list[Hypothesis]:
        outputs = self.signature(
            waveforms=tf.constant(waveforms, tf.float32), num_samples=tf.constant(num_samples, tf.int32)
        )
        texts, num_words, ends = (outputs[name].numpy() for name in ("text", "num_words", "word_end_seconds"))
        first = self._first_token_seconds(outputs)
        sure = outputs["word_confidence"].numpy() if "word_confidence" in outputs else np.zeros([len(texts), 0])
        return [
            Hypothesis(
                text=texts[row].decode(),
                word_end_seconds=tuple(ends[row, : num_words[row]].tolist()),
                first_token_seconds=first[row],
                word_confidence=tuple(sure[row, : num_words[row]].tolist()),
            )
            for row in range(len(texts))
        ]

    def _first_token_seconds(self, outputs: dict[str, tf.Tensor]) -> list[float]:
        """End of the frame of each utterance's first token."""
        if self.timing is None or not outputs["tokens"].shape[1]:
            return [0.0] * len(outputs["text"])
        frames, exists = outputs["token_frames"].numpy()[:, 0], outputs["num_tokens"].numpy() > 0
        return np.where(exists, (frames + 1) * self.timing.frame_seconds, 0.0).tolist()


@dataclasses.dataclass(frozen=True)
class Speed:
    """Seconds of computation and of audio of the timed batches, and how it was measured."""

    compute_seconds: float
    audio_seconds: float
    method: str

    @property
    def real_time_factor(self) -> float:
        """Computation over audio; below 1 is faster than speech. NaN without audio."""
        return self.compute_seconds / self.audio_seconds if self.audio_seconds else float("nan")


def load_saved_model(directory: str | Path) -> System:
    """An exported model: the folder of one version, or that of all, of which the newest is taken.

    Raises:
      ValueError: `directory` is no SavedModel, or not one with the signature of this project.
    """
    directory = version_folder(directory)
    metadata = read_metadata(directory)
    model = tf.saved_model.load(directory)
    if "serving_default" not in model.signatures:
        raise ValueError(f"{directory} has no signature serving_default, it has: {', '.join(model.signatures)}")
    # The signature's function does not keep the model alive: without it the variables are gone.
    signature = _KeepAlive(model.signatures["serving_default"], owner=model)
    return System(
        path=directory,
        signature=signature,
        num_parameters=int(metadata["num_parameters"]),
        timing=StreamTiming.from_metadata(metadata),
    )


def load_workdir(directory: str | Path) -> System:
    """The best weights of a training, run by the same graph that an export of them would hold.

    Raises:
      ValueError: `directory` holds no training that was evaluated yet.
    """
    trained = load_model(directory)
    recognizer = Recognizer(
        trained.model,
        tokenizer=trained.tokenizer,
        frontend=trained.frontend,
        search=trained.search,
    )
    # One trace for all shapes, as in a SavedModel.
    signature = tf.function(
        recognizer.recognise,
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="waveforms"),
            tf.TensorSpec([None], tf.int32, name="num_samples"),
        ],
        autograph=False,
    )
    timing = None
    if trained.model.is_streaming:
        hop_seconds = trained.frontend.hop / trained.frontend.sample_rate
        timing = StreamTiming(
            frame_seconds=recognizer.frame_seconds,
            chunk_seconds=trained.model.frames_per_step * hop_seconds,
            look_ahead_seconds=trained.model.look_ahead_frames * hop_seconds,
        )
    return System(
        path=str(directory), signature=signature, num_parameters=int(trained.model.count_params()), timing=timing
    )


class _KeepAlive:
    def __init__(self, function, *, owner):
        self._function, self._owner = function, owner

    def __call__(self, **arguments):
        return self._function(**arguments)


def bucket_seconds(seconds: float) -> float:
    """The length to which an utterance is padded: 1, 1.5, 2, 3, 4, 6, 8, ... seconds; less than a third is padding."""
    lengths = (step * 2.0**power for power in itertools.count() for step in (1.0, 1.5))
    return next(length for length in lengths if length >= seconds)


def batches(
    utterances: Iterable[Utterance], *, batch_size: int, max_batch_seconds: float
) -> Iterator[tuple[list[Utterance], np.ndarray, np.ndarray]]:
    """Groups utterances of one bucket of length: yields (utterances, waveforms [B, S], num_samples [B]).

    A batch has batch_size rows, fewer where they would exceed `max_batch_seconds` of padded audio, and fewer in the
    last of each bucket; so a corpus gives at most two shapes per bucket. Memory holds one open batch per bucket.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    open_batches: dict[float, list[Utterance]] = collections.defaultdict(list)
    for utterance in utterances:
        length = bucket_seconds(len(utterance.waveform) / SAMPLE_RATE)
        group = open_batches[length]
        group.append(utterance)
        if len(group) >= max(1, min(batch_size, int(max_batch_seconds / length))):
            yield _padded(open_batches.pop(length), length=length)
    for length in sorted(open_batches):
        yield _padded(open_batches[length], length=length)


def _padded(group: list[Utterance], *, length: float) -> tuple[list[Utterance], np.ndarray, np.ndarray]:
    waveforms = np.zeros([len(group), int(np.ceil(length * SAMPLE_RATE))], np.float32)
    for row, utterance in zip(waveforms, group, strict=True):
        row[: len(utterance.waveform)] = utterance.waveform
    return group, waveforms, np.array([len(utterance.waveform) for utterance in group], np.int32)


def transcribe(
    system: Callable[[np.ndarray, np.ndarray], list[Hypothesis]],
    *,
    utterances: Iterable[Utterance],
    batch_size: int = 16,
    max_batch_seconds: float = 320.0,
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[list[tuple[Utterance, Hypothesis]], Speed]:
    """Runs a system over utterances.

    Args:
      system: see the module's docstring.
      utterances: read once.
      batch_size: utterances at once, at most.
      max_batch_seconds: padded audio at once, at most (one utterance may be longer).
      progress: told the number of utterances done, after each batch.

    Returns:
      Pairs of utterance and hypothesis, sorted by utterance id; and the speed. The first batch of each shape runs twice
      and only the second is timed, so that tracing and compiling are not counted.
    """
    pairs: list[tuple[Utterance, Hypothesis]] = []
    shapes: set[tuple[int, ...]] = set()
    compute_seconds = audio_seconds = 0.0
    for group, waveforms, num_samples in batches(
        utterances, batch_size=batch_size, max_batch_seconds=max_batch_seconds
    ):
        if waveforms.shape not in shapes:
            shapes.add(waveforms.shape)
            system(waveforms, num_samples)
        start = time.perf_counter()
        hypotheses = system(waveforms, num_samples)
        compute_seconds += time.perf_counter() - start
        audio_seconds += float(num_samples.sum()) / SAMPLE_RATE
        pairs.extend(zip(group, hypotheses, strict=True))
        progress(len(group))
    devices = len(tf.config.list_physical_devices("GPU"))
    hardware = f"{devices} GPU" if devices else f"{len(os.sched_getaffinity(0))} CPU cores"
    method = (
        "wall-clock seconds from waveform in memory to text (features, encoder, search, detokenising) per second of "
        f"audio, on {hardware}, batches of up to {batch_size} utterances of similar length; tracing not counted"
    )
    pairs.sort(key=lambda pair: pair[0].utterance_id)
    return pairs, Speed(compute_seconds=compute_seconds, audio_seconds=audio_seconds, method=method)
