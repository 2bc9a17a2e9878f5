"""The dry run: its tables against plain counting over rows, its files, and that it writes no records."""

import pathlib
import random

import jiwer
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from beam_pipelines import command_line, dry_run, fit_filter
from beam_pipelines import pseudo_label as pseudo_label_binary
from beam_pipelines.transforms.filters import Filters
from beam_pipelines.transforms.scores import Row, from_tsv
from tf_rnnt_kd.records import DatasetInfo, Split, Utterance, encode_utterance, read_shard, shard_file, write_shard

FRAME = 1280


def rows(count=200):
    """Made ones: the surer, the fewer errors; texts come several times."""
    dice = random.Random(0)
    made = []
    for i in range(count):
        confidence = dice.random()
        made.append(Row(
            position=i, utterance_id=f"u{i}", teacher="t", seconds=dice.uniform(1, 20), tokens=5,
            confidence=confidence, min_word_confidence=confidence**2, log_prob=-10 * (1 - confidence),
            log_prob_per_token=-2 * (1 - confidence), tokens_per_second=dice.uniform(0, 10),
            chars_per_second=dice.uniform(0, 30), nbest_margin=float("inf") if i % 5 == 0 else dice.random(),
            reference_words=10, word_errors=round(10 * (1 - confidence)), text=f"TEXT {i % 80}", audio_md5=str(i),
            same_text=count // 80 + (i % 80 < count % 80),
        ))  # fmt: skip
    return made


def test_tables_say_what_thresholds_keep():
    made = rows()
    found = dry_run.tables(made)
    assert found.keys() == {
        "min_confidence", "min_word_confidence", "min_nbest_margin", "min_tokens_per_second", "max_tokens_per_second",
        "min_chars_per_second", "max_chars_per_second", "max_same_text",
    }  # fmt: skip
    hours = sum(row.seconds for row in made)
    for field, table in found.items():
        assert table[0].threshold is None
        assert table[0].utterances == table[0].hours == 1.0
        shares = [kept.utterances for kept in table]
        assert field == "max_same_text" or shares == sorted(shares, reverse=True)
        assert field == "max_same_text" or shares[-1] < 0.35
    for kept in found["min_confidence"][1:]:
        stay = [row for row in made if row.confidence >= kept.threshold]
        assert kept.utterances == len(stay) / len(made)
        assert kept.hours == pytest.approx(sum(row.seconds for row in stay) / hours)
        assert kept.wer == pytest.approx(sum(row.word_errors for row in stay) / (10 * len(stay)))
    for kept in found["max_chars_per_second"][1:]:
        assert kept.utterances == np.mean([row.chars_per_second <= kept.threshold for row in made])
    # Of 80 texts 40 come three times, and 40 twice.
    assert [(kept.threshold, kept.utterances) for kept in found["max_same_text"]] == [
        (None, 1.0), (1, 80 / 200), (2, 160 / 200),
    ]  # fmt: skip


def test_the_report_for_a_terminal():
    made = rows()
    filters = Filters(min_confidence=0.5, max_same_text=1)
    lines = dry_run.lines(made, filters=filters, rejected={"too_long": 3})
    assert lines[0].startswith("200 utterances with labels, ")
    assert lines[0].endswith("without: 3 too_long")
    sure = [row for row in made if row.confidence >= 0.5]
    kept = len({row.text for row in sure})
    assert lines[1].startswith(f"the thresholds given keep {kept} utterances, ")
    assert lines[1].endswith(f"refused: {200 - len(sure)} low_confidence, {len(sure) - kept} same_text")
    start = lines.index("confidence: geometric mean of the tokens' probabilities") + 1
    bars = lines[start : lines.index("", start)]
    assert sum(int(bar.split()[-1]) for bar in bars) == 200
    assert max(bar.count("#") for bar in bars) == 50
    assert any("--min_confidence" in line and "WER of these" in line for line in lines)
    without = dry_run.lines([Row(**{**vars(row), "word_errors": None, "reference_words": None}) for row in made],
                            filters=Filters(), rejected={})  # fmt: skip
    assert without[0].endswith("without: none")
    assert not any("%" in line.split()[-1] for line in without if line)


def speech(seed, frames):
    random = np.random.default_rng(seed)
    waveform = np.zeros(frames * FRAME, np.float32)
    for start in range(0, frames - 2, 7):
        waveform[start * FRAME :][: 2 * FRAME] = random.uniform(0.2, 0.8) * random.uniform(-1, 1, 2 * FRAME)
    return waveform


