"""A corpus in another place: what is changed, and what is not."""

import pathlib

import numpy as np
import pytest
import soundfile
from toy_study import write_tones

from tf_rnnt_kd.studies.degrade import degrade


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("degrade") / "corpus"
    write_tones(root, sizes={"train-unlabeled": 3, "test": 3})
    return root


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", ["noisy", "narrow_band"])
def test_audio_changes_and_words_do_not(kind, corpus, tmp_path):
    first, second = (tmp_path / name for name in ("first", "second"))
    (tmp_path / "first.tmp").mkdir()
    (tmp_path / "first.tmp" / "of a run that was killed").touch()
    for output in (first, second):
        count = degrade([str(corpus)], output=str(output), kind=kind, splits=["train-unlabeled", "test"])
        assert count == 6
    before, after = files(corpus), files(first)
    assert after == files(second) and before.keys() == after.keys()
    assert {name for name in before if before[name] == after[name]} == {n for n in before if not n.endswith(".flac")}


def test_a_telephone_passes_what_a_telephone_passes(tmp_path):
    waveform = np.random.default_rng(0).normal(size=32000) * 0.1
    room = tmp_path / "white" / "test" / "1" / "1"
    room.mkdir(parents=True)
    soundfile.write(room / "1-1-0000.flac", waveform, 16000)
    degrade([str(tmp_path / "white")], output=str(tmp_path / "out"), kind="narrow_band", splits=["test"])
    changed, _ = soundfile.read(tmp_path / "out" / "test" / "1" / "1" / "1-1-0000.flac")
    power, hertz = np.abs(np.fft.rfft(changed)) ** 2, np.fft.rfftfreq(len(changed), 1 / 16000)
    inside = power[(hertz > 500) & (hertz < 3000)].mean()
    assert power[hertz > 5000].mean() < 0.01 * inside and power[hertz < 100].mean() < 0.05 * inside


def test_noise_is_as_loud_as_said(corpus, tmp_path):
    degrade([str(corpus)], output=str(tmp_path / "out"), kind="noisy", splits=["test"])
    for source in corpus.glob("test/*/1/*.flac"):
        clean, _ = soundfile.read(source)
        changed, _ = soundfile.read(tmp_path / "out" / source.relative_to(corpus))
        # What the clean signal explains of the changed one; a room's tail counts as noise as well.
        alike = (clean @ changed) ** 2 / (clean @ clean) / (changed @ changed)
        assert 0.02 < alike < 0.95


def test_mistakes_are_named(corpus, tmp_path):
    with pytest.raises(ValueError, match="--splits: dev is in none of"):
        degrade([str(corpus)], output=str(tmp_path / "out"), kind="noisy", splits=["dev"])
    pathlib.Path(tmp_path, "empty", "test").mkdir(parents=True)
    with pytest.raises(ValueError, match="no audio"):
        degrade([str(tmp_path / "empty")], output=str(tmp_path / "out"), kind="noisy", splits=["test"])
