"""Latency of a stream: how much audio has gone by when its listener reads what was said.

`delay` counts to the end of the frame at which a word was emitted. Who calls stream_step waits longer: for the whole
step, and for the audio that the encoder looks ahead to. What a stream returns and when follows from the tokens' frames,
since streamed equals offline; so the figures need no second decoding. Time is that of the audio, as if computation took
none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_rnnt_kd.evaluation import delay, wer

HEADER = (
    "system", "split", "step, ms", "look-ahead, ms", "words", "mean, ms", "median", "95 %", "first tokens", "mean, ms",
    "median", "95 %",
)  # fmt: skip
"""Of the columns of `table_rows`."""


@dataclasses.dataclass(frozen=True)
class StreamTiming:
    """When a streaming model's encoder frames come out, in seconds.

    Args:
      frame_seconds: length of an encoder frame.
      chunk_seconds: what the encoder takes at once; a step takes a multiple of it.
      look_ahead_seconds: audio after its own end that a frame needs at most.
      step_seconds: what the client gives at once; None: one chunk.
    """

    frame_seconds: float
    chunk_seconds: float
    look_ahead_seconds: float
    step_seconds: float | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> StreamTiming | None:
        """Of an exported model, by its metadata.json; None where it does not stream."""
        if not metadata.get("streaming"):
            return None
        return cls(
            frame_seconds=metadata["frame_seconds"],
            chunk_seconds=metadata["chunk_samples"] / metadata["sample_rate"],
            look_ahead_seconds=metadata["look_ahead_seconds"],
        )

    def emission_seconds(self, frame_end_seconds: Sequence[float], *, duration_seconds: float) -> np.ndarray:
        """Seconds of audio that have gone by when the stream returns what was emitted at given frames.

        Args:
          frame_end_seconds: ends of these frames, in seconds from the beginning.
          duration_seconds: of the whole stream; finalize comes then, and returns all that is left.

        Returns:
          float64, as many.
        """
        # A part of the look-ahead is the rest of the chunk, for which a step waits anyway.
        delay_seconds = self.look_ahead_seconds - (self.chunk_seconds - self.frame_seconds)
        ends = np.round(np.asarray(frame_end_seconds, np.float64) / self.frame_seconds) * self.frame_seconds
        step = self.step_seconds or self.chunk_seconds
        # Not a step later for a rounding error.
        steps = np.ceil((ends + delay_seconds) / step - 1e-6)
        return np.minimum(steps * step, duration_seconds)


def first_token_delays(
    references: Sequence[str],
    *,
    reference_start_seconds: Sequence[float],
    hypotheses: Sequence[str],
    first_token_seconds: Sequence[float],
) -> np.ndarray:
    """Seconds from the beginning of each utterance's first word to the first token that the system gave out.

    Only utterances whose first word is right count: of others it is not known what the token was for.

    Args:
      references: N normalised texts.
      reference_start_seconds: when each one's first word begins in the audio; any number where it has none.
      hypotheses: N normalised texts.
      first_token_seconds: when the system gave out each one's first token; any number where it has none.

    Returns:
      float64 [number of such utterances], in their order.
    """
    aligned = wer.align(references, hypotheses=hypotheses)
    delays = [
        written - spoken
        for chunks, spoken, written in zip(
            aligned.alignments, reference_start_seconds, first_token_seconds, strict=True
        )
        if any(chunk.type == "equal" and chunk.ref_start_idx == chunk.hyp_start_idx == 0 for chunk in chunks)
    ]
    return np.asarray(delays, np.float64)


def measure(
    timing: StreamTiming,
    *,
    spoken: Sequence[Sequence[tuple[str, float, float]]],
    hypotheses: Sequence[str],
    word_end_seconds: Sequence[Sequence[float]],
    first_token_seconds: Sequence[float],
    duration_seconds: Sequence[float],
) -> dict[str, Any] | None:
    """Latencies of a system over N utterances.

    Args:
      timing: of its stream.
      spoken: (word, start, end) of each utterance's words, in seconds.
      hypotheses: normalised texts.
      word_end_seconds: end of the frame of each word's last token.
      first_token_seconds: end of the frame of each one's first token, any number where there is none.
      duration_seconds: of each utterance.

    Returns:
      {"step_seconds", "look_ahead_seconds", "words", "first_tokens"}: the last two with the fields of a DelaySummary.
      `words`: from a word's end to its last token, over correct words; `first_tokens`: see first_token_delays, None
      where there is none. None without any correct word.
    """
    references = [" ".join(word for word, _, _ in words) for words in spoken]
    latencies = delay.emission_delays(
        references,
        reference_end_seconds=[[end for _, _, end in words] for words in spoken],
        hypotheses=hypotheses,
        hypothesis_end_seconds=[
            timing.emission_seconds(ends, duration_seconds=duration)
            for ends, duration in zip(word_end_seconds, duration_seconds, strict=True)
        ],
    )
    if not len(latencies):
        return None
    first_tokens = first_token_delays(
        references,
        reference_start_seconds=[words[0][1] if words else 0.0 for words in spoken],
        hypotheses=hypotheses,
        first_token_seconds=[
            float(timing.emission_seconds([end], duration_seconds=duration)[0])
            for end, duration in zip(first_token_seconds, duration_seconds, strict=True)
        ],
    )
    return {
        "step_seconds": timing.step_seconds or timing.chunk_seconds,
        "look_ahead_seconds": timing.look_ahead_seconds,
        "words": dataclasses.asdict(delay.summarise(latencies)),
        "first_tokens": dataclasses.asdict(delay.summarise(first_tokens)) if len(first_tokens) else None,
    }


def table_rows(systems: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row below HEADER for each system (of results.json) with a latency."""
    rows = []
    for system in systems:
        if measured := system["latency"]:
            figures = [cell for name in ("words", "first_tokens") for cell in _figures(measured[name])]
            times = [f"{1000 * measured[name]:.0f}" for name in ("step_seconds", "look_ahead_seconds")]
            rows.append([system["name"], system["split"], *times, *figures])
    return rows


def _figures(summary: Mapping[str, Any] | None) -> list[str]:
    if summary is None:
        return ["0", "", "", ""]
    return [f"{summary['words']:,}", *(f"{1000 * summary[name]:.0f}" for name in ("mean", "p50", "p95"))]
