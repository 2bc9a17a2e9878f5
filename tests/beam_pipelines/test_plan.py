"""Plans: the arithmetic against sums done by hand, and one real run whose bytes are counted in its files."""

import contextlib
import json

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from apache_beam.coders import FastPrimitivesCoder

from beam_pipelines import command_line, planning
from beam_pipelines import plan as plan_binary
from beam_pipelines.planning import Measurement, describe, plan
from beam_pipelines.transforms.same_text import Same, candidates
from beam_pipelines.transforms.scores import Row
from tf_rnnt_kd.records import DatasetInfo, Split, Utterance, encode_utterance, shard_file, write_shard

MEASURED = Measurement(
    hours=[0.05, 0.15],
    seconds=[20.0, 40.0],
    hours_per_worker_hour=18.0,
    start_seconds=10.0,
    peak_bytes=2_000_000_000,
    cores=4,
    utterances=300.0,
    artifact_bytes={"hard": 1e6, "collapsed": 9e6},
    record_bytes=125e6,
    source_bytes=115e6,
    padding_share=0.1,
)


def test_a_plan_is_the_measurement_times_the_hours():
    found = plan(MEASURED, hours=36_000, workers=100, price=0.5)
    # 36,000 / 18 = 2,000 worker-hours of work, and 100 workers start for 10 seconds each.
    assert found.worker_hours == pytest.approx(2000 + 1000 / 3600)
    # 20 hours each, a tenth more while the last shards are finished.
    assert found.wall_hours == pytest.approx(22 + 10 / 3600)
    assert found.shards == 1000
    assert found.artifact_bytes == {"hard": 36e9, "collapsed": 324e9}
    assert found.temporary_bytes == 360e9
    assert found.output_bytes == 4.5e12
    assert found.written_bytes == 4.86e12
    assert found.read_bytes == 2 * 115e6 * 36_000 + 360e9
    assert found.shuffle_bytes == planning.SHUFFLED_PER_UTTERANCE * 300 * 36_000
    assert found.vcpu_hours == pytest.approx(4 * found.worker_hours)
    assert found.memory_gb_hours == pytest.approx(2 * found.worker_hours)
    assert found.price == pytest.approx(0.5 * found.worker_hours)


def test_what_is_shuffled_of_an_utterance_is_no_more_than_the_plan_says():
    coder = FastPrimitivesCoder()
    key = ("train-unlabeled", 12_345)
    row = Row(position=999_999, utterance_id="x" * 40, teacher="t", seconds=10.0, tokens=30, audio_md5="a" * 32,
              text="WORDS " * 30)  # fmt: skip
    ((digest, candidate),) = candidates(key, rows=[row])
    grouped = [(digest, candidate), (key, Same(999_999, 3)), (key, 999_999)]
    assert 100 < sum(len(coder.encode(element)) for element in grouped) <= planning.SHUFFLED_PER_UTTERANCE


def test_what_the_user_says_takes_the_place_of_what_was_measured():
    found = plan(MEASURED, hours=1000, workers=1, hours_per_worker_hour=500, vcpus=8, memory_gb=30)
    assert found.worker_hours == pytest.approx(2 + 10 / 3600)
    assert found.vcpu_hours == pytest.approx(8 * found.worker_hours)
    assert found.memory_gb_hours == pytest.approx(30 * found.worker_hours)
    assert found.price is None


