"""Corpora made here, records read back with plain TensorFlow, waveforms compared with soundfile."""

import collections
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import google_crc32c
import made_corpora as made
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from made_corpora import prepare

from beam_pipelines.corpus import prepare_corpus
from beam_pipelines.inputs import find_splits
from beam_pipelines.transforms import finish, progress, utterances
from beam_pipelines.transforms.write import shard_of

_ROOT = Path(__file__).parents[2]


def _small_corpus(corpus):
    made.chapter(corpus, "train", "11", {0: "YES", 1: "NO GO"})
    made.chapter(corpus, "train", "12", {0: "go  stop"}, suffix="ogg", format="OGG")
    made.chapter(corpus, "train", "13", {0: "UP", 1: "DOWN"}, suffix="wav", format="WAV")
    made.chapter(corpus, "extra", "21", {0: None, 1: None, 2: None})
    made.chapter(corpus, "extra-truth", "21", {0: "HIDDEN"})
    return corpus


def _counter(name):
    return lambda lines: collections.Counter(line[name] for line in lines)


def test_librispeech_layout_read_back_with_plain_tensorflow(tmp_path):
    corpus, output = _small_corpus(tmp_path / "corpus"), tmp_path / "records"
    info, is_new = prepare(corpus, output, num_shards=3)
    assert is_new
    found = made.read(output)
    assert {key: made.string(features, "text") for key, features in found.items()} == {
        ("train", "11-7-0000"): "YES",
        ("train", "11-7-0001"): "NO GO",
        ("train", "12-7-0000"): "GO STOP",
        ("train", "13-7-0000"): "UP",
        ("train", "13-7-0001"): "DOWN",
        ("extra", "21-7-0000"): "(none)",
        ("extra", "21-7-0001"): "(none)",
        ("extra", "21-7-0002"): "(none)",
    }
    for (split, utterance_id), features in found.items():
        speaker = utterance_id.split("-")[0]
        assert features["speaker"].numpy().decode() == speaker
        (source,) = (corpus / split / speaker / "7").glob(f"{utterance_id}.*")
        expected, _ = soundfile.read(source)
        # OGG decodes to floats, which 16 bits round.
        np.testing.assert_allclose(made.waveform(features), expected, atol=0 if source.suffix != ".ogg" else 2e-5)

    page = json.loads((output / "dataset.json").read_text())
    assert page["counts"] == {"input": 8, "written": 8, "rejected": 0}
    assert page["splits"]["train"]["labelled"] is True
    assert page["splits"]["extra"]["labelled"] is False
    assert page["splits"]["train"]["hours"] == pytest.approx(5 * 0.5 / 3600)
    for split in page["splits"].values():
        assert len(split["shards"]) == 3
        for shard in split["shards"]:
            content = (output / shard["file"]).read_bytes()
            assert (shard["bytes"], shard["crc32c"]) == (len(content), f"{google_crc32c.value(content):08x}")
            assert shard["records"] == sum(1 for _ in tf.data.TFRecordDataset(str(output / shard["file"])))
    assert info.counts == page["counts"]
    assert (output / "dead_letter.jsonl").read_text() == ""


