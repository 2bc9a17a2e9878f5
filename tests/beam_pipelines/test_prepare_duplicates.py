"""The same audio in several places: which copy stays, and that nothing else changes."""

import hashlib
import itertools
import json
import shutil

import google_crc32c
import made_corpora as made
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from made_corpora import prepare

from beam_pipelines.transforms import duplicates, finish
from beam_pipelines.transforms.duplicates import all_but_one


def _corpus(corpus):
    """dev, test and train share some audio, in other formats as well; returns {name of the content: its places}."""
    places = {
        "a": [("train", "1-7-0000", "flac"), ("train", "1-7-0001", "flac")],
        "b": [("train", "1-7-0002", "flac"), ("dev", "2-7-0000", "wav")],
        "c": [("train", "1-7-0003", "wav"), ("test", "3-7-0000", "flac"), ("dev", "2-7-0001", "flac")],
        "d": [("train", "1-7-0004", "flac")],
        "e": [("test", "3-7-0001", "flac")],
    }
    for seed, found in enumerate(places.values()):
        for split, name, suffix in found:
            folder = corpus / split / name[0] / "7"
            samples = (32767 * made.noise(0.4 + 0.1 * seed, seed=seed)).astype(np.int16)
            made.put(folder / f"{name}.{suffix}", made.encoded(samples, format=suffix.upper()))
            with (folder / f"{name[0]}-7.trans.txt").open("a") as transcripts:
                transcripts.write(f"{name} text of {split}\n")
    return places


def test_one_copy_stays_in_the_first_split_and_with_the_smallest_id(tmp_path):
    _corpus(tmp_path / "corpus")
    info, _ = prepare(tmp_path / "corpus", tmp_path / "records", num_shards=2)
    assert set(made.read(tmp_path / "records")) == {
        ("train", "1-7-0000"),
        ("dev", "2-7-0000"),
        ("dev", "2-7-0001"),
        ("train", "1-7-0004"),
        ("test", "3-7-0001"),
    }
    letters = {letter["id"]: letter for letter in made.dead_letters(tmp_path / "records")}
    assert {name: (letter["reason"], letter["error"]) for name, letter in letters.items()} == {
        "1-7-0001": ("duplicate_audio", "the same audio as 1-7-0000 of split train"),
        "1-7-0002": ("duplicate_audio", "the same audio as 2-7-0000 of split dev"),
        "1-7-0003": ("duplicate_audio", "the same audio as 2-7-0001 of split dev"),
        "3-7-0000": ("duplicate_audio", "the same audio as 2-7-0001 of split dev"),
    }
    assert letters["1-7-0003"]["source"] == str(tmp_path / "corpus" / "train" / "1" / "7" / "1-7-0003.wav")
    assert info.counts == {"input": 9, "written": 5, "rejected": 4}
    # No two records of the whole dataset have the same audio.
    digests = [hashlib.md5(value["audio"].numpy()).digest() for value in made.read(tmp_path / "records").values()]
    assert len(set(digests)) == len(digests)


def test_what_describes_the_shards_is_that_of_what_is_left(tmp_path):
    _corpus(tmp_path / "corpus")
    info, _ = prepare(tmp_path / "corpus", tmp_path / "records", num_shards=2)
    for name, split in info.splits.items():
        found = [value for key, value in made.read(tmp_path / "records").items() if key[0] == name]
        seconds = [value["num_samples"].numpy() / 16000 for value in found]
        statistics = info.statistics["splits"][name]
        assert split.utterances == len(found) == sum(shard.records for shard in split.shards)
        assert split.hours == pytest.approx(sum(seconds) / 3600)
        counts = np.histogram(seconds, np.arange(0, 2, 0.5))[0]
        assert statistics["lengths"]["utterances"] == np.trim_zeros(counts, "b").tolist()
        assert statistics["speakers"]["number"] == 1
        assert statistics["speakers"]["most"][0]["utterances"] == len(found)
        for shard in split.shards:
            content = (tmp_path / "records" / shard.file).read_bytes()
            assert (shard.bytes, shard.crc32c) == (len(content), f"{google_crc32c.value(content):08x}")


def test_a_corpus_without_its_duplicates_gives_the_same_records(tmp_path):
    """Records are copied as they are: the same as if the other copies had never been there."""
    _corpus(tmp_path / "corpus")
    shutil.copytree(tmp_path / "corpus", tmp_path / "clean")
    prepare(tmp_path / "corpus", tmp_path / "records", num_shards=2)
    for letter in made.dead_letters(tmp_path / "records"):
        path = tmp_path / "clean" / letter["split"] / letter["id"][0] / "7" / letter["source"].rpartition("/")[2]
        path.unlink()
        transcripts = path.parent / f"{letter['id'][0]}-7.trans.txt"
        lines = [line for line in transcripts.read_text().splitlines() if not line.startswith(letter["id"])]
        transcripts.write_text("\n".join(lines))
    prepare(tmp_path / "clean", tmp_path / "expected", num_shards=2)
    for path, content in made.contents(tmp_path / "expected").items():
        if path.endswith(".tfrecord"):
            assert (tmp_path / "records" / path).read_bytes() == content, path


