"""The studies that are shipped: all their jobs fit together, as far as can be seen without running them."""

import importlib
from pathlib import Path

import pytest
from toy_study import Execution

from tf_rnnt_kd import command_line
from tf_rnnt_kd.studies import Definition, Runner, Study
from tf_rnnt_kd.studies.check import check
from tf_rnnt_kd.studies.results import summarise

FILES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.py"))
SMALL = [path for path in FILES if not path.stem.endswith("_librispeech")]


def run(path, tmp_path, **changes):
    """A study with all its jobs, as if each had been run."""
    arguments = {"workdir": str(tmp_path), "corpus": "speech", "seeds": (1, 2)} | changes
    return Runner(lambda: Study(Definition.load(str(path)), **arguments), execute=Execution()).run()


def test_there_are_all_in_both_sizes():
    names = {"frontier", "hwang", "hwang_adapt", "panchapagesan", "recipe", "tang", "zeineldeen"}
    assert {path.stem for path in SMALL} == names
    assert {path.stem for path in FILES} == names | {f"{name}_librispeech" for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_job_has_what_it_needs(path, tmp_path):
    study = run(path, tmp_path, domains={"fsdd": "digits"} if path in SMALL else {})
    check(study)
    known = {}
    for job in study.jobs.values():
        module = job.arguments[0]
        known.setdefault(module, command_line.own_flags(importlib.import_module(module).define_flags))
        assert {name for name in job.flags if not name.startswith("config.")} <= set(known[module]), job.title
    tests = {where for _, where, _ in study.results if not where.startswith(("noisy", "narrow_band", "fsdd"))}
    assert tests == ({"test-other", "test-clean"} if "librispeech" in path.stem else {"test"})
    seeds = {system.name: len(system.folders) for system in study.systems.values()}
    assert all(seeds[name] == 2 for claim in study.claims for name in (claim.better, claim.worse))
    assert study.claims and (study.curves or path.stem.startswith(("tang", "recipe")))


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_miniatures_are_the_same_with_less(path, tmp_path):
    study = run(path, tmp_path, miniature=True, seeds=(1,))
    check(study)
    summary = summarise(study)
    assert summary["claims"] and len(summary["systems"]) <= 8
    assert all(job.size == 4 for job in study.jobs.values() if job.kind == "training")


def _speeds(config):
    config.augment.speed_factors = (0.9, 1.1)


def _late(config):
    config.sparsity.target, config.sparsity.end = 0.5, config.train.steps + 1


def _whole(config):
    config.losses.collapsed = {"loss": "soft", "weight": 0.1}


def _optimizer(config):
    config.optimizer.name = "sgd"


def _type(config):
    config.model.encoder.type = "transformer"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_speeds, "augment.speed_factors moves the frames on which teacher lie"),
        (_late, "sparsity.end=601 comes after train.steps=600"),
        (_whole, "the losses need teacher_joint, which the artifacts factored or dense give"),
        (_optimizer, "sgd"),
        (_type, "model.encoder.type is 'transformer'"),
    ],
)
def test_what_does_not_fit_is_named(change, complaint, tmp_path):
    definition = Definition.load(str(next(path for path in SMALL if path.stem == "zeineldeen")))

    def get_config(variant):
        config = definition.get_config(variant)
        with config.unlocked():
            change(config)
        return config

    def get_study(study):
        labels = study.label(study.given("teacher", "t"), artifacts="hard,collapsed")
        study.train("student", variant="collapsed", data=[labels], seeds=1)

    study = Study(
        definition._replace(get_config=get_config, get_study=get_study), workdir=str(tmp_path), corpus="speech"
    )
    study.declare()
    with pytest.raises(ValueError, match=f"Train student, seed 1: .*{complaint}"):
        check(study)
