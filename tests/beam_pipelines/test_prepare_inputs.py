"""Each input format, made here and read back; and inputs in which all kinds of things are wrong."""

import json
import os
from pathlib import Path

import made_corpora as made
import numpy as np
import pytest
import soundfile
from made_corpora import prepare

from beam_pipelines.corpus import list_corpus
from beam_pipelines.inputs import FORMATS, files, find_splits


def _kaldi(folder, **tables):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text("".join(f"{line}\n" for line in lines))


def _common_voice(folder, split, rows, *, columns=("client_id", "path", "sentence", "up_votes", "locale")):
    table = "".join("\t".join(row) + "\n" for row in [columns, *rows])
    made.put(folder / f"{split}.tsv", table.encode())


def _formats(path):
    return {(split.name, split.format) for split in find_splits(str(path))}


def test_kaldi_with_segments(tmp_path):
    data, output = tmp_path / "data", tmp_path / "records"
    whole = made.flac(tmp_path / "elsewhere" / "talk.flac", 6.0, seed=1)
    made.flac(data / "train" / "audio" / "call.flac", 3.0, seed=2)
    marker = tmp_path / "was_run"
    _kaldi(
        data / "train",
        wav_scp=[
            f"talk {tmp_path}/elsewhere/talk.flac",
            "call audio/call.flac",
            f"piped touch {marker} |",
            "lost audio/lost.flac",
            "unused audio/call.flac",
            "archive data.ark:1234",
        ],
        segments=[
            "talk-1 talk 0.5 2.0",
            "talk-2 talk 3.25 -1",
            "talk-3 talk 5.0 9.0",
            "call-1 call 0.25 1.25",
            "piped-1 piped 0 1",
            "lost-1 lost 0 1",
            "arch-1 archive 0 1",
            "nowhere-1 nowhere 0 1",
            "call-2 call 2 1",
            "call-3 call 1",
            "call-4 call 0 nan",
            "call-1 call 0 1",
            "untold call 1.5 2.5",
        ],
        text=["talk-1 one two", "talk-2\tthree", "talk-3 x", "call-1 four", "call-9 nobody", "piped-1 x", "lost-1 x",
              "arch-1 x", "nowhere-1 x", "call-2 x", "call-3 x", "call-4 x"],
        utt2spk=["talk-1 ann", "talk-2 ann", "call-1 bob"],
        utt2lang=["call-1 de"],
    )  # fmt: skip
    info, _ = prepare(data, output)
    found = made.read(output)
    assert made.texts(output) == {
        ("train", "talk-1"): "ONE TWO", ("train", "talk-2"): "THREE", ("train", "call-1"): "FOUR",
    }  # fmt: skip
    assert not marker.exists()
    first, second = found["train", "talk-1"], found["train", "talk-2"]
    np.testing.assert_array_equal(made.waveform(first), whole[8000:32000])
    np.testing.assert_array_equal(made.waveform(second), whole[52000:])
    assert [made.string(first, name) for name in ("speaker", "recording", "domain")] == ["ann", "talk", ""]
    assert (first["start_seconds"], first["end_seconds"]) == (0.5, 2.0)
    assert (second["start_seconds"], second["end_seconds"]) == (3.25, 6.0)
    assert made.string(found["train", "call-1"], "domain") == "de"
    assert made.reasons(output) == {
        "talk-3": "truncated",
        "piped-1": "command_pipe",
        "lost-1": "missing_audio",
        "arch-1": "unsupported_format",
        "nowhere-1": "missing_audio",
        "call-2": "bad_line",
        "call-3": "bad_line",
        "call-4": "bad_line",
        "call-1": "duplicate_id",
        "call-9": "missing_audio",
        "untold": "missing_transcript",
        "unused": "no_segment",
    }
    # 13 lines of segments, a transcript and a recording that belong to none.
    assert info.counts == {"input": 15, "written": 3, "rejected": 12}


def test_kaldi_without_segments_or_transcripts(tmp_path):
    made.flac(tmp_path / "unlabelled" / "a.flac", seed=1)
    made.flac(tmp_path / "unlabelled" / "b.flac", seed=2)
    _kaldi(tmp_path / "unlabelled", wav_scp=["a a.flac", "b b.flac", "c ../c.flac"])
    info, _ = prepare(tmp_path / "unlabelled", tmp_path / "records")
    assert not info.splits["unlabelled"].labelled
    assert set(made.texts(tmp_path / "records")) == {("unlabelled", "a"), ("unlabelled", "b")}
    assert made.reasons(tmp_path / "records") == {"c": "bad_name"}


