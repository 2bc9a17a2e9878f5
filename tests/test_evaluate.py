"""evaluate and report as a user calls them, on a small random model: workdir and SavedModel must say the same."""

import json
import os
import shutil
import subprocess
import sys

import jiwer
import keras
import numpy as np
import pytest
import soundfile

from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.records import dataset, schema
from tf_rnnt_kd.serving import export_saved_model
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import workdir as workdir_lib
from tf_rnnt_kd.training.config import default_config

_TEXTS = ["GO STOP", "STOP", "GO GO GO", "STOP GO", "GO", "GO STOP GO"]


def _call(module, *arguments, code=0):
    """What the binary printed; its exit code must be `code`."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", f"tf_rnnt_kd.{module}", *map(str, arguments)],
        capture_output=True, text=True, env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"}, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def _speech(text, *, seed):
    """A tone per word in noise: what a random model makes of it is nonsense, but differs between utterances."""
    generator = np.random.default_rng(seed)
    words = [np.sin(2 * np.pi * (300 if word == "GO" else 700) * np.arange(6000) / 16000) for word in text.split()]
    return (0.3 * np.concatenate(words) + 0.02 * generator.normal(size=6000 * len(words))).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workdir, its export, the same utterances as a folder (with one broken file) and as records."""
    root = tmp_path_factory.mktemp("evaluate")
    config = default_config()
    config.frontend.num_mel_bins = 20
    config.model.encoder.update({"width": 16, "num_layers": 1, "num_heads": 2, "kernel_size": 3, "left_context": 8})
    config.model.predictor.width = 8
    config.model.joint_width = 12
    keras.utils.set_random_seed(3)
    tokenizer = Tokenizer.train_characters(_TEXTS)
    model = build_transducer(config.model.to_dict(), vocab_size=tokenizer.vocab_size, num_features=20)
    model.set_feature_statistics(np.full(20, -5.0, np.float32), np.full(20, 3.0, np.float32))
    generator = np.random.default_rng(1)
    model.joint_kernel.assign(2.0 * generator.normal(size=model.joint_kernel.shape))
    model.joint_bias.assign([2.0] + [0.0] * (tokenizer.vocab_size - 1))
    tokenizer.save(root / "work" / "tokenizer")
    workdir_lib.write_json(root / "work" / "config.json", {"config": config.to_dict()})
    workdir_lib.save_best(root / "work", model=model, step=7, dev_wer=0.5)
    (root / "work" / "train_log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 7, "dev_wer": 0.5}\n{"ste')
    export_saved_model(
        model, tokenizer=tokenizer, frontend=LogMelFrontend(num_mel_bins=20), config={}, output_dir=root / "export"
    )
    chapter = root / "corpus" / "test" / "1" / "1"
    chapter.mkdir(parents=True)
    alignments, lines, records = ["utt\tword\tstart_s\tend_s"], [], []
    for index, text in enumerate(_TEXTS):
        name = f"1-1-{index}"
        waveform = _speech(text, seed=index)
        soundfile.write(chapter / f"{name}.flac", waveform, 16000)
        lines.append(f"{name} {text}")
        words = tuple((word, 0.375 * i, 0.375 * (i + 1)) for i, word in enumerate(text.split()))
        alignments += [f"{name}\t{word}\t{start}\t{end}" for word, start, end in words]
        records.append(schema.encode_utterance(schema.Utterance(name, waveform, text, "1", "test", words)))
    lines.append("1-1-9 STOP")
    (chapter / "1-1-9.flac").write_bytes((chapter / "1-1-0.flac").read_bytes()[:2000])
    (chapter / "1-1.trans.txt").write_text("\n".join(lines))
    (root / "corpus" / "test" / "alignments.tsv").write_text("\n".join(alignments))
    shard = dataset.write_shard(root / "records", file="test/test-00000-of-00001.tfrecord", records=records)
    split = dataset.Split(shards=(shard,), utterances=len(records), hours=0.01, labelled=True)
    counts = {"input": len(records), "written": len(records), "rejected": 0}
    dataset.DatasetInfo(kind="utterances", splits={"test": split}, counts=counts, rejected={}).save(root / "records")
    return root


@pytest.fixture(scope="module")
def results(made):
    """{name: (printed, result)} of the workdir on the folder and the SavedModel on the records."""
    folder, records = made / "folder.json", made / "records.json"
    on_folder = (f"--workdir={made / 'work'}", f"--corpus={made / 'corpus'}")
    on_records = (f"--model={made / 'export'}", f"--records={made / 'records'}", "--split=test")
    printed = {
        "folder": _call("evaluate", *on_folder, f"--json={folder}", "--name=folder"),
        "records": _call(
            "evaluate", *on_records, f"--json={records}", "--name=records", f"--compare={folder}", "--batch_size=1"
        ),
    }
    return {name: (printed[name], json.loads((made / f"{name}.json").read_text())) for name in printed}


def test_figures_are_those_of_the_hypotheses(results):
    printed, result = results["folder"]
    hypotheses = [row["hypothesis"] for row in result["per_utterance"]]
    assert len(set(hypotheses)) > 1, "a model that always says the same tests nothing"
    assert [row["reference"] for row in result["per_utterance"]] == _TEXTS
    assert result["wer"] == pytest.approx(jiwer.wer(_TEXTS, hypotheses))
    assert f"{100 * result['wer']:.2f}" in printed
    assert result["parameters"] > 1000 and result["real_time_factor"] > 0


def test_broken_audio_is_counted_and_listed(results):
    printed, result = results["folder"]
    assert (result["found"], result["utterances"], sum(result["refused"].values())) == (7, 6, 1)
    assert "1-1-9.flac" in result["refused_utterances"][0]["error"] and "1-1-9.flac" in printed
    assert "7 utterances found, 6 scored, 1 refused" in printed


def test_workdir_and_saved_model_folder_and_records_batched_and_alone_agree(results):
    (_, folder), (printed, records) = results["folder"], results["records"]
    # Confidences are of another batch, and so rounded otherwise.
    rows = [[dict(row) for row in result["per_utterance"]] for result in (folder, records)]
    sure = [[row.pop("word_confidence") for row in each] for each in rows]
    assert rows[0] == rows[1]
    for mine, theirs in zip(*sure, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    assert folder["confidence"]["words"] == sum(map(len, sure[0])) > 0
    assert folder["parameters"] == records["parameters"] and folder["delay"] == pytest.approx(records["delay"])
    # Latencies come from whole frames, so that nothing is rounded in between.
    assert folder["latency"] == records["latency"] and bool(folder["latency"]) == bool(folder["delay"])
    assert records["improvement"] == {"folder": 0.5}
    assert "probability of improvement over folder: 0.5000" in printed


def test_export_lite_measures_each_format_on_the_same_utterances(made, results):
    printed = _call(
        "export_lite", f"--model={made / 'export'}", f"--output={made / 'lite'}", "--formats=float32,int8",
        f"--records={made / 'records'}", "--split=test", "--markdown",
    )  # fmt: skip
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]
    table = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
    assert set(table) == {"SavedModel", "float32", "int8"}
    # Every error counted alike: of the whole utterances and of chunks on a device.
    wer = f"{100 * results['records'][1]['wer']:.2f}"
    assert table["SavedModel"]["WER %"] == table["float32"]["WER %"] == wer
    assert table["SavedModel"]["sub / ins / del"] == table["float32"]["sub / ins / del"]
    assert float(table["SavedModel"]["MB"]) > float(table["float32"]["MB"])
    assert sorted(path.name for path in (made / "lite").iterdir()) == [
        "float32.tflite", "int8.tflite", "metadata.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "name one system"),
        (["--workdir=nowhere"], "name what to measure on"),
        (["--workdir=nowhere", "--records=x"], "--records needs --split"),
        (["--workdir=nowhere", "--corpus=nowhere"], "--workdir=nowhere: there is no such file or folder"),
    ],
)
def test_mistakes_give_one_line(arguments, says):
    said = _call("evaluate", *arguments, code=1).splitlines()
    assert len(said) == 1 and said[0].startswith("evaluate: ") and says in said[0]


def test_report_from_these(made, results):
    copy = made / "student-export"
    shutil.copytree(made / "export", copy, dirs_exist_ok=True)
    printed = _call(
        "report",
        f"--results={made / 'folder.json'},{made / 'records.json'}",
        "--baseline=folder",
        f"--output={made / 'report'}",
        f"--trainings={made / 'work'}",
        f"--teacher={made / 'export'}",
        f"--student={copy}",
        f"--records={made / 'records'}",
    )
    assert "probability that records improves on folder: 0.5000" in printed
    content = json.loads((made / "report" / "results.json").read_text())
    assert [system["name"] for system in content["systems"]] == ["folder", "records"]
    page = (made / "report" / "report.html").read_text()
    assert page.count("<img ") == 4 and "Confidence of words" in page and "Lattice occupancy" in page
    assert results["folder"][1]["words"] == content["systems"][0]["words"]


def test_report_mistakes_give_one_line(tmp_path):
    result = tmp_path / "x.json"
    result.write_text("{}")
    said = _call("report", f"--results={result}", "--baseline=x", "--output=y", f"--teacher={tmp_path}", code=1)
    assert said.splitlines() == ["report: the lattice picture needs all of --teacher, --student and --records"]