def test_they_can_be_kept(tmp_path):
    places = _corpus(tmp_path / "corpus")
    info, _ = prepare(tmp_path / "corpus", tmp_path / "records", keep_duplicates=True)
    assert info.counts["written"] == sum(len(found) for found in places.values())


def test_only_what_would_be_stored_counts(tmp_path):
    """A copy that is louder is another one, until all are brought to one level."""
    samples = made.noise(1.0)
    for name, gain in (("a", 1.0), ("b", 0.5)):
        content = made.encoded(gain * samples, format="WAV", subtype="FLOAT")
        made.put(tmp_path / "audio" / f"{name}.wav", content)
    info, _ = prepare(tmp_path / "audio", tmp_path / "as_is", format="audio")
    assert info.counts["written"] == 2
    info, _ = prepare(tmp_path / "audio", tmp_path / "level", format="audio", level_dbfs=-30.0)
    assert info.rejected == {"duplicate_audio": 1}
    assert set(made.read(tmp_path / "level")) == {("audio", "a")}


def test_workers_and_shards_do_not_change_which_one_stays(tmp_path):
    _corpus(tmp_path / "corpus")
    kept = set()
    for shards, threads in ((1, 1), (3, 2), (7, 2)):
        output = tmp_path / f"{shards}"
        options = PipelineOptions([f"--direct_num_workers={threads}", "--direct_running_mode=multi_threading"])
        prepare(tmp_path / "corpus", output, num_shards=shards, beam_options=options)
        kept.add(tuple(sorted(made.read(output))))
    assert len(kept) == 1


def test_a_run_that_dies_while_shards_are_rewritten_is_made_good(tmp_path, monkeypatch):
    _corpus(tmp_path / "corpus")
    prepare(tmp_path / "corpus", tmp_path / "whole", num_shards=2)
    rewrite, calls = duplicates.rewrite, itertools.count()

    def dying(*arguments):
        if next(calls) == 1:
            raise RuntimeError("simulated kill")
        return rewrite(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "rewrite", dying)
        with pytest.raises(Exception, match="simulated kill"):
            prepare(tmp_path / "corpus", tmp_path / "killed", num_shards=2)
    prepare(tmp_path / "corpus", tmp_path / "killed", num_shards=2)
    assert made.contents(tmp_path / "killed") == made.contents(tmp_path / "whole")


def test_a_copy_that_has_gone_since_does_not_take_the_other_with_it(tmp_path, monkeypatch):
    """Killed when the copy in train had been dropped for that in dev; then dev's is removed from the corpus."""
    _corpus(tmp_path / "corpus")

    def killed(*arguments, **settings):
        raise RuntimeError("killed at the end")

    with monkeypatch.context() as patch:
        patch.setattr(finish, "_remove_strays", killed)
        with pytest.raises(Exception, match="killed at the end"):
            prepare(tmp_path / "corpus", tmp_path / "records", num_shards=2)
    (tmp_path / "corpus" / "dev" / "2" / "7" / "2-7-0000.wav").unlink()
    prepare(tmp_path / "corpus", tmp_path / "records", num_shards=2)
    assert ("train", "1-7-0002") in made.read(tmp_path / "records")
    assert made.reasons(tmp_path / "records")["2-7-0000"] == "missing_audio"


def test_rewriting_twice_is_the_same_as_once(tmp_path):
    """A runner may try a bundle again after it has done its work."""
    _corpus(tmp_path / "corpus")
    prepare(tmp_path / "corpus", tmp_path / "records", num_shards=1, keep_duplicates=True, splits=["train"])
    page = json.loads((tmp_path / "records" / "dataset.json").read_text())
    (shard,) = page["splits"]["train"]["shards"]
    report = _report(shard)
    dropped = [("1-7-0001", "/a.flac", "1-7-0000 of split train"), ("1-7-0003", "/b.wav", "2-7-0001 of split dev")]
    once = duplicates.rewrite(str(tmp_path / "records"), report, dropped)
    content = (tmp_path / "records" / shard["file"]).read_bytes()
    again = duplicates.rewrite(str(tmp_path / "records"), report, dropped)
    assert once == again
    assert (tmp_path / "records" / shard["file"]).read_bytes() == content
    assert [line["id"] for line in once.rejected] == ["1-7-0001", "1-7-0003"]


def _report(shard):
    from beam_pipelines.transforms.tally import Tally
    from tf_rnnt_kd.records import Shard

    tally = Tally("train", labelled=True, sources=shard["records"])
    return tally.report(Shard(**shard))


def test_all_but_one_by_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(200):
        copies = sorted({(f"s{rng.integers(3)}", f"f{rng.integers(3)}", f"u{rng.integers(5)}", "x") for _ in range(6)})
        copies = [copy for index, copy in enumerate(copies) if (copy[0], copy[2]) not in
                  {(other[0], other[2]) for other in copies[:index]}]  # fmt: skip
        first = min(copies, key=lambda copy: (copy[0], copy[2]))
        rng.shuffle(copies)
        gone = list(all_but_one(tuple(copy) for copy in copies))
        assert sorted((file, name) for file, (name, _, _) in gone) == sorted(
            (file, name) for split, file, name, _ in map(tuple, copies) if (split, name) != (first[0], first[2])
        )
        assert {stays for _, (_, _, stays) in gone} <= {f"{first[2]} of split {first[0]}"}
