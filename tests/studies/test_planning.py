"""What studies at the papers' sizes take, against TensorFlow's own count and the arithmetic of the literature."""

import ml_collections
import pytest
import tensorflow as tf
from toy_study import toy_config

from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.models.presets import preset
from tf_rnnt_kd.studies import Definition, Study, cost, planning
from tf_rnnt_kd.studies.check import weight_shapes
from tf_rnnt_kd.studies.definition import Corpus

HOURS = Corpus(
    hours={"train-labeled": 100.0, "train-unlabeled": 860.0, "dev": 5.0, "test": 5.0},
    tokenizer=("--vocab_size=1025",),
    labelled_share=0.1,
)


def test_operations_are_those_that_tensorflow_counts():
    config, seconds = ml_collections.ConfigDict(preset("digits_teacher")), 40
    model = build_transducer(config, vocab_size=15, num_features=80)
    traced = tf.function(lambda features, lengths: model.encoder(features, lengths)[0]).get_concrete_function(
        tf.TensorSpec([1, 100 * seconds, 80]), tf.TensorSpec([1], tf.int32)
    )
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    counted = tf.compat.v1.profiler.profile(traced.graph, options=options | {"output": "none"}).total_float_ops
    shapes = weight_shapes(config.to_dict(), vocab_size=15, num_features=80)
    found, joint = cost.operations_per_hour(config.to_dict(), shapes, vocab_size=15, num_features=80)
    assert found * seconds / 3600 == pytest.approx(counted, rel=0.15)
    # 5.12 million nodes of an hour in 40 ms frames, half as many in 80 ms.
    assert joint == pytest.approx(2 * 128 * 15 * 5.12e6 / 2, rel=0.02)


@pytest.fixture
def study(make, definition):
    def with_lattices(study):
        labelled = study.records("train-labeled")
        teacher = study.train("teacher", variant="teacher", data=[labelled], seeds=1)
        labels = study.label(teacher, artifacts="hard,collapsed,factored")
        study.train("few", variant="student", data=[labelled, labels])

    return make(definition=definition._replace(get_study=with_lattices, corpus=HOURS))


def test_costs_follow_from_steps_and_hours(study):
    study.declare()
    alone, four = cost.costs(study), cost.costs(study, devices=4)
    (teacher,) = [job for job in study.jobs.values() if job.title.startswith("Train teacher")]
    (labels,) = [job for job in study.jobs.values() if job.kind == "labelling"]
    frames = toy_config("teacher").data.frames_per_batch * 40
    assert alone[teacher.key].audio_hours == pytest.approx(frames / 360_000)
    assert four[teacher.key].operations == pytest.approx(4 * alone[teacher.key].operations)
    assert alone[labels.key].audio_hours == 860
    stored = alone[labels.key].stored
    # Of papers at 40 ms frames: 10.2 MB an hour of collapsed lattices in 8 bits, 46 MB of 256 numbers a frame in 16.
    assert stored["collapsed"] == pytest.approx(860 * 10.2e6 / 2, rel=0.02)
    assert stored["factored"] == pytest.approx(860 * (46.1e6 / 4 + 4.3e6), rel=0.03)
    assert alone[labels.key].operations < alone[teacher.key].operations * 860 / alone[teacher.key].audio_hours


def test_the_plan_says_what_it_takes(study):
    lines = planning.describe(study, devices=2, teraflops=10.0)
    text = "\n".join(lines)
    assert "A device of 10 teraflops (as given); 2 in each training." in text
    assert "| Train few, 2 seeds |" in text and "| all |" in text and "Bytes are those before compression." in text
    (all_of_them,) = [line for line in lines if line.startswith("| all |")]
    exaflops, hours = (float(cell.replace(",", "")) for cell in all_of_them.split("|")[4:6])
    assert hours == pytest.approx(exaflops * 1e18 / 10e12 / 3600, abs=0.06)
    shares = [line for line in lines if "--train=" in line][-1]
    assert "train-labeled@0.1," in shares and "train-unlabeled@0.9 " in shares


def test_the_speed_of_this_machine_is_measured():
    config = toy_config("teacher")
    config.model.encoder.num_layers, config.model.encoder.width = 1, 32
    assert 1e6 < cost.sustained(config.to_dict(), vocab_size=20) < 1e15


def test_miniatures_of_large_studies_are_refused(tmp_path):
    definition = Definition.load("configs/studies/tang_librispeech.py")
    with pytest.raises(ValueError, match="tang_librispeech.py has no MINIATURE: leave --miniature out"):
        Study(definition, workdir=str(tmp_path), corpus="speech", miniature=True)
