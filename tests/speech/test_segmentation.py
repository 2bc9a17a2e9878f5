"""Cuts on words whose times are known: bursts made here, and real words where they are at hand."""

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tf_rnnt_kd.speech.segmentation import segment

_DIGITS = Path(__file__).parents[3] / "shared" / "data" / "digits" / "dev"
RATE = 16000


def _word(rng, seconds):
    """A voiced burst as of a vowel: harmonics of 90 to 250 Hz under two formants, swelling and fading."""
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 250)
    formants = rng.uniform([300, 1000], [800, 2500])
    sound = 0
    for harmonic in range(1, int(4000 / pitch)):
        gain = sum(1 / (1 + ((harmonic * pitch - formant) / 120) ** 2) for formant in formants)
        sound = sound + gain * np.sin(2 * np.pi * harmonic * pitch * time)
    envelope = np.minimum(1, np.minimum(time, time[-1] - time) / 0.03)
    return 0.2 * envelope * sound / np.abs(sound).max()


def _recording(pauses, *, seed=0, word_seconds=(0.25, 0.6)):
    """Words with a pause of so many seconds after each: samples, [(start, end)] of the words in seconds."""
    rng = np.random.default_rng(seed)
    parts, words, position = [np.zeros(int(0.4 * RATE))], [], 0.4
    for pause in pauses:
        word = _word(rng, rng.uniform(*word_seconds))
        words.append((position, position + len(word) / RATE))
        parts += [word, np.zeros(int(pause * RATE))]
        position += (len(parts[-2]) + len(parts[-1])) / RATE
    samples = np.concatenate(parts)
    return (samples + 3e-4 * rng.standard_normal(len(samples))).astype(np.float32), words


def _all(found):
    return sorted(found.kept + found.too_short, key=lambda part: part.start)


def _cut_words(parts, words):
    cuts = {time / RATE for part in parts for time in (part.start, part.end)}
    return [(start, end) for start, end in words if any(start < cut < end for cut in cuts)]


def _lost_words(parts, words):
    return [word for word in words if not any(part.start / RATE <= word[0] and word[1] <= part.end / RATE
                                              for part in parts)]  # fmt: skip


