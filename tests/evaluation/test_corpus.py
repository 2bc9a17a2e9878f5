"""Folders and records as corpora: what is found = what is scored + what is refused, by reason."""

import numpy as np
import pytest
import soundfile

from tf_rnnt_kd.evaluation import corpus
from tf_rnnt_kd.records import dataset, schema


def _tone(seconds, *, rate=16000, channels=1):
    samples = 0.3 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * rate)) / rate)
    return samples.astype(np.float32) if channels == 1 else np.stack([samples] * channels, 1).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """A split with two good utterances, of which one is stereo at 8 kHz, and one of each kind of trouble."""
    chapter = tmp_path / "corpus" / "test" / "7" / "1"
    chapter.mkdir(parents=True)
    soundfile.write(chapter / "7-1-0.flac", _tone(0.5), 16000)
    soundfile.write(chapter / "7-1-1.wav", _tone(0.5, rate=8000, channels=2), 8000)
    whole = (chapter / "7-1-0.flac").read_bytes()
    (chapter / "7-1-2.flac").write_bytes(whole[: len(whole) // 2])
    (chapter / "7-1-3.flac").write_bytes(b"")
    soundfile.write(chapter / "7-1-4.flac", np.zeros(8000, np.float32), 16000)
    soundfile.write(chapter / "7-1-9.flac", _tone(0.5), 16000)  # nobody wrote down what is said
    lines = ["7-1-0 go  left", "7-1-1 STOP", "7-1-2 A", "7-1-3 B", "7-1-4 C", "7-1-5 NO AUDIO", "7-1-0 AGAIN", ""]
    (chapter / "7-1.trans.txt").write_text("\n".join(lines))
    (tmp_path / "corpus" / "test" / "alignments.tsv").write_text(
        "utt\tword\tstart_s\tend_s\n7-1-0\tgo\t0.1\t0.2\n7-1-0\tleft\t0.2\t0.4\n"
    )
    return tmp_path / "corpus"


@pytest.mark.parametrize("below, split", [("", "test"), ("", ""), ("test", ""), ("test", "test")])
def test_folder_adds_up(folder, below, split):
    corpus_ = corpus.FolderCorpus(folder / below, split=split)
    good = list(corpus_)
    assert corpus_.name == "test" and corpus_.size == 8
    assert [utterance.utterance_id for utterance in good] == ["7-1-0", "7-1-1"]
    assert len(good) + len(corpus_.refused) == corpus_.size
    reasons = corpus_.refused_by_reason()
    assert reasons.pop("duplicate_id") == 1
    assert reasons.pop("missing_transcript") == 1
    assert reasons.pop("missing_audio") == 1
    assert reasons.pop("silence") == 1
    assert sum(reasons.values()) == 2  # the truncated and the empty file, by the decoder's reasons
    assert {item.utterance_id for item in corpus_.refused} == {f"7-1-{i}" for i in (0, 2, 3, 4, 5, 9)}
    assert good[0].text == "GO LEFT"
    assert good[0].words == (("GO", 0.1, 0.2), ("LEFT", 0.2, 0.4)) and good[1].words == ()
    assert len(good[1].waveform) == 8000  # resampled, mixed down
    assert np.corrcoef(good[1].waveform[400:-400], _tone(0.5)[400:-400])[0, 1] > 0.99
    assert len(list(corpus_)) == 2 and len(corpus_.refused) == 6  # a second pass counts nothing twice


def test_folder_mistakes_say_what_to_do(folder):
    with pytest.raises(ValueError, match="is not a folder"):
        corpus.FolderCorpus(folder / "nowhere")
    with pytest.raises(ValueError, match="no split 'dev', it has: test"):
        corpus.FolderCorpus(folder, split="dev")
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="no transcripts"):
        corpus.FolderCorpus(folder / "empty")
    (folder / "dev" / "8" / "1").mkdir(parents=True)
    (folder / "dev" / "8" / "1" / "8-1.trans.txt").write_text("8-1-0 A\n")
    with pytest.raises(ValueError, match="several splits .dev, test.: choose one with --split"):
        corpus.FolderCorpus(folder)


def _dataset(directory, records, *, labelled=True):
    shard = dataset.write_shard(directory, file="test/test-00000-of-00001.tfrecord", records=records)
    split = dataset.Split(shards=(shard,), utterances=len(records), hours=0.1, labelled=labelled)
    counts = {"input": len(records), "written": len(records), "rejected": 0}
    dataset.DatasetInfo(kind=dataset.UTTERANCES, splits={"test": split}, counts=counts, rejected={}).save(directory)


def test_records_add_up(tmp_path):
    good = schema.Utterance("a", _tone(0.1), "go", "s", "test", words=(("go", 0.25, 0.5),))
    unlabelled = schema.Utterance("b", _tone(0.1), None, "s", "test")
    _dataset(tmp_path, [schema.encode_utterance(good), b"\xff\xffnot an example", schema.encode_utterance(unlabelled)])
    corpus_ = corpus.RecordCorpus(tmp_path, split="test")
    (utterance,) = corpus_
    assert utterance.text == "GO" and utterance.words == (("GO", 0.25, 0.5),)
    np.testing.assert_allclose(utterance.waveform, good.waveform, atol=1 / 32768)
    assert corpus_.refused_by_reason() == {"corrupt_record": 1, "missing_transcript": 1}
    assert corpus_.size == 3


def test_unlabelled_records_are_refused(tmp_path):
    _dataset(tmp_path, [], labelled=False)
    with pytest.raises(ValueError, match="no transcripts to measure against"):
        corpus.RecordCorpus(tmp_path, split="test")
    with pytest.raises(ValueError, match="no split 'dev'"):
        corpus.RecordCorpus(tmp_path, split="dev")
