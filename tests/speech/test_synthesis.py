"""Synthetic speakers: eSpeak's words and their times, sentences, and the plan of a corpus."""

import subprocess
import sys

import numpy as np
import pytest

from tf_rnnt_kd.speech import espeak, synthesis


def loudness(samples, start, end):
    """Root mean square between two times in seconds."""
    part = samples[int(start * espeak.NATIVE_RATE) : int(end * espeak.NATIVE_RATE)]
    return np.sqrt(np.mean(part.astype(np.float64) ** 2))


def test_word_times_lie_on_the_sound():
    samples, words = espeak.engine().say("nine, nine, one", voice="en-us+m3", rate=120)
    assert [word for word, _, _ in words] == ["nine", "nine", "one"]
    assert samples.dtype == np.float32 and 0.05 < np.abs(samples).max() <= 1.0
    assert words[0][1] < 0.1 and words[-1][2] <= len(samples) / espeak.NATIVE_RATE
    for (_, start, end), (_, following, _) in zip(words[:2], words[1:], strict=True):
        assert 0.15 < end - start < 1.0 and following - end > 0.05
        # The comma's pause lies between the words, and it is quiet there.
        assert loudness(samples, end + 0.02, following) < 0.05 * loudness(samples, start, end)


def test_rate_and_pitch_are_heard():
    say = espeak.engine().say
    slow, fast = (say("four five six", voice="en-us", rate=rate)[0] for rate in (100, 200))
    assert len(slow) > 1.4 * len(fast)

    def fundamental(pitch):
        samples, _ = say("nine nine nine", voice="en-us", pitch=pitch, pitch_range=0)
        spectrum = np.fft.rfft(samples.astype(np.float64), 1 << 17)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)
        shortest, longest = espeak.NATIVE_RATE // 300, espeak.NATIVE_RATE // 60
        return espeak.NATIVE_RATE / (shortest + np.argmax(correlation[shortest:longest]))

    assert fundamental(80) > 1.25 * fundamental(20)


def test_every_voice_of_the_plan_exists():
    peaks = {}
    for index, variant in enumerate(synthesis.VARIANTS):
        accent = espeak.ACCENTS[index % len(espeak.ACCENTS)]
        samples, words = espeak.engine().say("call six", voice=f"{accent}+{variant}")
        peaks[variant] = np.abs(samples).max()
        assert [word for word, _, _ in words] == ["call", "six"]
    assert min(peaks.values()) > 0.05


def test_mistakes_are_told():
    for voice in ("en-us+nobody", "en-nowhere+f2"):
        with pytest.raises(ValueError, match="eSpeak has no voice"):
            espeak.engine().say("one", voice=voice)
    with pytest.raises(ValueError, match="use other words"):
        espeak.engine().say("turn on the light", voice="en-us")  # "on the" is one entry of its dictionary
    with pytest.raises(ValueError, match="positive"):
        synthesis.plan_speakers(hours=0.0, seed=1)


def test_sentences_are_short_and_of_few_words():
    sentences = [[word.strip(",") for word in synthesis.sentence(synthesis.generator("test", i))] for i in range(3000)]
    lengths = [len(sentence) for sentence in sentences]
    vocabulary = {word for sentence in sentences for word in sentence}
    assert min(lengths) == 3 and max(lengths) == 8 and 16 <= len(vocabulary) <= 24
    assert len({" ".join(sentence) for sentence in sentences}) > 2000


def test_speakers_are_many_and_disjoint():
    speakers = synthesis.plan_speakers(hours=1.0, seed=1)
    variants = [speaker.voice.split("+")[1] for speaker in speakers]
    assert len(speakers) == len(set(variants)) == len({speaker.number for speaker in speakers}) == 80
    assert {speaker.voice.split("+")[0] for speaker in speakers} == set(espeak.ACCENTS)
    seconds = {split: sum(s.seconds for s in speakers if s.split == split) for split in synthesis.SPLITS}
    assert seconds == pytest.approx({"train-labeled": 1080, "train-unlabeled": 1740, "dev": 360, "test": 420})
    assert synthesis.plan_speakers(hours=1.0, seed=1) == speakers != synthesis.plan_speakers(hours=1.0, seed=2)
    few = synthesis.plan_speakers(hours=0.01, seed=1)
    assert {speaker.split for speaker in few} == set(synthesis.SPLITS) and len(few) < 8


def test_a_speaker_can_be_made_without_tensorflow():
    code = "import sys, tf_rnnt_kd.speech.synthesis; print('tensorflow' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
