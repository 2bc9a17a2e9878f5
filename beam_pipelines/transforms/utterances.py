"""One recording -> its utterances as records, or why there are none. Runs in a decoder process: no Apache Beam here."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from beam_pipelines.inputs.source import Refused, Source
from beam_pipelines.inputs.utterance_records import read_record
from beam_pipelines.transforms.cut import cut
from tf_rnnt_kd import records
from tf_rnnt_kd.speech.audio import SILENCE_PEAK, decode_audio
from tf_rnnt_kd.speech.errors import AudioError
from tf_rnnt_kd.speech.level import set_level
from tf_rnnt_kd.text import TextError, language_of, normalise

BY_DOMAIN = "by_domain"
AUTO, NEVER, ALWAYS = "auto", "never", "always"
# A manifest's duration is rounded, and lossy codecs pad: below this a file is not called short.
_DURATION_SLACK_SECONDS = 0.1
_DURATION_SLACK_SHARE = 0.01

WordTimes = tuple[tuple[str, float, float], ...]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What an utterance must be, and how it is made.

    Attributes:
        min_seconds, max_seconds: others are refused; None: no longest.
        text_profile: how transcripts are normalised, see `text.normalise`; "by_domain": by the utterance's domain;
            None: upper case, and those of records as they are.
        segment: "auto" cuts unlabelled audio that is longer than the longest segment, "always" all unlabelled audio.
        segment_seconds: least and greatest length of what is cut.
        level_dbfs: active speech level of each utterance, None: as it is.
    """

    min_seconds: float = 0.1
    max_seconds: float | None = None
    text_profile: str | None = None
    segment: str = AUTO
    segment_seconds: tuple[float, float] = (2.0, 30.0)
    level_dbfs: float | None = None


class Job(NamedTuple):
    """Sources of one file (or one record) of a split; `words` are times of their references, by id."""

    sources: tuple[Source, ...]
    words: Mapping[str, WordTimes]
    labelled: bool
    rules: Rules


class Outcome(NamedTuple):
    """What became of a source, or of a piece of it: a serialised record, or a `reason` to refuse it.

    `content` is the MD5 of the PCM16 audio. `source` is a path, for people.
    """

    utterance_id: str
    source: str
    record: bytes = b""
    content: bytes = b""
    num_samples: int = 0
    speaker: str = ""
    domain: str = ""
    reason: str = ""
    error: str = ""


class Made(NamedTuple):
    """All outcomes of a job; how many of its sources were cut, their samples, and cuts that are in no pause."""

    outcomes: list[Outcome]
    num_cut: int = 0
    samples_cut: int = 0
    cuts_in_speech: int = 0


class _Loaded(NamedTuple):
    waveform: np.ndarray
    words: WordTimes | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None


def make_utterances(job: Job) -> Made:
    """Decodes the file once and makes what its sources ask for.

    Raises:
        AudioError: the file cannot be used.
    """
    outcomes, texts = [], []
    for source in job.sources:
        try:
            texts.append((source, _text(source, job)))
        except (Refused, TextError) as error:
            outcomes.append(refused(source, error))
    if not texts:
        return Made(outcomes)
    try:
        loaded = _load(job.sources[0])
    except Refused as error:
        return Made(outcomes + [refused(source, error) for source, _ in texts])
    made = Made(outcomes)
    for source, text in texts:
        try:
            utterance = _whole(source, text, loaded, job)
        except Refused as error:
            outcomes.append(refused(source, error))
            continue
        if _is_cut(source, utterance, job):
            made = _cut(source, utterance, job.rules, made=made)
        else:
            outcomes.append(_checked(source, utterance, job.rules))
    return made


def refused(source: Source, error: Refused | TextError | AudioError, *, utterance_id: str = "") -> Outcome:
    """The outcome of a source, or of the piece `utterance_id` of it."""
    path = source.audio or source.origin
    return Outcome(utterance_id or source.utterance_id, path, reason=error.reason, error=str(error))


def _text(source: Source, job: Job) -> str | None:
    if not job.labelled:
        return None
    if source.text is None:
        raise Refused("missing_transcript", f"no transcript, others in split {source.split} have one")
    text = _normalised(source.text, source, job.rules)
    if not text:
        raise Refused("empty_transcript", f"{source.origin} gives no words")
    return text


def _normalised(text: str, source: Source, rules: Rules) -> str:
    profile = rules.text_profile or ("upper" if source.record_at is None else "verbatim")
    if profile == BY_DOMAIN:
        language = language_of(source.domain)
        if language is None:
            raise TextError("no_text_profile", f"no language profile for domain {source.domain!r}")
        profile = language
    return normalise(text, profile=profile)


def _load(source: Source) -> _Loaded:
    if source.record_at is None:
        return _Loaded(decode_audio(source.audio, target_rate=records.SAMPLE_RATE))
    found = read_record(source.audio, position=source.record_at, utterance_id=source.utterance_id)
    return _Loaded(found.waveform, found.words, found.start_seconds, found.end_seconds)


def _whole(source: Source, text: str | None, loaded: _Loaded, job: Job) -> records.Utterance:
    """The part of the file that the source means, as one utterance."""
    waveform = _part(loaded.waveform, source)
    start, end = loaded.start_seconds, loaded.end_seconds
    if source.offset is not None:
        start, end = source.offset, source.offset + len(waveform) / records.SAMPLE_RATE
    words = job.words.get(source.utterance_id, ()) if loaded.words is None else loaded.words
    return records.Utterance(
        source.utterance_id,
        waveform,
        text,
        source.speaker,
        source.split,
        words=_word_times(words, text, source, job.rules),
        domain=source.domain,
        recording=source.recording,
        start_seconds=start,
        end_seconds=end,
    )


