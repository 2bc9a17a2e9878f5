"""Long recordings into utterances, cut in pauses.

`webrtcvad` says of every 10 ms whether it is speech (docs/decisions/0011-voice-activity.md). The rest is here: pauses
are where a recording may be cut, and a shortest path through them finds the cuts: as few as possible, in the longest
pauses, so that no utterance is longer than it may be and as few as possible are too short. Where somebody speaks on
without a pause for longer than that, the cut lies at the quietest place and the utterances beside it say so.
"""

import bisect
import dataclasses

import numpy as np
import webrtcvad

from tf_rnnt_kd.speech.level import active_power, block_power

SAMPLE_RATES = (8000, 16000, 32000, 48000)
_FRAMES_PER_SECOND = 100
# Of 0 to 3. At 3 it hears pauses in the middle of words.
_AGGRESSIVENESS = 2
# The detector knows levels of telephony: the active part of a recording is brought to this RMS (-23 dBFS).
_ACTIVE_RMS = 0.07
# Seconds that are converted to 16 bits at a time.
_CHUNK_SECONDS = 60
# What the shortest path weighs. A cut in a pause of d seconds costs 1 / d^2, a second of silence that stays in an
# utterance (beyond the first of each pause) 1. Then come utterances that are too short, and last cuts within speech.
# The steps are wide enough for any recording: a cut in the shortest pause costs 25.
_SHORT_COST, _IN_SPEECH_COST = 1e3, 1e6
_SILENCE_SECONDS, _SILENCE_COST = 1.0, 1.0
# So much of the padding is kept even where an utterance would be longer than it may otherwise, in seconds.
_MARGIN_SECONDS = 0.1
_MARGIN = round(_MARGIN_SECONDS * _FRAMES_PER_SECOND)
# The detector lets speech ring on. Where it hears no pause for too long, what is so much quieter is one as well.
_QUIET_DB = 30.0
# Energy is looked at over so many frames, so that a cut does not fall into one period of a voice.
_SMOOTHING = 5


@dataclasses.dataclass(frozen=True)
class Segment:
    """Samples `start` to `end` of a recording; `in_speech` where one of its ends was cut without a pause."""

    start: int
    end: int
    in_speech: bool = False


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """All speech of a recording: `kept` are utterances, `too_short` could not be joined with any; both in order."""

    kept: tuple[Segment, ...]
    too_short: tuple[Segment, ...]


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A place for a cut, in frames: speech ends at `silent` and goes on at `sound`; an utterance to the left ends at
    `before`, one to the right begins at `after`."""

    silent: int
    sound: int
    before: int
    after: int
    in_speech: bool = False


def segment(
    waveform: np.ndarray,
    *,
    sample_rate: int,
    min_seconds: float,
    max_seconds: float,
    min_pause_seconds: float = 0.2,
    padding_seconds: float = 0.25,
) -> Segmentation:
    """Cuts a recording into utterances.

    Args:
        waveform: float32 [S] in -1..1. Memory beyond it: some bytes per 10 ms.
        sample_rate: one of `SAMPLE_RATES`.
        min_seconds, max_seconds: how long an utterance is. The longest is never exceeded.
        min_pause_seconds: shorter silences are part of a word, as in front of a plosive.
        padding_seconds: so much silence is left at both ends of an utterance, if there is; the detector hears the
            first and last sounds of a word late or not at all.

    Returns:
        All speech that was found, in segments that do not overlap. What lies between them is silence; a recording
        without speech has none.

    Raises:
        ValueError: a wrong sample rate, or lengths that do not fit.
    """
    if sample_rate not in SAMPLE_RATES:
        raise ValueError(f"sample_rate {sample_rate}: voice activity is detected at {SAMPLE_RATES}, resample to 16000")
    if not 0 <= min_seconds <= max_seconds / 2 or max_seconds < 1:
        raise ValueError(
            f"max_seconds must be at least 1 and twice min_seconds: got {min_seconds} to {max_seconds} seconds"
        )
    frame = sample_rate // _FRAMES_PER_SECOND
    power = block_power(waveform, block=frame)
    limit, padding, min_pause = _frames(max_seconds), _frames(padding_seconds), _frames(min_pause_seconds)
    runs = _speech_runs(waveform, power, sample_rate=sample_rate, min_pause=min_pause)
    if not runs:
        return Segmentation((), ())
    runs = _divided(runs, power, limit=limit - 2 * _MARGIN, min_pause=min_pause)
    cuts = _candidates(runs, power, limit=limit - 2 * _MARGIN, padding=padding)
    chosen = _cheapest(cuts, limit=limit, least=_frames(min_seconds))
    kept: list[Segment] = []
    too_short: list[Segment] = []
    for left, right in zip(chosen, chosen[1:], strict=False):
        start, end = _limited(left, right, limit)
        part = Segment(start * frame, min(end * frame, len(waveform)), left.in_speech or right.in_speech)
        (kept if end - start >= _frames(min_seconds) else too_short).append(part)
    return Segmentation(tuple(kept), tuple(too_short))


def _frames(seconds: float) -> int:
    return round(seconds * _FRAMES_PER_SECOND)


def _speech_runs(
    waveform: np.ndarray, power: np.ndarray, *, sample_rate: int, min_pause: int
) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of each stretch of speech; shorter pauses are part of it."""
    active = np.sqrt(active_power(power))
    if not active:
        return []
    detector = webrtcvad.Vad(_AGGRESSIVENESS)
    frame = sample_rate // _FRAMES_PER_SECOND
    speech = np.zeros(len(waveform) // frame, bool)
    step = _CHUNK_SECONDS * _FRAMES_PER_SECOND
    for first in range(0, len(speech), step):
        chunk = waveform[first * frame : (first + step) * frame] * np.float32(_ACTIVE_RMS / active * 32767)
        pcm = np.clip(chunk, -32768, 32767).astype("<i2").tobytes()
        for index in range(min(step, len(speech) - first)):
            speech[first + index] = detector.is_speech(pcm[2 * frame * index : 2 * frame * (index + 1)], sample_rate)
    edges = np.flatnonzero(np.diff(speech, prepend=False, append=False))
    runs: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] < min_pause:
            start = runs.pop()[0]
        runs.append((start, end))
    return runs