def test_segments_of_a_recording_lie_in_one_shard_and_it_is_decoded_once(tmp_path, monkeypatch):
    from beam_pipelines.transforms import utterances

    made.flac(tmp_path / "train" / "a.flac", 4.0)
    _kaldi(
        tmp_path / "train",
        wav_scp=["rec a.flac"],
        segments=[f"utt{index} rec {index / 4} {(index + 1) / 4}" for index in range(16)],
    )
    decode, decoded = utterances.decode_audio, []

    def counting(path, **settings):
        decoded.append(path)
        return decode(path, **settings)

    monkeypatch.setattr(utterances, "decode_audio", counting)
    info, _ = prepare(tmp_path / "train", tmp_path / "records", num_shards=5)
    assert decoded == [str(tmp_path / "train" / "a.flac")]
    assert sorted(shard.records for shard in info.splits["train"].shards) == [0, 0, 0, 0, 16]


def test_common_voice_in_two_languages(tmp_path):
    corpus, output = tmp_path / "cv", tmp_path / "records"
    for index, (language, name) in enumerate([("en", "one"), ("en", "two"), ("en", "three"), ("de", "eins")]):
        samples = made.noise(1.0, rate=32000, seed=index)
        made.put(corpus / language / "clips" / f"{name}.mp3", made.encoded(samples, format="MP3", rate=32000))
    _common_voice(
        corpus / "en",
        "train",
        [
            ["ann", "one.mp3", 'He said "yes".', "2", "en"],
            ["bob", "two", "Two", "2", "en"],
            ["bob", "gone.mp3", "Gone", "2", "en"],
            ["bob", "../../secret.mp3", "Up", "2", "en"],
            ["bob", "..", "Up", "2", "en"],
            ["bob", "one.mp3", "too few columns"],
        ],
    )
    _common_voice(corpus / "en", "test", [["cid", "three.mp3", "Three", "0", "en"]])
    _common_voice(corpus / "en", "reported", [["Two", "en"]], columns=("sentence", "locale"))
    _common_voice(corpus / "de", "train", [["eva", "eins.mp3", "Fünf Straßen", "2", "de"]])
    assert _formats(corpus) == {("train", "common_voice"), ("test", "common_voice")}
    prepare(corpus, output, text_profile="words")
    found = made.read(output)
    assert made.texts(output) == {
        ("train", "one"): "HE SAID YES", ("train", "two"): "TWO", ("test", "three"): "THREE",
        ("train", "eins"): "FÜNF STRASSEN",
    }  # fmt: skip
    described = {key[1]: (made.string(value, "speaker"), made.string(value, "domain")) for key, value in found.items()}
    assert described == {"one": ("ann", "en"), "two": ("bob", "en"), "three": ("cid", "en"), "eins": ("eva", "de")}
    assert made.reasons(output) == {
        "gone": "missing_audio", "line-00000005": "bad_name", "line-00000006": "bad_name", "line-00000007": "bad_line",
    }  # fmt: skip
    statistics = json.loads((output / "dataset.json").read_text())["statistics"]["splits"]["train"]
    assert {name: counts["utterances"] for name, counts in statistics["domains"].items()} == {"de": 1, "en": 2}


def test_the_text_profile_follows_the_domain(tmp_path):
    entries = [("en", "Five!", "en"), ("de", "Ein Fuß", "de-DE"), ("tr", "iki ışık", "tr"), ("xx", "what", "tlh")]
    entries += [("no", "hi", ""), ("nine", "In 1984", "en")]
    for index, (name, _, _) in enumerate(entries):
        made.flac(tmp_path / "corpus" / f"{name}.flac", seed=index)
    made.manifest(
        tmp_path / "corpus" / "train.jsonl",
        [{"audio_filepath": f"{name}.flac", "text": text, "lang": lang} for name, text, lang in entries],
    )
    prepare(tmp_path / "corpus", tmp_path / "records", text_profile="by_domain")
    found = made.texts(tmp_path / "records")
    assert found == {("train", "en"): "FIVE", ("train", "de"): "EIN FUẞ", ("train", "tr"): "İKİ IŞIK"}
    assert made.reasons(tmp_path / "records") == {"xx": "no_text_profile", "no": "no_text_profile", "nine": "digits"}


