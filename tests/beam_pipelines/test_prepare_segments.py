"""Long recordings, made of short ones whose places are known, and where they are cut."""

import json

import made_corpora as made
import numpy as np
import pytest
from made_corpora import RATE, prepare

from beam_pipelines.transforms.cut import cut
from tf_rnnt_kd.speech.espeak import NATIVE_RATE, engine

_SENTENCES = ("seven black dogs run home today", "nine green bottles", "rain", "eight happy farmers found seven stones")


@pytest.fixture(scope="module")
def sentences():
    """Spoken ones: float32 arrays at 16 kHz."""
    from tf_rnnt_kd.speech.audio import resample

    spoken = [engine().say(text, voice="en-us")[0] for text in _SENTENCES]
    return [resample(_trimmed(samples), from_rate=NATIVE_RATE, to_rate=RATE) for samples in spoken]


def _trimmed(samples):
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1]]


def _recording(sentences, order, pauses, *, seed=0):
    """(samples, [(start, end)] of the sentences): pauses[i] seconds of faint noise in front of sentence i, and last."""
    parts, places, position = [], [], 0
    for index, pause in zip(order, pauses, strict=False):
        parts += [np.zeros(int(pause * RATE)), sentences[index]]
        start = position + len(parts[-2])
        position = start + len(parts[-1])
        places.append((start, position))
    parts.append(np.zeros(int(pauses[-1] * RATE)))
    samples = np.concatenate(parts)
    return samples + 1e-4 * np.random.default_rng(seed).standard_normal(len(samples)), places


def _pieces(output):
    """[(start, end)] in samples of what was cut, in order, after the records' own times."""
    found = made.read(output)
    times = [(value["start_seconds"].numpy(), value["end_seconds"].numpy()) for value in found.values()]
    return sorted((round(start * RATE), round(end * RATE)) for start, end in times)


def _assert_outside_of_speech(pieces, places):
    edges = {edge for piece in pieces for edge in piece}
    inside = [(edge, place) for edge in edges for place in places if place[0] < edge < place[1]]
    assert not inside


