"""Generations: who is promoted, and where they end."""

import json

import pytest
from toy_study import Execution, result, toy_config

from tf_rnnt_kd.studies import Definition, Runner, planning
from tf_rnnt_kd.studies.rounds import Rounds, load_config


class Generations(Execution):
    """Errors of the models in the order in which they are measured on dev; on test all make one."""

    def __init__(self, errors):
        super().__init__()
        self.errors, self.found = errors, {}

    def __call__(self, arguments, *, name):
        seconds = super().__call__(arguments, name=name)
        flags = dict(argument.lstrip("-").split("=", 1) for argument in arguments[1:])
        if arguments[0] == "tf_rnnt_kd.evaluate":
            model = self.found.setdefault(flags["workdir"], len(self.found))
            errors = self.errors[model] if flags["split"] == "dev" else [1, 0, 0, 0]
            result(flags["name"], errors).save(flags["json"])
        return seconds


@pytest.fixture
def generations(make, tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "done.json").write_text(json.dumps({"best_dev_wer": 0.5}))

    def run(errors, *, dry_run=False, **changes):
        settings = {
            "teacher": str(tmp_path / "teacher"), "count": 3, "labelled": "train-labeled", "dev": "dev", "test": "test",
            "unlabelled": "train-unlabeled", "artifacts": "hard", "label_flags": ("--min_confidence=0.5",),
            "promote_above": 0.9, "warm_start": False,
        }  # fmt: skip
        rounds = Rounds(**settings | changes)
        definition = Definition(
            "generations", "c.py:student", "G", "?", lambda _: toy_config("student"), rounds.declare
        )
        execution = Generations(errors)

        def study():
            return make(definition=definition, records="r", tokenizer="t", seeds=(1,))

        if dry_run:
            return planning.describe(study())
        return Runner(study, execute=execution).run(), rounds, execution

    return run


def test_each_generation_is_taught_by_the_one_before(generations, tmp_path):
    # The student is measured before its teacher, which the next round knows already.
    study, rounds, execution = generations([[1, 1, 1, 1], [3, 3, 3, 2], [0, 1, 0, 1], [0, 0, 0, 0]], warm_start=True)
    assert [each["promoted"] for each in rounds.history] == [True, True, True]
    assert rounds.last.name == "round 3" and list(study.systems) == ["first teacher", "round 1", "round 2", "round 3"]
    labellings = [job for job in study.jobs.values() if job.kind == "labelling"]
    exports = {job.key: job for job in study.jobs.values() if job.kind == "export"}
    for job, teacher in zip(labellings, study.systems.values(), strict=False):
        assert "--min_confidence=0.5" in job.arguments
        (flag,) = [x for x in job.arguments if x.startswith("--teacher=")]
        assert f"--workdir={teacher.folder}" in exports[flag.rpartition("/")[2]].arguments
    assert len(labellings) == 3 and len(exports) == 4, "the last one is exported too"
    assert len(execution.names) == len(set(execution.names)) == len(study.jobs)


def test_a_dry_run_tells_of_the_next_round_alone(generations):
    lines = generations([[1, 1, 1, 1]], dry_run=True)
    assert "      Train round 1, seed 1" in lines and "and what depends on the errors of round 1 on dev" in lines
    assert not [line for line in lines if "round 2" in line]
    generations([[1, 1, 1, 1], [3, 3, 3, 2], [1, 1, 1, 1]])
    lines = generations([[1, 1, 1, 1]], dry_run=True)
    assert "done  Train round 2, seed 1" in lines and lines[-1].startswith("jobs: ") and "; 0 are left" in lines[-1]


def test_who_does_not_improve_is_not_promoted(generations):
    study, rounds, _ = generations([[1, 1, 1, 1], [3, 3, 3, 2], [1, 1, 1, 1]])
    assert [each["promoted"] for each in rounds.history] == [True, False]
    assert rounds.history[1]["probability"] == 0.5
    assert rounds.last.name == "round 1" and "round 3" not in study.systems
    assert (
        rounds.lines()[1]
        == "Round 2: improves on its teacher with probability 0.500 on dev, less than 0.9: the rounds end."
    )
    assert {split for _, split, _ in study.results} == {"dev", "test"}


def test_configs_by_name(tmp_path):
    (tmp_path / "c.py").write_text("def get_config(variant='plain'):\n    return variant\n")
    assert load_config(f"{tmp_path}/c.py") == "plain" and load_config(f"{tmp_path}/c.py:rich") == "rich"
    with pytest.raises(ValueError, match="no file nowhere.py"):
        load_config("nowhere.py:rich")