def test_a_pattern_and_a_folder_of_audio(tmp_path):
    root = tmp_path / "pod casts"
    for index, name in enumerate(["a.flac", "x/b.flac", "x/y/c.flac", "x/d.wav", "x/note.txt"]):
        made.put(root / name, made.encoded(made.noise(seed=index), format="WAV" if name.endswith("wav") else "FLAC"))
    expected = {
        f"{root}/**/*.flac": {"a", "x/b", "x/y/c"},
        f"{root}/*/*.flac": {"x/b"},
        f"{root}/x/**": {"b", "y/c", "d"},
        f"{root}/[ab].flac": {"a"},
        f"{root}/**": {"a", "x/b", "x/y/c", "x/d"},
        f"{root}/a.flac": {"a"},
        f"{tmp_path}/odd [1]/b[2].flac": {"b[2]"},
    }
    made.flac(tmp_path / "odd [1]" / "b[2].flac")
    for pattern, ids in expected.items():
        (split,) = find_splits(pattern)
        form = FORMATS[split.format]
        sources = [source for part in form.parts(split) for source in form.sources(split, part)]
        assert sorted(source.utterance_id for source in sources) == sorted(ids), pattern
    info, _ = prepare(f"{root}/**/*.flac", tmp_path / "records")
    assert set(made.texts(tmp_path / "records")) == {("pod casts", name) for name in ("a", "x/b", "x/y/c")}
    assert not info.splits["pod casts"].labelled
    with pytest.raises(ValueError, match="no corpus in .*--format=NAME"):
        find_splits(f"{root}/x/y")
    info, _ = prepare(root, tmp_path / "folder", format="audio")
    assert info.counts["written"] == 4
    (split,) = find_splits(str(tmp_path / "odd [1]"), format="audio")
    (source,) = FORMATS["audio"].sources(split, "")
    assert source.audio == f"{tmp_path}/odd [1]/b[2].flac"


def test_libri_light_is_told_from_librispeech_by_its_side_files(tmp_path):
    light = tmp_path / "light"
    for index, (split, speaker) in enumerate([("small", "7"), ("medium", "8")]):
        path = light / split / speaker / "a_book" / "chapter_01.flac"
        made.flac(path, seed=index)
        path.with_suffix(".json").write_text(json.dumps({"speaker": f"reader {speaker}", "book_meta": {"id": "1"}}))
    made.flac(light / "small" / "7" / "a_book" / "chapter_02.flac", seed=5)
    (light / "small" / "7" / "a_book" / "chapter_02.json").write_text('{"voice_activity": [[3, 1]]}')
    made.flac(light / "small" / "7" / "a_book" / "chapter_03.flac", seed=6)
    (light / "small" / "7" / "a_book" / "chapter_03.json").write_text("{")
    made.flac(light / "small" / "7" / "a_book" / "chapter_04.flac", seed=7)
    assert _formats(light) == {("small", "libri_light"), ("medium", "libri_light")}
    assert _formats(light / "small") == {("small", "libri_light")}
    prepare(light, tmp_path / "records", segment="never")
    found = made.read(tmp_path / "records")
    speakers = {key: made.string(features, "speaker") for key, features in found.items()}
    assert speakers == {
        ("small", "7/a_book/chapter_01"): "reader 7",
        ("small", "7/a_book/chapter_04"): "7",
        ("medium", "8/a_book/chapter_01"): "reader 8",
    }
    assert made.reasons(tmp_path / "records") == {
        "7/a_book/chapter_02": "bad_side_file", "7/a_book/chapter_03": "bad_side_file",
    }  # fmt: skip


def test_several_inputs_are_put_together(tmp_path):
    made.chapter(tmp_path / "one", "train", "1", {0: "A", 1: "B"})
    made.chapter(tmp_path / "one", "dev", "2", {0: "C"})
    made.flac(tmp_path / "two" / "d.flac", seed=77)
    made.manifest(
        tmp_path / "two" / "train.jsonl",
        [{"audio_filepath": "d.flac", "text": "D"}, {"audio_filepath": "d.flac", "text": "D", "id": "1-7-0000"}],
    )
    info, _ = prepare([tmp_path / "one", tmp_path / "two"], tmp_path / "records")
    assert made.texts(tmp_path / "records") == {
        ("train", "1-7-0000"): "A", ("train", "1-7-0001"): "B", ("train", "d"): "D", ("dev", "2-7-0000"): "C",
    }  # fmt: skip
    assert info.rejected == {"duplicate_id": 1}
    assert info.settings["format"] == ["librispeech", "nemo"]


