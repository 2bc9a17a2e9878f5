"""What one record holds: an utterance, and what a teacher said about it.

A record is a serialised `tf.train.Example`. Its features:

| feature | type | meaning |
|---|---|---|
| `utterance_id`, `speaker`, `split` | bytes | names |
| `audio` | bytes | PCM16 little-endian, mono, 16 kHz: `num_samples * 2` bytes |
| `num_samples` | int64 | S |
| `text` | bytes | the transcript; **absent** when the utterance is unlabelled |
| `words/text`, `words/start_seconds`, `words/end_seconds` | bytes, float, float lists | word times, or absent |
| `domain` | bytes | language or domain, by which a teacher is chosen; absent when it is "" |
| `recording`, `start_seconds`, `end_seconds` | bytes, float, float | where it was cut from; absent when it is whole |

A distillation record has all that, and what was asked of the teacher (see `TeacherLabels`):

| feature | type | meaning |
|---|---|---|
| `teacher/tokens`, `teacher/token_frames` | int64 [U] | token ids, and the encoder frame at which each was emitted |
| `teacher/token_confidence` | float [U] | probability of each token |
| `teacher/text`, `teacher/word_confidence` | bytes, float [W] | the hypothesis and the confidence of its words |
| `teacher/log_prob` | float | natural log of P(tokens given audio), summed over alignments |
| `teacher/num_frames` | int64 | T, encoder frames of the teacher |
| `teacher/id` | bytes | model id of the teacher |
| `teacher/agreement` | float | how far several teachers say the same, 0 to 1; absent with one teacher |

and the features of the other artifacts, which `features` lists and writes.

The same value always gives the same bytes.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

SCHEMA_VERSION = 2
SAMPLE_RATE = 16000
TEACHER_FEATURES = ("teacher", "nbest", "collapsed", "factored", "top_k", "hidden", "dense")
"""What the names of a teacher's features begin with, up to the first slash."""
_PCM16_SCALE = 32768.0


@dataclasses.dataclass(frozen=True, eq=False)
class Utterance:
    """One utterance. `waveform` is float32 [S] in -1..1 at 16 kHz; `text` is None when unlabelled.

    `words` holds (word, start seconds, end seconds) of the reference, empty when the times are unknown. `domain` is a
    language or domain, "" when nobody said. `recording`, `start_seconds` and `end_seconds` say where the utterance was
    cut from; "" and None when it was not.
    """

    utterance_id: str
    waveform: np.ndarray
    text: str | None
    speaker: str
    split: str
    words: tuple[tuple[str, float, float], ...] = ()
    domain: str = ""
    recording: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class TeacherLabels:
    """A teacher's hypothesis. `tokens`, `token_frames`, `token_confidence` have length U, `word_confidence` W.

    `log_prob` is the full sum over alignments (natural log); `num_frames` is T, the teacher's encoder frames;
    `model_id` names the teacher; `agreement` of several teachers lies in 0..1, None with one.
    """

    tokens: Sequence[int]
    text: str
    log_prob: float
    num_frames: int
    token_frames: Sequence[int]
    token_confidence: Sequence[float]
    word_confidence: Sequence[float]
    model_id: str = ""
    agreement: float | None = None


def to_pcm16(waveform: np.ndarray) -> bytes:
    """Float32 [S] in -1..1 -> little-endian PCM16 bytes. 16-bit sources survive; louder is clipped."""
    scaled = np.rint(np.asarray(waveform, np.float64) * _PCM16_SCALE)
    return np.clip(scaled, -32768, 32767).astype("<i2").tobytes()


def from_pcm16(audio: bytes) -> np.ndarray:
    """Little-endian PCM16 bytes -> float32 [S] in -1..1."""
    return np.frombuffer(audio, "<i2").astype(np.float32) / np.float32(_PCM16_SCALE)


def from_pcm16_tf(audio: tf.Tensor) -> tf.Tensor:
    """The same in graph: scalar string -> float32 [S]."""
    return tf.cast(tf.io.decode_raw(audio, tf.int16, little_endian=True), tf.float32) / _PCM16_SCALE


def bytes_feature(values: bytes | str | Sequence[bytes | str]) -> tf.train.Feature:
    """One string, or a list of them."""
    listed = [values] if isinstance(values, (bytes, str)) else values
    encoded = [value.encode() if isinstance(value, str) else value for value in listed]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))


def int64_feature(values: int | Sequence[int] | np.ndarray) -> tf.train.Feature:
    """One integer, or a list of them."""
    return tf.train.Feature(int64_list=tf.train.Int64List(value=np.ravel(values).astype(np.int64)))


def float_feature(values: float | Sequence[float] | np.ndarray) -> tf.train.Feature:
    """One float, or a list of them."""
    return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(values).astype(np.float32)))


def encode_utterance(utterance: Utterance) -> bytes:
    """Utterance -> serialised Example.

    Raises:
        ValueError: the waveform is not a vector, or holds NaN or infinity.
    """
    waveform = np.asarray(utterance.waveform)
    if waveform.ndim != 1 or not np.isfinite(waveform).all():
        raise ValueError(
            f"{utterance.utterance_id}: the waveform must be a finite vector, got shape {waveform.shape} with "
            f"{np.count_nonzero(~np.isfinite(waveform))} non-finite samples; decode it with speech.decode_audio"
        )
    features = {
        "utterance_id": bytes_feature(utterance.utterance_id),
        "speaker": bytes_feature(utterance.speaker),
        "split": bytes_feature(utterance.split),
        "audio": bytes_feature(to_pcm16(waveform)),
        "num_samples": int64_feature(len(waveform)),
    }
    if utterance.text is not None:
        features["text"] = bytes_feature(utterance.text)
    if utterance.words:
        words, starts, ends = zip(*utterance.words, strict=True)
        features["words/text"] = bytes_feature(words)
        features["words/start_seconds"] = float_feature(starts)
        features["words/end_seconds"] = float_feature(ends)
    for name in ("domain", "recording"):
        if getattr(utterance, name):
            features[name] = bytes_feature(getattr(utterance, name))
    for name in ("start_seconds", "end_seconds"):
        if getattr(utterance, name) is not None:
            features[name] = float_feature(getattr(utterance, name))
    return _serialise(features)