def _bad_corpus(corpus):
    """A split with one of every fault, four good utterances among them; {id: reason} of what must be refused."""
    folder = corpus / "train" / "31" / "7"
    flac, wav = (made.encoded(made.noise(), format=format) for format in ("FLAC", "WAV"))
    ogg = made.encoded(made.noise(2), format="OGG")
    flipped = bytearray(flac)
    flipped[len(flac) // 2] ^= 16
    smooth = np.convolve(made.noise(rate=8000)[:, 0], np.hanning(12), mode="same")
    with_nan = made.noise().astype(np.float32)
    with_nan[7] = np.nan
    faults = {
        "empty": ("flac", b"", "empty_file"),
        "cut": ("flac", flac[: len(flac) // 2], "truncated"),
        "flipped": ("flac", bytes(flipped), None),
        "html": ("flac", b"<html>not found</html>", "not_audio"),
        "cut-ogg": ("ogg", ogg[: len(ogg) * 3 // 4], "truncated"),
        "cut-wav": ("wav", wav[: len(wav) // 2], "truncated"),
        "nan": ("wav", made.encoded(with_nan, format="WAV", subtype="FLOAT"), "non_finite"),
        "silent": ("flac", made.encoded(np.zeros(8000)), "silence"),
        "short": ("flac", made.encoded(made.noise(0.01)), "too_short"),
        "mp3": ("mp3", made.encoded(made.noise(1), format="MP3"), ""),
        "unwritten": ("flac", flac, "missing_transcript"),
        "wordless": ("flac", flac, "empty_transcript"),
        "good": ("flac", flac, ""),
        "slow": ("flac", made.encoded(smooth * np.hanning(len(smooth)), rate=8000), ""),
        "stereo": ("flac", made.encoded(made.noise(channels=2)), ""),
    }
    lines = []
    for name, (suffix, content, _) in faults.items():
        made.put(folder / f"{name}.{suffix}", content)
        if name != "unwritten":
            lines.append(f"{name}{'' if name == 'wordless' else ' YES NO'}".encode())
    lines += [b"gone YES", b"good ANOTHER TEXT", b"bytes \xff\xfe", b""]
    made.put(folder / "31-7.trans.txt", b"\n".join(lines))
    made.put(corpus / "train" / "32" / "7" / "good.flac", flac)
    made.put(corpus / "train" / "32" / "7" / "32-7.trans.txt", b"good YES NO\n")
    expected = {name: reason for name, (_, _, reason) in faults.items() if reason}
    return expected | {"gone": "missing_audio", "bytes": "bad_transcript_line"}


def test_bad_input_is_counted_listed_and_never_stops_the_job(tmp_path):
    corpus, output = tmp_path / "corpus", tmp_path / "records"
    expected = _bad_corpus(corpus)
    info, _ = prepare(corpus, output)
    letters = made.dead_letters(output)
    reasons = {letter["id"]: letter["reason"] for letter in letters}
    # Which of the checks finds a flipped bit depends on what the bit meant.
    assert reasons.pop("flipped") in {"damaged", "truncated"}
    assert reasons.pop("good") == "duplicate_id"
    assert reasons == expected
    # 15 audio files of speaker 31 and 1 of 32; a transcript without audio, a second one, an unreadable one.
    assert info.counts == {"input": 19, "written": 4, "rejected": 15}
    assert len(letters) == 15
    assert info.rejected == _counter("reason")(letters)
    assert info.rejected["duplicate_id"] == 2
    for letter in letters:
        assert set(letter) == {"id", "split", "source", "reason", "error"}
        assert letter["split"] == "train"
        assert Path(letter["source"]).exists()
        assert letter["error"]
    found = made.read(output)
    assert {key[1] for key in found} == {"good", "mp3", "slow", "stereo"}
    folder = corpus / "train" / "31" / "7"
    stereo, _ = soundfile.read(folder / "stereo.flac")
    np.testing.assert_allclose(made.waveform(found["train", "stereo"]), stereo.mean(axis=1), atol=0.5 / 32768 + 1e-9)
    assert found["train", "slow"]["num_samples"] == 8000
    # Resampled from 8 to 16 kHz: every second sample is the original, which has nothing near the band edge.
    slow, _ = soundfile.read(folder / "slow.flac")
    np.testing.assert_allclose(made.waveform(found["train", "slow"])[::2], slow, atol=1e-3)


def test_manifests_as_nemo_writes_them(tmp_path):
    corpus, output = tmp_path / "corpus", tmp_path / "records"
    for name, seconds in [("a", 1.0), ("b", 2.0), ("long", 10.0)]:
        made.put(corpus / "clips" / f"{name}.wav", made.encoded(made.noise(seconds, seed=len(name)), format="WAV"))
    outside = tmp_path / "elsewhere" / "c.flac"
    made.put(outside, made.encoded(made.noise(1.5)))
    made.manifest(
        corpus / "train.jsonl",
        [
            {"audio_filepath": "clips/a.wav", "duration": 1.0, "text": "one"},
            {"audio_filepath": "clips/b.wav", "duration": 2, "text": "two", "speaker": 5},
            "",
            {"audio_filepath": str(outside), "duration": 1.5, "text": "three", "utterance_id": "c"},
            {"audio_filepath": "clips/long.wav", "duration": 2.0, "offset": 1.5, "text": "four"},
            {"audio_filepath": "clips/long.wav", "duration": 2.0, "offset": 7.0, "text": "five"},
            {"audio_filepath": "clips/long.wav", "duration": 2.0, "offset": 9.0, "text": "beyond the end"},
            {"audio_filepath": "clips/b.wav", "duration": 30.0, "text": "stated too long", "id": "stated"},
            {"audio_filepath": "clips/a.wav", "duration": 1.0, "text": "again"},
            {"audio_filepath": "clips/absent.wav", "duration": 1.0, "text": "absent"},
            {"audio_filepath": "clips/a.wav", "duration": 1.0, "id": "untold"},
            {"audio_filepath": "clips/a.wav", "duration": -1, "text": "x"},
            {"audio_filepath": "clips/a.wav", "duration": "1 s", "text": "x"},
            {"duration": 1.0, "text": "no path"},
            {"audio_filepath": "clips/a.wav", "duration": 1.0, "text": 5},
            "{broken",
            "[1, 2]",
        ],
    )
    made.manifest(corpus / "unlabelled.json", [{"audio_filepath": "clips/a.wav", "duration": 1.0, "text": ""}])
    (corpus / "settings.json").write_text('{"no": "manifest"}')
    info, _ = prepare(corpus, output, keep_duplicates=True)
    found = made.read(output)
    assert {key: made.string(features, "text") for key, features in found.items()} == {
        ("train", "clips/a"): "ONE",
        ("train", "clips/b"): "TWO",
        ("train", "c"): "THREE",
        ("train", "clips/long@1.500"): "FOUR",
        ("train", "clips/long@7.000"): "FIVE",
        ("unlabelled", "clips/a"): "(none)",
    }
    assert found["train", "clips/b"]["speaker"] == b"5"
    whole, _ = soundfile.read(corpus / "clips" / "long.wav")
    np.testing.assert_array_equal(made.waveform(found["train", "clips/long@1.500"]), whole[24000:56000])
    assert info.counts == {"input": 17, "written": 6, "rejected": 11}
    letters = made.dead_letters(output)
    assert {letter["id"]: letter["reason"] for letter in letters if not letter["id"].startswith("line-")} == {
        "clips/long@9.000": "truncated",
        "stated": "truncated",
        "clips/a": "duplicate_id",
        "clips/absent": "missing_audio",
        "untold": "missing_transcript",
    }
    assert info.rejected["bad_manifest_line"] == 6
    (no_path,) = [letter for letter in letters if "'audio_filepath' is missing" in letter["error"]]
    assert no_path["source"] == f"{corpus}/train.jsonl:14"

    single, _ = prepare(corpus / "unlabelled.json", tmp_path / "single", num_shards=1)
    assert list(single.splits) == ["unlabelled"]


def test_a_shortened_ogg_is_found_by_its_pages_and_a_shorter_whole_file_by_the_manifest(tmp_path):
    corpus = tmp_path / "corpus"
    whole = made.encoded(made.noise(8.0), format="OGG")
    last_page = whole.rindex(b"OggS")
    made.put(corpus / "cut.ogg", whole[:last_page])
    made.put(corpus / "replaced.ogg", made.encoded(made.noise(4.0), format="OGG"))
    made.put(corpus / "whole.ogg", whole)
    made.manifest(
        corpus / "dev.jsonl",
        [{"audio_filepath": f"{name}.ogg", "duration": 8.0, "text": "x"} for name in ("cut", "replaced", "whole")],
    )
    info, _ = prepare(corpus, tmp_path / "records")
    assert info.rejected == {"truncated": 2}
    errors = {letter["id"]: letter["error"] for letter in made.dead_letters(tmp_path / "records")}
    assert "end-of-stream" in errors["cut"]
    assert errors["replaced"] == "the manifest says that it ends at 8.000 s, the file ends at 4.000 s"
    assert [key[1] for key in made.read(tmp_path / "records")] == ["whole"]


def test_word_times_come_from_alignments(tmp_path):
    corpus, output = _small_corpus(tmp_path / "corpus"), tmp_path / "records"
    rows = [
        ("utt", "word", "start_s", "end_s"),
        ("11-7-0000", "yes", "0.100", "0.300"),
        ("11-7-0001", "NO", "0.050", "0.200"),
        ("11-7-0001", "GO", "0.250", "0.400"),
        ("12-7-0000", "GO", "0.100", "0.200"),
        ("13-7-0000", "UP", "soon", "0.200"),
    ]
    (corpus / "train" / "alignments.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    info, _ = prepare(corpus, output, splits=["train"])
    found = made.read(output)
    assert set(info.splits) == {"train"}
    two_words = found["train", "11-7-0001"]
    assert two_words["words/text"].values.numpy().tolist() == [b"NO", b"GO"]
    np.testing.assert_allclose(two_words["words/start_seconds"].values, [0.05, 0.25])
    np.testing.assert_allclose(two_words["words/end_seconds"].values, [0.2, 0.4])
    assert found["train", "11-7-0000"]["words/text"].values.numpy().tolist() == [b"YES"]
    # Times that miss a word of the transcript, or are no numbers, are left out; the utterances stay.
    assert len(found["train", "12-7-0000"]["words/text"].values) == 0
    assert len(found["train", "13-7-0000"]["words/text"].values) == 0
    assert len(found) == 5


def test_two_builds_are_byte_identical_and_a_rerun_does_nothing(tmp_path):
    corpus = _small_corpus(tmp_path / "corpus")
    expected = _bad_corpus(corpus)
    assert expected
    for name in ("one", "two"):
        prepare(corpus, tmp_path / name)
    first = made.contents(tmp_path / "one")
    assert first == made.contents(tmp_path / "two")
    assert len(first) == len(["dataset.json", "dead_letter.jsonl", "report.html"]) + 2 * 4
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")}
    _, is_new = prepare(corpus, tmp_path / "one")
    assert not is_new
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")} == times


def test_other_settings_are_refused_and_a_missing_shard_is_noticed(tmp_path):
    corpus, output = _small_corpus(tmp_path / "corpus"), tmp_path / "records"
    prepare(corpus, output, num_shards=2)
    with pytest.raises(ValueError, match="holds another dataset .num_shards 2 instead of 3.: choose another --output"):
        prepare(corpus, output, num_shards=3)
    (output / "train" / "train-00001-of-00002.tfrecord").unlink()
    with pytest.raises(ValueError, match="is missing"):
        prepare(corpus, output, num_shards=2)


def test_a_run_that_dies_in_the_middle_is_made_good_by_the_next(tmp_path, monkeypatch):
    corpus = _small_corpus(tmp_path / "corpus")
    prepare(corpus, tmp_path / "whole", num_shards=2)
    killed = tmp_path / "killed"
    decode = utterances.decode_audio

    def dying(path, **settings):
        if "13-7-0001" in path:
            raise RuntimeError("simulated kill")
        return decode(path, **settings)

    monkeypatch.setattr(utterances, "decode_audio", dying)
    with pytest.raises(Exception, match="simulated kill"):
        prepare(corpus, killed, num_shards=2)
    monkeypatch.undo()
    assert not (killed / "dataset.json").exists()
    # What SIGKILL leaves: half a temporary file, a half-written page, shards of a run with other settings.
    (killed / "train").mkdir(exist_ok=True)
    (killed / "train" / "train-00000-of-00002.tfrecord.tmp").write_bytes(b"half")
    (killed / "train" / "train-00003-of-00004.tfrecord").write_bytes(b"stale")
    (killed / "dataset.json.tmp").write_bytes(b"{")
    prepare(corpus, killed, num_shards=2)
    assert made.contents(killed) == made.contents(tmp_path / "whole")


def test_shards_that_are_complete_are_not_made_again(tmp_path, monkeypatch):
    corpus, output = _small_corpus(tmp_path / "corpus"), tmp_path / "records"
    prepare(corpus, tmp_path / "whole", num_shards=3)
    decode, decoded = utterances.decode_audio, []

    def counting(path, **settings):
        decoded.append(Path(path).stem)
        return decode(path, **settings)

    def killed(*arguments, **settings):
        raise RuntimeError("killed at the end")

    with monkeypatch.context() as patch:
        patch.setattr(finish, "_remove_strays", killed)
        with pytest.raises(Exception, match="killed at the end"):
            prepare(corpus, output, num_shards=3)
    monkeypatch.setattr(utterances, "decode_audio", counting)
    # One shard is damaged meanwhile.
    names = [f"{speaker}-7-{number:04d}" for speaker, number in [(11, 0), (11, 1), (12, 0), (13, 0), (13, 1)]]
    damaged = shard_of(names[0], num_shards=3)
    path = output / "train" / f"train-{damaged:05d}-of-00003.tfrecord"
    path.write_bytes(path.read_bytes()[:-1])
    prepare(corpus, output, num_shards=3)
    assert sorted(decoded) == [name for name in names if shard_of(name, num_shards=3) == damaged]
    assert made.contents(output) == made.contents(tmp_path / "whole")


def test_another_number_of_workers_gives_the_same_bytes(tmp_path):
    corpus = _small_corpus(tmp_path / "corpus")
    prepare(corpus, tmp_path / "one", num_shards=2)
    options = PipelineOptions(["--direct_num_workers=2", "--direct_running_mode=multi_threading"])
    prepare(corpus, tmp_path / "two", num_shards=2, beam_options=options)
    assert made.contents(tmp_path / "one") == made.contents(tmp_path / "two")


def test_a_corpus_without_one_usable_utterance_is_an_error_that_points_to_the_list(tmp_path):
    made.put(tmp_path / "corpus" / "dev" / "1" / "7" / "a.flac", b"")
    with pytest.raises(Exception, match="none of 1 utterances is usable .1 empty_file.: see .*dead_letter.jsonl"):
        prepare(tmp_path / "corpus", tmp_path / "records")
    assert made.dead_letters(tmp_path / "records")[0]["reason"] == "empty_file"
    assert not (tmp_path / "records" / "dataset.json").exists()


def test_sources_that_get_lost_are_noticed(tmp_path):
    with pytest.raises(RuntimeError, match="5 sources were found, 0 were read"):
        finish.finish_dataset(str(tmp_path), reports=[], num_sources=5, speakers={}, settings={})


def test_splits_are_found_and_wrong_requests_say_what_there_is(tmp_path):
    corpus = _small_corpus(tmp_path / "corpus")
    assert [split.name for split in find_splits(str(corpus))] == ["extra", "train"]
    assert [split.name for split in find_splits(str(corpus / "train"))] == ["train"]
    with pytest.raises(ValueError, match="no split test in .*, it has: extra, train"):
        find_splits(str(corpus), wanted=["test"])
    with pytest.raises(ValueError, match="no such file or folder"):
        find_splits(str(tmp_path / "absent"))
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match="no corpus in .*LibriSpeech.*NeMo"):
        find_splits(str(tmp_path / "void"))
    made.manifest(corpus / "train.jsonl", [{"audio_filepath": "x.wav"}])
    with pytest.raises(ValueError, match="is both librispeech .* and nemo .*: say --format=librispeech or --f"):
        find_splits(str(corpus))


def test_the_output_may_not_be_the_input(tmp_path):
    corpus = _small_corpus(tmp_path / "corpus")
    with pytest.raises(ValueError, match="--output is the corpus itself"):
        prepare_corpus(str(corpus), output=f"{corpus}/train/..")


def test_shards_follow_from_md5_of_the_id():
    assert shard_of("1005-1-0000", num_shards=4) == int(hashlib.md5(b"1005-1-0000").hexdigest(), 16) % 4
    assert {shard_of(f"u{number}", num_shards=4) for number in range(40)} == {0, 1, 2, 3}


def test_progress_shows_a_line_for_each_tenth_and_a_bar_on_a_terminal():
    plain = io.StringIO()
    with progress.shown("work", file=plain):
        progress.expect(4)
        progress.advance(4)
    assert plain.getvalue().splitlines() == ["work: 4 of 4 utterances (100 %)"]
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    with progress.shown("work", file=terminal):
        progress.expect(4)
        progress.advance(3)
    assert "75%" in terminal.getvalue()
    assert "3/4" in terminal.getvalue()


def _command(*arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "beam_pipelines.prepare_corpus", *arguments]
    return subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=200)


def test_the_command_line(tmp_path):
    corpus, output = _small_corpus(tmp_path / "corpus"), tmp_path / "records"
    done = _command(f"--input={corpus}", f"--output={output}", "--num_shards=2")
    assert done.returncode == 0, done.stderr
    assert f"train: librispeech in {corpus}/train" in done.stderr
    assert "8 in the input = 8 written + 0 refused" in done.stderr
    assert len(made.read(output)) == 8


def test_a_dry_run_says_what_is_there_and_writes_nothing(tmp_path):
    corpus, output = _small_corpus(tmp_path / "corpus"), tmp_path / "records"
    done = _command(f"--input={corpus}", f"--output={output}", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert f"extra: librispeech in {corpus}/extra: 3 sources, 0 with a transcript, 0 refused" in done.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "prepare_corpus: --input is missing: Folder of the corpus, a manifest or a pattern."),
        (["--input=/nonexistent", "--output=x"], "prepare_corpus: no such file or folder: /nonexistent; --input takes"),
        (["--input=.", "--num_shards=many"], "prepare_corpus: flag --num_shards=many: "),
        (["--input=.", "--output=x", "--segment_seconds=2"], "prepare_corpus: --segment_seconds must be MIN,MAX"),
    ],
)
def test_a_wrong_command_gives_one_line(arguments, message):
    done = _command(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_misspelt_flag_is_no_option_of_beam(tmp_path):
    done = _command(f"--input={tmp_path}", f"--output={tmp_path}/x", "--num_shard=2")
    assert done.returncode == 1
    assert "prepare_corpus: no flag --num_shard, neither here nor in Apache Beam: see --help" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_short_and_has_an_example():
    done = _command("--help")
    assert "python -m beam_pipelines.prepare_corpus --input=LibriSpeech --output=run/records" in done.stdout
    for flag in ("--input", "--output", "--splits", "--num_shards", "--min_seconds", "--text_profile", "--runner",
                 "--format", "--segment", "--level_dbfs", "--[no]keep_duplicates", "--[no]dry_run"):  # fmt: skip
        assert flag in done.stdout
    assert done.stdout.count("\n") < 70