def test_records_are_divided_anew_selected_and_filtered(tmp_path):
    made.chapter(tmp_path / "corpus", "train", "1", {number: f"word {number}" for number in range(6)})
    made.chapter(tmp_path / "corpus", "dev", "2", {0: "C"})
    made.put(tmp_path / "corpus" / "train" / "1" / "7" / "1-7-0009.flac", made.encoded(made.noise(2.0, seed=9)))
    with (tmp_path / "corpus" / "train" / "1" / "7" / "1-7.trans.txt").open("a") as transcripts:
        transcripts.write("1-7-0009 LONG\n")
    rows = ["utt\tword\tstart_s\tend_s", "1-7-0003\tword\t0.1\t0.2", "1-7-0003\t3\t0.2\t0.3"]
    (tmp_path / "corpus" / "train" / "alignments.tsv").write_text("\n".join(rows))
    first, second = tmp_path / "first", tmp_path / "second"
    prepare(tmp_path / "corpus", first, num_shards=3, text_profile="verbatim")
    assert made.texts(first)["train", "1-7-0003"] == "word 3"
    assert _formats(first) == {("train", "records"), ("dev", "records")}
    info, _ = prepare(first, second, num_shards=2, splits=["train"], max_seconds=1.0)
    assert list(info.splits) == ["train"]
    assert info.rejected == {"too_long": 1}
    before, after = made.read(first), made.read(second)
    assert set(after) == {key for key in before if key[0] == "train" and key[1] != "1-7-0009"}
    for key, features in after.items():
        for name, value in features.items():
            same = value.values if name.startswith("words/") else value
            other = before[key][name].values if name.startswith("words/") else before[key][name]
            np.testing.assert_array_equal(same.numpy(), other.numpy(), err_msg=f"{key} {name}")
    assert len(after["train", "1-7-0003"]["words/text"].values) == 2
    # Divided as at first, they are the same bytes again.
    prepare(first, tmp_path / "third", num_shards=3)
    shards = {name: content for name, content in made.contents(first).items() if name.endswith(".tfrecord")}
    assert shards == {name: content for name, content in made.contents(tmp_path / "third").items() if name in shards}


def test_damaged_records_are_all_accounted_for(tmp_path):
    made.chapter(tmp_path / "corpus", "train", "1", {number: f"word {number}" for number in range(6)})
    prepare(tmp_path / "corpus", tmp_path / "records", num_shards=1)
    path = tmp_path / "records" / "train" / "train-00000-of-00001.tfrecord"
    content = bytearray(path.read_bytes())
    size = len(content) // 6
    content[3 * size + size // 2] ^= 1
    path.write_bytes(content)
    info, _ = prepare(tmp_path / "records", tmp_path / "again")
    assert info.counts == {"input": 6, "written": 3, "rejected": 3}
    assert info.rejected == {"damaged": 3}


def test_other_records_are_refused_with_what_they_are(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"kind": "utterances", "schema_version": 0}))
    with pytest.raises(ValueError, match="schema version 0"):
        find_splits(str(tmp_path))
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "something else"}))
    with pytest.raises(ValueError, match="no corpus in"):
        find_splits(str(tmp_path))


def test_a_format_can_be_forced_and_a_wrong_one_says_what_it_needs(tmp_path):
    made.chapter(tmp_path, "train", "1", {0: "A"})
    with pytest.raises(ValueError, match="--format=kaldi means SPLIT/wav.scp.*: there is no such thing in"):
        find_splits(str(tmp_path), format="kaldi")
    with pytest.raises(ValueError, match="--format=wave: no such format, choose one of: auto, librispeech"):
        find_splits(str(tmp_path), format="wave")
    (split,) = find_splits(str(tmp_path), format="audio")
    assert (split.format, split.name) == ("audio", tmp_path.name)
    assert set(FORMATS) == {"librispeech", "libri_light", "nemo", "kaldi", "common_voice", "audio", "records"}


def test_an_index_counts_more_than_audio_two_folders_down(tmp_path):
    made.flac(tmp_path / "audio" / "speaker" / "a.flac")
    made.manifest(tmp_path / "train.jsonl", [{"audio_filepath": "audio/speaker/a.flac", "text": "a"}])
    assert _formats(tmp_path) == {("train", "nemo")}


def test_a_dry_run_counts_sources_and_writes_nothing(tmp_path):
    made.chapter(tmp_path / "corpus", "train", "1", {0: "A", 1: "B", 2: None})
    made.manifest(tmp_path / "other" / "dev.jsonl", [{"audio_filepath": "x.wav"}, "{"])
    before = made.contents(tmp_path)
    paths = [str(tmp_path / "corpus"), str(tmp_path / "other")]
    assert list(list_corpus(paths, count=True)) == [
        f"dev: nemo in {tmp_path}/other/dev.jsonl: 2 sources, 0 with a transcript, 1 refused (1 bad_manifest_line)",
        f"train: librispeech in {tmp_path}/corpus/train: 3 sources, 2 with a transcript, 0 refused",
    ]
    assert made.contents(tmp_path) == before