def test_the_table_has_a_column_for_each_number_of_hours():
    plans = [plan(MEASURED, hours=hours, workers=10) for hours in (1000, 600_000)]
    lines = describe(MEASURED, plans)
    assert "3.0 minutes of audio in 20.0 s and 9.0 minutes of audio in 40.0 s" in lines[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    rows = {name: rest for name, *rest in cells}
    assert rows[""] == ["1,000 hours", "600,000 hours"]
    assert rows["storage at the end"] == ["125 GB", "75 TB"]
    assert rows["written"] == ["135 GB", "81 TB"]
    assert rows["of that collapsed"] == ["9 GB", "5.4 TB"]
    assert rows["worker-hours"] == ["55.6", "33,333.4"]
    assert rows["wall time with 10 workers"] == ["6.1 h", "152.8 days"]
    assert "price" not in rows
    assert "100 shards" in lines[-1]


def _sample(hours, seconds):
    sizes = {name: MEASURED._asdict()[name] for name in plan_binary._PER_HOUR}
    return {"hours": hours, "seconds": seconds, "peak_bytes": 1, **sizes}


def test_starting_up_is_told_from_working(monkeypatch):
    samples = iter([_sample(0.1, 30.0), _sample(0.3, 70.0)])
    asked = []
    monkeypatch.setattr(
        plan_binary, "_sample", lambda arguments, *, max_hours: asked.append(max_hours) or next(samples)
    )
    found = plan_binary.measure(["--records=x"], sample_minutes=6.0)
    assert asked == [pytest.approx(0.1), pytest.approx(0.3)]
    # 0.2 hours took 40 seconds more; of the first 30 seconds 20 were work.
    assert found.hours_per_worker_hour == pytest.approx(18.0)
    assert found.start_seconds == pytest.approx(10.0)
    samples = iter([_sample(0.1, 30.0), _sample(0.1, 30.2)])
    with pytest.raises(ValueError, match="too little to measure by, give a larger --sample_minutes"):
        plan_binary.measure(["--records=x"], sample_minutes=6.0)
    with pytest.raises(ValueError, match="--output is chosen by the plan: leave it out"):
        plan_binary.measure(["--output=x"], sample_minutes=6.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory, fake_teacher):
    """The flags of a job over a corpus of one shard."""
    root = tmp_path_factory.mktemp("plan")
    fake_teacher.save(root / "teacher")
    random = np.random.default_rng(0)
    records = []
    for number in range(6):
        waveform = np.zeros(16_000, np.float32)
        waveform[3000:6000] = 0.5 * random.uniform(-1, 1, 3000)
        records.append(encode_utterance(Utterance(f"u{number}", waveform, None, "x", "pool")))
    shard = write_shard(root / "records", file=shard_file("pool", index=0, num_shards=1), records=records)
    split = Split(shards=(shard,), utterances=6, hours=6 / 3600, labelled=False)
    counts = {"input": 6, "written": 6, "rejected": 0}
    DatasetInfo(kind="utterances", splits={"pool": split}, counts=counts, rejected={}).save(root / "records")
    arguments = [f"--records={root / 'records'}", "--split=pool", f"--teacher={root / 'teacher'}"]
    return [*arguments, "--artifacts=hard,factored"], shard


def test_a_real_run_is_measured(world, tmp_path, monkeypatch):
    arguments, shard = world
    monkeypatch.setattr(plan_binary.tempfile, "TemporaryDirectory", lambda: contextlib.nullcontext(str(tmp_path)))
    found = plan_binary._sample(arguments, max_hours=1.0)
    assert found["hours"] == pytest.approx(6 / 3600, rel=1e-3)
    assert found["seconds"] > 1
    assert found["peak_bytes"] > 100_000_000
    (written,) = (tmp_path / "out" / "pool").glob("*.tfrecord")
    examples = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(written))]
    assert len(examples) == 6
    features = [item for example in examples for item in example.features.feature.items()]
    factored = sum(value.ByteSize() for name, value in features if name.startswith("factored/"))
    assert found["artifact_bytes"]["factored"] * found["hours"] == pytest.approx(factored)
    assert found["record_bytes"] * found["hours"] == pytest.approx(written.stat().st_size)
    # But for the features' names, what is no artifact is the source.
    assert found["source_bytes"] * found["hours"] == pytest.approx(shard.bytes, rel=0.01)
    with pytest.raises(ValueError, match="the job to plan does not run: .*no flag --bach_size"):
        plan_binary._sample([*arguments, "--bach_size=3"], max_hours=1.0)


def _run(*arguments):
    values = flags.FlagValues()
    plan_binary.define_flags(values)
    left = command_line.parse(["plan", *arguments], values=values, required={"hours": "hours"})
    return plan_binary.run(values, left)


def test_a_measurement_is_kept_and_used_again(tmp_path, capsys):
    kept = tmp_path / "measurement.json"
    kept.write_text(json.dumps(MEASURED._asdict()))
    figures = tmp_path / "figures.json"
    _run("--hours=1000,2000", f"--measurement={kept}", "--workers=10", f"--json={figures}", "--records=nowhere")
    content = json.loads(figures.read_text())
    capsys.readouterr()
    assert content["measurement"] == MEASURED._asdict()
    assert [one["hours"] for one in content["plans"]] == [1000, 2000]
    assert content["plans"][0] == plan(MEASURED, hours=1000, workers=10)._asdict()
    _run("--hours=1000", f"--measurement={kept}", "--price_per_worker_hour=2")
    assert "| price | 111.67 |" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--hours must be numbers above 0, with commas: got 'many'"):
        _run("--hours=many", f"--measurement={kept}")