def test_a_long_recording_is_cut_in_its_pauses(tmp_path, sentences):
    rng = np.random.default_rng(3)
    order = rng.integers(0, len(sentences), 40)
    pauses = rng.choice([0.5, 0.8, 1.5, 4.0], 41)
    samples, places = _recording(sentences, order, pauses)
    made.put(tmp_path / "audio" / "talk.flac", made.encoded(samples))
    made.flac(tmp_path / "audio" / "short.flac", 1.0, seed=1)
    info, _ = prepare(tmp_path / "audio", tmp_path / "records", format="audio", segment_seconds=(2, 10))
    found = made.read(tmp_path / "records")
    # What is short enough stays whole, and says nothing of a recording.
    assert made.string(found["audio", "short"], "recording") == ""
    del found["audio", "short"]
    pieces = [piece for piece in _pieces(tmp_path / "records") if piece[0] >= 0]
    assert len(pieces) == len(found) > 10
    _assert_outside_of_speech(pieces, places)
    # All speech is in one of them, or was refused as too short by itself.
    lost = [place for place in places if not any(start <= place[0] and place[1] <= end for start, end in pieces)]
    letters = made.dead_letters(tmp_path / "records")
    refused = [tuple(int(part) * RATE // 1000 for part in letter["id"].split("-")[-2:]) for letter in letters]
    assert all(any(start <= place[0] and place[1] <= end for start, end in refused) for place in lost)
    assert {letter["reason"] for letter in letters} <= {"too_short"}
    assert all(2 * RATE <= end - start <= 10 * RATE for start, end in pieces)
    pcm = np.rint(np.clip(samples, -1, 1) * 32768) / 32768
    for (_, name), features in found.items():
        start, end = round(features["start_seconds"].numpy() * RATE), round(features["end_seconds"].numpy() * RATE)
        assert name == f"talk-{round(start / 16):08d}-{round(end / 16):08d}"
        assert made.string(features, "recording") == "talk"
        np.testing.assert_allclose(made.waveform(features), pcm[start:end], atol=1 / 32768)
    cut_info = info.statistics["splits"]["audio"]["cut"]
    assert (cut_info["recordings"], cut_info["cuts_in_speech"]) == (1, 0)
    assert cut_info["hours"] == pytest.approx(len(samples) / RATE / 3600)
    assert info.statistics["sources"] == 2
    assert info.counts["input"] == info.counts["written"] + info.counts["rejected"] == len(found) + 1 + len(letters)


def test_all_pieces_of_a_recording_are_in_one_shard_in_order(tmp_path, sentences):
    samples, _ = _recording(sentences, [0, 1, 2, 3] * 5, [1.0] * 21)
    made.put(tmp_path / "audio" / "talk.flac", made.encoded(samples))
    settings = {"format": "audio", "segment_seconds": (1, 5), "num_shards": 3}
    info, _ = prepare(tmp_path / "audio", tmp_path / "records", **settings)
    shards = [shard.records for shard in info.splits["audio"].shards]
    assert sorted(shards)[:2] == [0, 0]
    names = [key[1] for key in made.read(tmp_path / "records")]
    assert names == sorted(names)
    assert len(names) > 4


def test_never_and_always(tmp_path, sentences):
    samples, places = _recording(sentences, [0, 3, 0], [1.0, 3.0, 3.0, 1.0])
    made.put(tmp_path / "audio" / "talk.flac", made.encoded(samples))
    prepare(tmp_path / "audio", tmp_path / "never", format="audio", segment="never", segment_seconds=(1, 4))
    assert set(made.texts(tmp_path / "never")) == {("audio", "talk")}
    prepare(tmp_path / "audio", tmp_path / "always", format="audio", segment="always", segment_seconds=(1, 30))
    pieces = _pieces(tmp_path / "always")
    _assert_outside_of_speech(pieces, places)
    assert sum(end - start for start, end in pieces) < len(samples) - RATE
    with pytest.raises(Exception, match="1 too_long"):
        prepare(tmp_path / "audio", tmp_path / "long", format="audio", segment="never", max_seconds=4)


def test_transcripts_are_not_cut(tmp_path, sentences):
    samples, _ = _recording(sentences, [0, 1, 2, 3], [1.0] * 5)
    made.put(tmp_path / "talk.flac", made.encoded(samples))
    made.manifest(tmp_path / "train.jsonl", [{"audio_filepath": "talk.flac", "text": " ".join(_SENTENCES)}])
    prepare(tmp_path, tmp_path / "records", segment_seconds=(1, 4))
    assert set(made.texts(tmp_path / "records")) == {("train", "talk")}


def test_sound_without_speech_is_counted(tmp_path):
    time = np.arange(20 * RATE) / RATE
    whistle, hum = (0.1 * np.sin(2 * np.pi * frequency * time) for frequency in (7000, 30))
    made.put(tmp_path / "audio" / "whistle.flac", made.encoded(whistle))
    # The detector takes its beginning for speech, a third of a second.
    made.put(tmp_path / "audio" / "hum.flac", made.encoded(hum))
    made.put(tmp_path / "audio" / "short.flac", made.encoded(whistle[:RATE]))
    info, _ = prepare(tmp_path / "audio", tmp_path / "records", format="audio", segment_seconds=(1, 10))
    # One second is short enough to stay as it is: nobody looks for speech in it.
    assert set(made.texts(tmp_path / "records")) == {("audio", "short")}
    reasons = made.reasons(tmp_path / "records")
    assert reasons.pop("whistle") == "no_speech"
    ((name, reason),) = reasons.items()
    assert name.startswith("hum-00000000-")
    assert reason == "too_short"
    assert info.counts == {"input": 3, "written": 1, "rejected": 2}


def _light(corpus, samples, regions):
    path = corpus / "small" / "7" / "book" / "chapter.flac"
    made.put(path, made.encoded(samples))
    path.with_suffix(".json").write_text(json.dumps({"speaker": "7", "voice_activity": regions}))


def test_voice_activity_that_came_with_a_recording_is_used(tmp_path, sentences):
    samples, places = _recording(sentences, [0, 1, 2, 3, 1, 2], [1.0, 0.6, 5.0, 0.5, 6.0, 6.0, 2.0])
    regions = [[start / RATE, end / RATE] for start, end in places]
    _light(tmp_path, samples, regions)
    info, _ = prepare(tmp_path, tmp_path / "records", segment_seconds=(1.4, 8))
    pieces = _pieces(tmp_path / "records")
    _assert_outside_of_speech(pieces, places)
    # Twice two that are near each other, with a quarter of a second of silence at both ends.
    seconds = [[places[0][0], places[1][1]], [places[2][0], places[3][1]]]
    expected = [(start - RATE // 4, end + RATE // 4) for start, end in seconds]
    alone = [(start - RATE // 4, end + RATE // 4) for start, end in places[4:]]
    least = 1.4 * RATE
    np.testing.assert_allclose(pieces[:2], expected, atol=16)
    assert len(pieces) == 2 + sum(end - start >= least for start, end in alone)
    assert info.rejected.get("too_short", 0) == sum(end - start < least for start, end in alone)


def test_regions_longer_than_an_utterance_are_cut_by_what_is_heard(sentences):
    samples, places = _recording(sentences, [0, 1, 2, 3, 0, 3], [0.6] * 7)
    cuts = cut(samples.astype(np.float32), min_seconds=1, max_seconds=5, speech=[(0.3, len(samples) / RATE - 0.3)])
    pieces = [(piece.start, piece.end) for piece in (*cuts.kept, *cuts.too_short)]
    _assert_outside_of_speech(pieces, places)
    assert max(end - start for start, end in pieces) <= 5 * RATE
    assert all(any(start <= place[0] and place[1] <= end for start, end in pieces) for place in places)


def test_voice_activity_beyond_the_end_means_that_the_file_is_cut_short(tmp_path, sentences):
    samples, _ = _recording(sentences, [0, 1], [1.0] * 3)
    _light(tmp_path, samples, [[1.0, 2.0], [100.0, 105.0]])
    with pytest.raises(Exception, match="1 truncated"):
        prepare(tmp_path, tmp_path / "records", segment_seconds=(1, 3))


def test_records_can_be_cut_again_with_times_of_the_first_recording(tmp_path, sentences):
    samples, places = _recording(sentences, [0, 1, 2, 3] * 3, [1.0] * 13)
    made.put(tmp_path / "audio" / "talk.flac", made.encoded(samples))
    prepare(tmp_path / "audio", tmp_path / "long", format="audio", segment="always", segment_seconds=(5, 60))
    prepare(tmp_path / "long", tmp_path / "short", segment_seconds=(1, 4))
    pieces = _pieces(tmp_path / "short")
    assert len(pieces) > len(_pieces(tmp_path / "long"))
    assert max(end - start for start, end in pieces) <= 4 * RATE
    _assert_outside_of_speech(pieces, places)
    pcm = np.rint(samples * 32768) / 32768
    for features in made.read(tmp_path / "short").values():
        start = round(features["start_seconds"].numpy() * RATE)
        whole = made.waveform(features)
        np.testing.assert_allclose(whole, pcm[start : start + len(whole)], atol=1 / 32768)
        assert made.string(features, "recording") == "talk"


def test_level_is_set_for_each_utterance(tmp_path):
    for index, gain in enumerate((0.01, 0.3)):
        made.put(tmp_path / "audio" / f"{index}.flac", made.encoded(gain * made.noise(1.0, seed=index)))
    prepare(tmp_path / "audio", tmp_path / "records", format="audio", level_dbfs=-26.0)
    for features in made.read(tmp_path / "records").values():
        rms = np.sqrt(np.mean(made.waveform(features) ** 2))
        assert 20 * np.log10(rms) == pytest.approx(-26, abs=0.3)