@pytest.mark.timeout(60)
def test_names_and_paths_that_are_tricks_are_refused_one_by_one(tmp_path):
    folder, output = tmp_path / "corpus" / "train" / "1" / "7", tmp_path / "records"
    made.chapter(tmp_path / "corpus", "train", "1", {0: "YES"})
    flac = made.encoded(made.noise(seed=5))
    made.put(folder / "1-7-0001.flac", flac)
    (folder / "1-7.trans.txt").open("ab").write(b"1-7-0001 GO\n1-7-0002 \xff\xfe\n")
    with open(os.fsencode(folder) + b"/b\xe4d.flac", "wb") as file:
        file.write(flac)
    Path(os.fsdecode(os.fsencode(tmp_path / "corpus" / "train") + b"/sp\xe9aker")).mkdir()
    with open(os.fsencode(tmp_path / "corpus" / "train") + b"/sp\xe9aker/x.flac", "wb") as file:
        file.write(flac)
    os.mkfifo(folder / "pipe.flac")
    os.mkfifo(folder / "pipe.trans.txt")
    (folder / "broken.flac").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "up").symlink_to(tmp_path / "corpus" / "train" / "1")
    (folder / "folder.flac").mkdir()
    info, _ = prepare(tmp_path / "corpus", output)
    assert set(made.texts(output)) == {("train", "1-7-0000"), ("train", "1-7-0001")}
    assert made.reasons(output) == {
        "1-7-0002": "bad_transcript_line",
        "b\\udce4d": "bad_name",
        "x": "bad_name",
        "1/7/pipe": "unreadable",
        "1/7/broken": "missing_audio",
        "1/7/loop": "unreadable",
        "1/7/up": "unreadable",
    }
    assert info.counts["input"] == 9


@pytest.mark.timeout(60)
def test_tricks_in_manifests_are_refused_line_by_line(tmp_path):
    corpus, output = tmp_path / "corpus", tmp_path / "records"
    made.flac(corpus / "good.flac")
    os.mkfifo(corpus / "pipe.wav")
    (corpus / "folder.wav").mkdir()
    made.manifest(
        corpus / "train.jsonl",
        [
            {"audio_filepath": "good.flac", "text": "yes", "duration": 0.5},
            {"audio_filepath": "../corpus/good.flac", "text": "up", "id": "climbs"},
            {"audio_filepath": "good\0.flac", "text": "nul", "id": "nul"},
            '{"audio_filepath": "\\ud800.flac", "text": "x", "id": "surrogate"}',
            '{"audio_filepath": "good.flac", "text": "\\udfff", "id": "text"}',
            {"audio_filepath": "pipe.wav", "text": "x"},
            {"audio_filepath": "folder.wav", "text": "x"},
            {"audio_filepath": "/dev/zero", "text": "x"},
            {"audio_filepath": "good.flac/x.flac", "text": "x"},
            {"audio_filepath": "a" * 5000 + ".wav", "text": "x", "id": "long"},
            '{"audio_filepath": "good.flac", "text": "x", "duration": 1e400, "id": "endless"}',
            '{"audio_filepath": "good.flac", "text": "x", "duration": 1' + "0" * 400 + "}",
            "[" * 100000,
            b'{"audio_filepath": "g\xffod.flac", "text": "x"}',
            '{"audio_filepath": "good.flac", "text": "x", "duration": NaN}',
        ],
    )
    info, _ = prepare(corpus, output)
    assert made.texts(output) == {("train", "good"): "YES"}
    reasons = made.reasons(output)
    assert {name: reason for name, reason in reasons.items() if not name.startswith("line-")} == {
        "surrogate": "bad_name",
        "text": "bad_text",
        "pipe": "unreadable",
        "folder": "unreadable",
        "/dev/zero": "unreadable",
        "good.flac/x": "missing_audio",
        "long": "unreadable",
    }
    assert sorted(reason for name, reason in reasons.items() if name.startswith("line-")) == [
        "bad_manifest_line"] * 5 + ["bad_name"] * 2  # fmt: skip
    assert info.counts == {"input": 15, "written": 1, "rejected": 14}


def test_what_is_no_folder_is_one_refusal(tmp_path):
    """As root there is no folder that cannot be read; there are other reasons."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "absent", f"{tmp_path}/nul\0"):
        folder = files.listing(str(path))
        assert (folder.folders, folder.files) == ((), ())
        assert [odd.reason for odd in folder.odd] == ["unreadable"]


def test_what_tests_compare_with_is_what_soundfile_reads(tmp_path):
    samples = made.flac(tmp_path / "a.flac", seed=3)
    np.testing.assert_array_equal(samples, soundfile.read(tmp_path / "a.flac")[0])