@pytest.fixture(scope="module")
def world(tmp_path_factory, fake_teacher):
    """40 utterances with transcripts in two shards, two of them bad, and a teacher."""
    root = tmp_path_factory.mktemp("dry")
    fake_teacher.save(root / "teacher")
    words = ("ONE", "TWO", "THREE", "FOUR")
    records = [
        encode_utterance(Utterance(f"u{i}", speech(i, 8 + i), " ".join(words[(i + j) % 4] for j in range(1 + i // 7)),
                                   "speaker", "dev"))
        for i in range(38)
    ]  # fmt: skip
    records += [
        encode_utterance(Utterance("silent", np.zeros(9000, np.float32), "ONE", "speaker", "dev")),
        encode_utterance(Utterance("long", speech(0, 80), "ONE", "speaker", "dev")),
    ]
    shards = [write_shard(root / "records", file=shard_file("dev", index=i, num_shards=2), records=records[i::2])
              for i in range(2)]  # fmt: skip
    split = Split(shards=tuple(shards), utterances=40, hours=0.02, labelled=True)
    counts = {"input": 40, "written": 40, "rejected": 0}
    DatasetInfo(kind="utterances", splits={"dev": split}, counts=counts, rejected={}).save(root / "records")
    return root


def run(world, output, *more):
    values = flags.FlagValues()
    pseudo_label_binary.define_flags(values)
    arguments = [
        f"--records={world / 'records'}", "--split=dev", f"--teacher={world / 'teacher'}", f"--output={output}",
        "--max_seconds=5", "--batch_size=4", *more,
    ]  # fmt: skip
    left = command_line.parse(["program", *arguments], values=values, required={})
    pseudo_label_binary.run(values, left)


def labelled(output):
    """{id: features} of the records, with TensorFlow's parser."""
    found = {}
    for path in sorted(pathlib.Path(output, "dev").glob("*.tfrecord")):
        for record in read_shard(path):
            features = tf.train.Example.FromString(record).features.feature
            found[features["utterance_id"].bytes_list.value[0].decode()] = features
    return found


def test_a_dry_run_writes_scores_and_no_records(world, tmp_path, capsys):
    run(world, tmp_path, "--dry_run", "--min_confidence=0.9")
    printed = capsys.readouterr().out
    assert "38 utterances with labels" in printed
    assert "without: 1 empty_hypothesis, 1 too_long" in printed
    assert not list(tmp_path.rglob("*.tfrecord"))
    assert not (tmp_path / "dataset.json").exists()
    assert not (tmp_path / "dry_run" / "parts").exists()
    page = (tmp_path / "dry_run" / "report.html").read_text()
    assert page.count("<img src=\"data:image/svg+xml;base64,") == 7  # neither line, n-best nor second teacher
    assert "--min_confidence" in page
    table = from_tsv((tmp_path / "dry_run" / "scores.tsv").read_text())
    assert len(table) == 39  # all but what was too long to be asked about

    run(world, tmp_path, "--min_confidence=0.9")  # what the dry run left is in nobody's way
    records = labelled(tmp_path)
    scores = {row.utterance_id: row for row in table if not row.reason}
    assert records.keys() == {name for name, row in scores.items() if row.confidence >= 0.9}
    assert f"the thresholds given keep {len(records)} utterances" in printed
    errors = words = 0
    for name, features in records.items():
        row = scores[name]
        confidence = np.array(features["teacher/token_confidence"].float_list.value)
        assert row.confidence == pytest.approx(np.exp(np.log(confidence).mean()))
        assert row.log_prob == pytest.approx(features["teacher/log_prob"].float_list.value[0])
        assert row.seconds == features["num_samples"].int64_list.value[0] / 16000
        measured = jiwer.process_words(features["text"].bytes_list.value[0].decode(), row.text)
        errors += measured.substitutions + measured.deletions + measured.insertions
        words += measured.hits + measured.substitutions + measured.deletions
        assert row.text == features["teacher/text"].bytes_list.value[0].decode()
    keep = dry_run.tables([row for row in scores.values() if row.confidence >= 0.9])["min_confidence"][0]
    assert keep.wer == pytest.approx(errors / words)


def test_a_second_dry_run_needs_no_teacher(world, tmp_path, capsys, monkeypatch):
    run(world, tmp_path, "--dry_run")
    first = capsys.readouterr().out
    monkeypatch.setattr("beam_pipelines.labelling.build", None)
    run(world, tmp_path, "--dry_run")
    assert capsys.readouterr().out == first
    run(world, tmp_path, "--dry_run", "--max_tokens_per_second=1")
    assert "many_tokens_per_second" in capsys.readouterr().out


def test_a_sample_is_enough(world, tmp_path, capsys):
    run(world, tmp_path, "--dry_run", "--max_hours=0.005")
    table = from_tsv((tmp_path / "dry_run" / "scores.tsv").read_text())
    assert 0 < sum(row.seconds for row in table) <= 18
    assert "beyond_max_hours" in capsys.readouterr().out


def test_the_line_of_dev_filters_what_lies_below_it(world, tmp_path, capsys):
    run(world, tmp_path / "dev")
    values = flags.FlagValues()
    fit_filter.define_flags(values)
    values(["program", f"--records={tmp_path / 'dev'}", f"--output={tmp_path / 'park.json'}"])
    fit_filter.run(values)
    printed = capsys.readouterr().out
    records = labelled(tmp_path / "dev")
    lengths = np.array([len(record["teacher/tokens"].int64_list.value) for record in records.values()])
    scores = np.array([record["teacher/log_prob"].float_list.value[0] for record in records.values()])
    mu, beta = np.polyfit(lengths, scores, 1)
    residuals = (scores - mu * lengths - beta) / np.sqrt(lengths)
    normalised = residuals / residuals.std()
    assert f"log P = {mu:.4f} * tokens {beta:+.4f}, sigma = {residuals.std():.4f}" in printed
    assert (tmp_path / "park.png").read_bytes().startswith(b"\x89PNG")

    threshold = float(np.median(normalised)) + 1e-6
    run(world, tmp_path / "kept", f"--park_line={tmp_path / 'park.json'}", f"--min_park={threshold!r}")
    kept = labelled(tmp_path / "kept")
    assert kept.keys() == {name for name, score in zip(records, normalised, strict=True) if score >= threshold}
    info = DatasetInfo.load(tmp_path / "kept")
    assert info.rejected["low_park"] == len(records) - len(kept)
    assert sum(info.statistics["park"]["utterances"]) == len(kept)

    values["split"].value = "train"
    with pytest.raises(ValueError, match="no split 'train' in this dataset, it has: dev"):
        fit_filter.run(values)
    values["records"].value = str(world / "records")
    with pytest.raises(ValueError, match="has no labels: make them with python -m beam_pipelines.pseudo_label"):
        fit_filter.run(values)