def _part(waveform: np.ndarray, source: Source) -> np.ndarray:
    """The samples between `offset` and `duration`; all of them where the source does not say."""
    rate = records.SAMPLE_RATE
    start = round((source.offset or 0.0) * rate)
    if source.duration is None:
        end = len(waveform)
        if start and start >= end:
            raise Refused("truncated", f"it should start at {start / rate:.3f} s, the file ends at {end / rate:.3f} s")
        return waveform[start:]
    end = start + round(source.duration * rate)
    slack = _slack(source.duration)
    if end - len(waveform) > slack:
        raise Refused(
            "truncated",
            f"the manifest says that it ends at {end / rate:.3f} s, the file ends at {len(waveform) / rate:.3f} s",
        )
    if source.offset is None and len(waveform) - end <= slack:
        return waveform
    return waveform[start:end]


def _slack(seconds: float) -> float:
    return max(_DURATION_SLACK_SECONDS, _DURATION_SLACK_SHARE * seconds) * records.SAMPLE_RATE


def _word_times(words: WordTimes, text: str | None, source: Source, rules: Rules) -> WordTimes:
    """`words` in the transcript's spelling; times of other words than the transcript's are worse than none."""
    if text is None or not words:
        return ()
    try:
        times = tuple((_normalised(word, source, rules), start, end) for word, start, end in words)
    except TextError:
        return ()
    return times if [word for word, _, _ in times] == text.split() else ()


def _is_cut(source: Source, utterance: records.Utterance, job: Job) -> bool:
    # A transcript cannot be cut with its audio.
    if job.labelled or job.rules.segment == NEVER:
        return False
    longest = job.rules.segment_seconds[1] * records.SAMPLE_RATE
    return job.rules.segment == ALWAYS or len(utterance.waveform) > longest


def _cut(source: Source, utterance: records.Utterance, rules: Rules, *, made: Made) -> Made:
    """Adds the pieces of one utterance to `made`."""
    rate, waveform = records.SAMPLE_RATE, utterance.waveform
    outcomes = made.outcomes
    last = source.speech[-1][1] if source.speech else 0.0
    if last * rate - len(waveform) > _slack(last):
        problem = f"people are said to speak until {last:.3f} s, the file ends at {len(waveform) / rate:.3f} s"
        outcomes.append(refused(source, Refused("truncated", problem)))
        return made
    least, longest = rules.segment_seconds
    cuts = cut(waveform, min_seconds=least, max_seconds=longest, speech=source.speech)
    recording, origin = source.recording or source.utterance_id, utterance.start_seconds or 0.0
    for piece in cuts.too_short:
        name = _piece_id(recording, origin + piece.start / rate, origin + piece.end / rate)
        error = Refused("too_short", f"{(piece.end - piece.start) / rate:.2f} s of speech, with pauses round it")
        outcomes.append(refused(source, error, utterance_id=name))
    for piece in cuts.kept:
        start, end = origin + piece.start / rate, origin + piece.end / rate
        part = dataclasses.replace(
            utterance,
            utterance_id=_piece_id(recording, start, end),
            waveform=waveform[piece.start : piece.end],
            recording=recording,
            start_seconds=start,
            end_seconds=end,
        )
        outcomes.append(_checked(source, part, rules))
    if not cuts.kept and not cuts.too_short:
        outcomes.append(refused(source, Refused("no_speech", f"none in {len(waveform) / rate:.1f} s")))
    return Made(
        outcomes,
        made.num_cut + 1,
        made.samples_cut + len(waveform),
        made.cuts_in_speech + sum(piece.in_speech for piece in (*cuts.kept, *cuts.too_short)),
    )


def _piece_id(recording: str, start: float, end: float) -> str:
    """The recording, and from where to where in milliseconds: of one width, so that ids stay in order."""
    return f"{recording}-{round(1000 * start):08d}-{round(1000 * end):08d}"


def _checked(source: Source, utterance: records.Utterance, rules: Rules) -> Outcome:
    """The utterance as a record, or why it is refused."""
    waveform, name = utterance.waveform, utterance.utterance_id
    seconds = len(waveform) / records.SAMPLE_RATE
    if not len(waveform) or seconds < rules.min_seconds:
        error = Refused("too_short", f"{seconds:.3f} s, --min_seconds={rules.min_seconds:g}")
        return refused(source, error, utterance_id=name)
    if rules.max_seconds is not None and seconds > rules.max_seconds:
        error = Refused("too_long", f"{seconds:.3f} s, --max_seconds={rules.max_seconds:g}")
        return refused(source, error, utterance_id=name)
    mean = waveform.mean()
    if max(waveform.max() - mean, mean - waveform.min()) < SILENCE_PEAK:
        error = Refused("silence", f"no sample of its {seconds:.3f} s is louder than {SILENCE_PEAK}")
        return refused(source, error, utterance_id=name)
    if rules.level_dbfs is not None:
        waveform = set_level(waveform, dbfs=rules.level_dbfs)
        utterance = dataclasses.replace(utterance, waveform=waveform)
    return Outcome(
        name,
        source.audio,
        record=records.encode_utterance(utterance),
        content=hashlib.md5(records.to_pcm16(waveform)).digest(),
        num_samples=len(waveform),
        speaker=utterance.speaker,
        domain=utterance.domain,
    )
