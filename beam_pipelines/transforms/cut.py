"""Where a recording is cut into utterances: by the voice activity that came with it, else by what we hear in it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tf_rnnt_kd import records
from tf_rnnt_kd.speech.segmentation import segment

# With voice activity from elsewhere: pauses longer than this are no part of an utterance, and so much of a pause is
# left at each end, since the first and last sounds of a word are found late or not at all.
_LONGEST_PAUSE_SECONDS = 1.0
_PADDING_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Piece:
    """Samples `start` to `end` of a recording; `in_speech` where one of its ends is in no pause."""

    start: int
    end: int
    in_speech: bool = False


@dataclasses.dataclass(frozen=True)
class Cuts:
    """All speech of a recording in order: `kept` becomes utterances, `too_short` could not be joined with any."""

    kept: tuple[Piece, ...]
    too_short: tuple[Piece, ...]


def cut(
    waveform: np.ndarray,
    *,
    min_seconds: float,
    max_seconds: float,
    speech: Sequence[tuple[float, float]] | None = None,
) -> Cuts:
    """A recording's pieces of `min_seconds` to `max_seconds`, cut in pauses.

    Args:
        waveform: float32 [S] at 16 kHz.
        speech: (start, end) in seconds of where people speak, in order and apart from one another; None: unknown.
    """
    if speech is None:
        return _heard(waveform, min_seconds=min_seconds, max_seconds=max_seconds)
    rate = records.SAMPLE_RATE
    regions = [(round(start * rate), min(round(end * rate), len(waveform))) for start, end in speech]
    regions = _joined([(start, end) for start, end in regions if start < end], longest=int(max_seconds * rate))
    kept, too_short = [], []
    for start, end in _padded(regions, longest=int(max_seconds * rate), num_samples=len(waveform)):
        if end - start > max_seconds * rate:
            inside = _heard(waveform[start:end], min_seconds=min_seconds, max_seconds=max_seconds)
            kept += [_moved(piece, by=start) for piece in inside.kept]
            too_short += [_moved(piece, by=start) for piece in inside.too_short]
        else:
            (kept if end - start >= min_seconds * rate else too_short).append(Piece(start, end))
    return Cuts(tuple(kept), tuple(too_short))


def _heard(waveform: np.ndarray, *, min_seconds: float, max_seconds: float) -> Cuts:
    found = segment(waveform, sample_rate=records.SAMPLE_RATE, min_seconds=min_seconds, max_seconds=max_seconds)
    kept, too_short = ([Piece(part.start, part.end, part.in_speech) for part in parts]
                       for parts in (found.kept, found.too_short))  # fmt: skip
    return Cuts(tuple(kept), tuple(too_short))


def _moved(piece: Piece, *, by: int) -> Piece:
    return Piece(piece.start + by, piece.end + by, piece.in_speech)


def _joined(regions: list[tuple[int, int]], *, longest: int) -> list[tuple[int, int]]:
    """Neighbours as one, from left to right, as long as pauses are short and the whole is at most `longest`."""
    pause = _LONGEST_PAUSE_SECONDS * records.SAMPLE_RATE
    joined: list[tuple[int, int]] = []
    for start, end in regions:
        if joined and start - joined[-1][1] <= pause and end - joined[-1][0] <= longest:
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def _padded(regions: list[tuple[int, int]], *, longest: int, num_samples: int) -> list[tuple[int, int]]:
    """Each region with the silence beside it: at most to the middle of the pause, and up to `longest` as a whole."""
    padding = int(_PADDING_SECONDS * records.SAMPLE_RATE)
    edges = [0, *((left[1] + right[0]) // 2 for left, right in zip(regions, regions[1:], strict=False)), num_samples]
    padded = []
    for index, (start, end) in enumerate(regions):
        room = max(0, min(padding, (longest - (end - start)) // 2))
        padded.append((max(start - room, edges[index]), min(end + room, edges[index + 1])))
    return padded