def decode_utterance(record: bytes) -> Utterance:
    """Serialised Example -> Utterance (of a distillation record too: `decode_teacher` gives the rest).

    Raises:
        ValueError: not an Example, a feature is missing, or the audio is not `num_samples` long.
    """
    features = parse_example(record)
    missing = [name for name in ("utterance_id", "audio", "num_samples") if name not in features]
    if missing:
        raise ValueError(f"not an utterance record: {', '.join(missing)} missing (it has {sorted(features)[:8]})")
    audio = features["audio"].bytes_list.value[0]
    num_samples = features["num_samples"].int64_list.value[0]
    if len(audio) != 2 * num_samples:
        raise ValueError(f"{_text(features, 'utterance_id')}: {len(audio)} bytes of audio, num_samples={num_samples}")
    words: tuple[tuple[str, float, float], ...] = ()
    if "words/text" in features:
        words = tuple(
            zip(
                [word.decode() for word in features["words/text"].bytes_list.value],
                features["words/start_seconds"].float_list.value,
                features["words/end_seconds"].float_list.value,
                strict=True,
            )
        )
    return Utterance(
        utterance_id=_text(features, "utterance_id"),
        waveform=from_pcm16(audio),
        text=_text(features, "text") if "text" in features else None,
        speaker=_text(features, "speaker"),
        split=_text(features, "split"),
        words=words,
        domain=_text(features, "domain"),
        recording=_text(features, "recording"),
        start_seconds=_float(features, "start_seconds"),
        end_seconds=_float(features, "end_seconds"),
    )


def encode_distillation(
    utterance_record: bytes, *, teacher: TeacherLabels, artifacts: Mapping[str, tf.train.Feature] | None = None
) -> bytes:
    """An utterance record plus the teacher's labels and `artifacts` (feature name -> Feature) -> serialised Example.

    The utterance's own features are carried over as they are; all that an earlier teacher left is dropped.

    Raises:
        ValueError: `utterance_record` is not an Example, or lists of the teacher differ in length.
    """
    lengths = {len(teacher.tokens), len(teacher.token_frames), len(teacher.token_confidence)}
    if len(lengths) != 1:
        raise ValueError(
            f"tokens, token_frames and token_confidence must be equally long, got {len(teacher.tokens)}, "
            f"{len(teacher.token_frames)}, {len(teacher.token_confidence)}"
        )
    features = {
        name: value
        for name, value in parse_example(utterance_record).items()
        if name.partition("/")[0] not in TEACHER_FEATURES
    }
    features.update(
        {
            "teacher/tokens": int64_feature(teacher.tokens),
            "teacher/text": bytes_feature(teacher.text),
            "teacher/log_prob": float_feature(teacher.log_prob),
            "teacher/num_frames": int64_feature(teacher.num_frames),
            "teacher/token_frames": int64_feature(teacher.token_frames),
            "teacher/token_confidence": float_feature(teacher.token_confidence),
            "teacher/word_confidence": float_feature(teacher.word_confidence),
        }
    )
    if teacher.model_id:
        features["teacher/id"] = bytes_feature(teacher.model_id)
    if teacher.agreement is not None:
        features["teacher/agreement"] = float_feature(teacher.agreement)
    features.update(artifacts or {})
    return _serialise(features)


def decode_teacher(record: bytes) -> TeacherLabels | None:
    """The teacher's part of a distillation record; None where the record is a plain utterance."""
    features = parse_example(record)
    if "teacher/tokens" not in features:
        return None
    return TeacherLabels(
        tokens=list(features["teacher/tokens"].int64_list.value),
        text=_text(features, "teacher/text"),
        log_prob=features["teacher/log_prob"].float_list.value[0],
        num_frames=features["teacher/num_frames"].int64_list.value[0],
        token_frames=list(features["teacher/token_frames"].int64_list.value),
        token_confidence=list(features["teacher/token_confidence"].float_list.value),
        word_confidence=list(features["teacher/word_confidence"].float_list.value),
        model_id=_text(features, "teacher/id"),
        agreement=_float(features, "teacher/agreement"),
    )


def parse_example(record: bytes) -> dict[str, tf.train.Feature]:
    """Serialised Example -> {feature name: Feature}; ValueError where the bytes are none."""
    try:
        example = tf.train.Example.FromString(record)
    except Exception as error:  # protobuf's DecodeError has no public home that is the same in all its versions
        raise ValueError(f"not a tf.train.Example ({len(record)} bytes): {error}") from error
    return dict(example.features.feature)


def _serialise(features: Mapping[str, tf.train.Feature]) -> bytes:
    example = tf.train.Example(features=tf.train.Features(feature=dict(features)))
    # Protobuf maps have no order of their own: without this two runs may write different bytes.
    return example.SerializeToString(deterministic=True)


def _text(features: Mapping[str, tf.train.Feature], name: str) -> str:
    """The string called `name`, "" where there is none."""
    return features[name].bytes_list.value[0].decode() if name in features else ""


def _float(features: Mapping[str, tf.train.Feature], name: str) -> float | None:
    """The number called `name`, None where there is none."""
    return features[name].float_list.value[0] if name in features else None
