"""The benchmark of the input: its bar, and that what it reads are utterances with the lattices it names."""

from benchmarks import input_pipeline
from tf_rnnt_kd.records import reader
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer


def test_bar_and_costs():
    stages = [("read", 0.001, 900.0), ("features", 0.004, 250.0), ("batches: the whole", 0.005, 200.0)]
    lines, good = input_pipeline.report(stages, 40.0, label="a model")
    assert good and "5.0 times" in lines[-1] and "PASS" in lines[-1]
    assert lines[2].split() == ["features", "3.00", "250"]  # milliseconds beyond those of the stage before
    lines, good = input_pipeline.report(stages, 40.1, label="a model")
    assert not good and "FAIL" in lines[-1]


def test_records_hold_what_the_stages_read(tmp_path):
    tokenizer = Tokenizer.train_characters(["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE",
                                            "ZERO", "OH"])  # fmt: skip
    sources = input_pipeline.make_records(str(tmp_path), utterances=8, seconds=1.0, tokenizer=tokenizer)
    for name, tensors in (("plain", ()), ("collapsed", ("teacher_nodes",)), ("factored", ("teacher_encoder",))):
        batches = reader.training_batches(
            [sources[name]], tokenizer=tokenizer, frontend=LogMelFrontend(), subsampling=4, seed=1, shuffle_buffer=8,
            buckets=[reader.Bucket(104, 30, 4)], artifacts=() if name == "plain" else (name,),
        )
        batch = next(iter(batches))
        assert batch["features"].shape == (4, 104, 80) and (batch["num_frames"].numpy() == 100).all()
        assert set(tensors) <= set(batch) and (name == "plain" or batch["has_teacher"].numpy().all())