def _divided(
    runs: list[tuple[int, int]], power: np.ndarray, *, limit: int, min_pause: int
) -> list[tuple[int, int]]:
    """The same, where stretches of more than `limit` frames are divided by what is far quieter than speech."""
    quiet = _smooth(power) < active_power(power) * 10 ** (-_QUIET_DB / 10)
    divided = []
    for start, end in runs:
        if end - start > limit:
            edges = np.flatnonzero(np.diff(quiet[start:end], prepend=False, append=False)) + start
            for first, last in edges.reshape(-1, 2).tolist():
                if last - first >= min_pause and start < first and last < end:
                    divided.append((start, first))
                    start = last
        divided.append((start, end))
    return divided


def _smooth(power: np.ndarray) -> np.ndarray:
    return np.convolve(power, np.full(_SMOOTHING, 1 / _SMOOTHING), mode="same")


def _candidates(
    runs: list[tuple[int, int]], power: np.ndarray, *, limit: int, padding: int
) -> list[_Cut]:
    """All places where the recording may be cut, its two ends among them, at most `limit` frames of speech apart."""
    smooth = _smooth(power)
    cuts = []
    silent = None
    for start, end in runs:
        if silent is None:
            cuts.append(_Cut(start, start, start, max(0, start - padding)))
        else:
            middle = (silent + start) // 2
            cuts.append(_Cut(silent, start, min(silent + padding, middle), max(start - padding, middle)))
        # A long run: the quietest frame of every stretch of half the limit, so that two of them are never further
        # apart than the limit.
        last = end - limit // 4
        for first in range(start + limit // 4, last, limit // 2) if end - start > limit else ():
            quietest = first + int(np.argmin(smooth[first : min(first + limit // 2, last)]))
            cuts.append(_Cut(quietest, quietest, quietest, quietest, in_speech=True))
        silent = end
    cuts.append(_Cut(end, end, min(end + padding, len(power)), end))
    return cuts


def _cheapest(cuts: list[_Cut], *, limit: int, least: int) -> list[_Cut]:
    """The cuts of the cheapest way from the first to the last; of equal ones that with the earliest cuts."""
    # Silence that an utterance holds too much if it goes over a cut, summed up to each cut.
    idle = np.cumsum([max(0.0, (cut.sound - cut.silent) / _FRAMES_PER_SECOND - _SILENCE_SECONDS) for cut in cuts])
    begins = [cut.sound for cut in cuts]
    cost, back = [0.0], [0]
    for right in range(1, len(cuts)):
        own = 0.0 if right == len(cuts) - 1 else _cost(cuts[right])
        best, origin = np.inf, right - 1
        for left in range(bisect.bisect_left(begins, cuts[right].silent - limit + 2 * _MARGIN, hi=right - 1), right):
            total = cost[left] + own + _SILENCE_COST * (idle[right - 1] - idle[left])
            start, end = _limited(cuts[left], cuts[right], limit)
            if end - start < least:
                total += _SHORT_COST
            if total < best:
                best, origin = total, left
        cost.append(best)
        back.append(origin)
    chosen = [len(cuts) - 1]
    while chosen[-1]:
        chosen.append(back[chosen[-1]])
    return [cuts[index] for index in reversed(chosen)]


def _cost(cut: _Cut) -> float:
    if cut.in_speech:
        return _IN_SPEECH_COST
    return (_FRAMES_PER_SECOND / (cut.sound - cut.silent)) ** 2


def _limited(left: _Cut, right: _Cut, limit: int) -> tuple[int, int]:
    """First frame and frame after the last of an utterance between two cuts: the speech, and padding if it fits."""
    start, end = left.after, right.before
    excess = max(0, end - start - limit)
    # By halves, unless one side has too little.
    taken = min((excess + 1) // 2, max(0, left.sound - start - _MARGIN))
    taken = max(taken, excess - max(0, end - right.silent - _MARGIN))
    return start + taken, end - (excess - taken)
