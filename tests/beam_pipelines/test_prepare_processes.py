"""Decoding in processes of its own: the same bytes, and a crash costs one file."""

import crashing_decoder
import made_corpora as made
from made_corpora import prepare

from beam_pipelines.transforms import write


def test_a_crash_of_the_decoder_costs_one_file_and_the_rest_is_as_ever(tmp_path, monkeypatch):
    made.chapter(tmp_path / "corpus", "train", "1", {number: f"word {number}" for number in range(5)})
    made.put(tmp_path / "corpus" / "train" / "1" / "7" / "cut.flac", made.encoded(made.noise())[:-100])
    prepare(tmp_path / "corpus", tmp_path / "expected", num_shards=2)
    made.flac(tmp_path / "corpus" / "train" / "1" / "7" / "segfault.flac", seed=50)
    with (tmp_path / "corpus" / "train" / "1" / "7" / "1-7.trans.txt").open("a") as transcripts:
        transcripts.write("segfault X\n")
    monkeypatch.setattr(write, "make_utterances", crashing_decoder.make_utterances)
    info, _ = prepare(tmp_path / "corpus", tmp_path / "records", num_shards=2, decoder_processes=2)
    assert info.rejected == {"decoder_crashed": 1, "missing_transcript": 1}
    (letter,) = [letter for letter in made.dead_letters(tmp_path / "records") if letter["id"] == "segfault"]
    assert "SIGSEGV" in letter["error"]
    expected = {name: content for name, content in made.contents(tmp_path / "expected").items() if "tfrecord" in name}
    found = {name: content for name, content in made.contents(tmp_path / "records").items() if "tfrecord" in name}
    assert found == expected