def test_words_are_neither_cut_nor_lost_and_utterances_are_as_long_as_they_may():
    rng = np.random.default_rng(1)
    pauses = rng.choice([0.08, 0.12, 0.35, 0.5, 0.8, 1.5], 400, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
    waveform, words = _recording(pauses)
    for least, longest in ((1, 6), (2, 15), (5, 30)):
        found = segment(waveform, sample_rate=RATE, min_seconds=least, max_seconds=longest)
        parts = _all(found)
        assert all(left.end <= right.start for left, right in zip(parts, parts[1:], strict=False))
        assert parts[0].start >= 0 and parts[-1].end <= len(waveform)
        assert _cut_words(parts, words) == _lost_words(parts, words) == []
        assert not any(part.in_speech for part in parts) and not found.too_short
        lengths = [(part.end - part.start) / RATE for part in found.kept]
        assert min(lengths) >= least and max(lengths) <= longest
        assert np.mean(lengths) > 0.5 * longest


def test_of_several_pauses_the_longest_is_cut_and_in_its_middle():
    waveform, words = _recording([0.3, 0.3, 0.45, 0.3, 0.3, 0.3])
    found = segment(waveform, sample_rate=RATE, min_seconds=0.5, max_seconds=3, padding_seconds=1.0)
    assert len(found.kept) == 2
    middle = (words[2][1] + words[3][0]) / 2
    assert found.kept[0].end == found.kept[1].start
    assert found.kept[0].end / RATE == pytest.approx(middle, abs=0.1)  # the detector lets speech ring on


def test_long_silence_is_left_out_but_for_the_padding():
    waveform, words = _recording([0.3, 0.3, 8.0, 0.3, 0.3, 2.0])
    found = segment(waveform, sample_rate=RATE, min_seconds=0.5, max_seconds=20)
    first, second = found.kept
    assert words[2][1] < first.end / RATE < words[2][1] + 0.5
    assert words[3][0] - 0.5 < second.start / RATE < words[3][0]
    assert second.end / RATE < words[5][1] + 0.5


def test_a_lonely_word_is_joined_with_its_neighbour_or_returned():
    pauses = [0.3, 0.3, 0.3, 2.5, 2.5, 0.3, 0.3, 0.3, 1.0]
    waveform, words = _recording(pauses)
    joined = segment(waveform, sample_rate=RATE, min_seconds=1.5, max_seconds=10)
    assert not joined.too_short and _lost_words(joined.kept, words) == []
    assert all(part.end - part.start >= 1.5 * RATE for part in joined.kept)
    # Neither neighbour has room for the fifth word, which is alone between two long pauses.
    apart = segment(waveform, sample_rate=RATE, min_seconds=1.5, max_seconds=3.2)
    assert [words[4]] == [word for word in words if word not in _lost_words(apart.too_short, words)]
    assert _lost_words(_all(apart), words) == []


def test_speech_without_a_pause_is_cut_where_it_is_quietest_and_says_so():
    rng = np.random.default_rng(3)
    waveform = _word(rng, 12.0)
    dips = [3.1, 6.4, 9.2]
    time = np.arange(len(waveform)) / RATE
    for dip in dips:
        waveform = waveform * (1 - 0.7 * np.exp(-(((time - dip) / 0.04) ** 2)))
    silence = np.zeros(RATE)
    waveform = np.concatenate([silence, waveform, silence]).astype(np.float32)
    found = segment(waveform, sample_rate=RATE, min_seconds=1, max_seconds=5)
    assert len(found.kept) >= 3 and not found.too_short
    assert all(part.in_speech for part in found.kept)
    assert max(part.end - part.start for part in found.kept) <= 5 * RATE
    cuts = [part.end / RATE - 1 for part in found.kept[:-1]]
    assert all(min(abs(cut - dip) for dip in dips) < 0.05 for cut in cuts)
    for left, right in zip(found.kept, found.kept[1:], strict=False):
        assert left.end == right.start


def test_loudness_does_not_matter_and_the_answer_is_always_the_same():
    waveform, _ = _recording([0.3, 0.1, 0.6, 0.1, 0.3, 0.9] * 10)
    settings = {"sample_rate": RATE, "min_seconds": 1, "max_seconds": 8}
    expected = segment(waveform, **settings)
    assert segment(waveform.copy(), **settings) == expected
    assert segment(waveform * np.float32(0.01), **settings) == expected


def test_what_holds_no_speech_has_no_segments():
    for waveform in (np.zeros(0, np.float32), np.zeros(100, np.float32), np.zeros(5 * RATE, np.float32)):
        found = segment(waveform, sample_rate=RATE, min_seconds=1, max_seconds=10)
        assert found.kept == found.too_short == ()


def test_other_rates_give_the_same_times():
    waveform, _ = _recording([0.4, 0.4, 1.2, 0.4, 0.4])
    settings = {"min_seconds": 0.5, "max_seconds": 4}
    at_16 = segment(waveform, sample_rate=16000, **settings)
    at_8 = segment(waveform[::2].copy(), sample_rate=8000, **settings)
    assert len(at_16.kept) == len(at_8.kept) == 2
    for one, other in zip(at_16.kept, at_8.kept, strict=True):
        assert one.start / 16000 == pytest.approx(other.start / 8000, abs=0.1)


def test_wrong_settings_are_refused():
    waveform = np.zeros(RATE, np.float32)
    with pytest.raises(ValueError, match="22050"):
        segment(waveform, sample_rate=22050, min_seconds=1, max_seconds=10)
    with pytest.raises(ValueError, match="twice min_seconds"):
        segment(waveform, sample_rate=RATE, min_seconds=6, max_seconds=10)


def test_a_long_recording_takes_little_memory():
    """As NumPy accounts for it itself."""
    short, _ = _recording(np.random.default_rng(5).uniform(0.05, 1.0, 60))
    minutes = np.tile(short, -(-900 * RATE // len(short)))[: 900 * RATE]
    tracemalloc.start()
    try:
        found = segment(minutes, sample_rate=RATE, min_seconds=2, max_seconds=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.kept) > 45
    assert peak < 0.25 * minutes.nbytes


@pytest.mark.skipif(not _DIGITS.is_dir(), reason="needs the digits corpus beside the checkout")
def test_no_real_word_is_cut():
    """Connected words of many speakers, with gaps between the utterances and beyond their own."""
    with (_DIGITS / "alignments.tsv").open() as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    rng = np.random.default_rng(0)
    parts, words, position = [], [], 0
    for path in sorted(_DIGITS.glob("*/*/*.flac"))[:120]:
        samples, _ = soundfile.read(path, dtype="float32")
        # The margins that the energy detector left: 50 ms in front of a word, 80 ms behind it.
        words += [(position / RATE + float(start) + 0.05, position / RATE + float(end) - 0.08)
                  for name, _, start, end in rows if name == path.stem]  # fmt: skip
        gap = (1e-4 * rng.standard_normal(int(rng.uniform(0.0, 0.5) * RATE))).astype(np.float32)
        parts += [samples, gap]
        position += len(samples) + len(gap)
    waveform = np.concatenate(parts)
    assert len(words) > 500
    for least, longest in ((2, 15), (5, 20)):
        found = segment(waveform, sample_rate=RATE, min_seconds=least, max_seconds=longest)
        assert _cut_words(_all(found), words) == _lost_words(_all(found), words) == []
        assert max(part.end - part.start for part in found.kept) <= longest * RATE
        assert sum(part.in_speech for part in found.kept) <= 0.1 * len(found.kept)
