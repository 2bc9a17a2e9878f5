"""The studies that are shipped: all their jobs fit together, as far as can be seen without running them."""

from pathlib import Path

import pytest
from toy_study import Execution

from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.speech.policies import policy_arguments
from tf_rnnt_kd.studies import Definition, Runner, Study
from tf_rnnt_kd.studies.rounds import load_config
from tf_rnnt_kd.training.optimizer import build_optimizer
from tf_rnnt_kd.training.sparsity import check as check_sparsity
from tf_rnnt_kd.training.teacher_inputs import ON_THE_FRAMES, choose_artifacts

FILES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("miniature", [False, True])
def test_every_job_has_what_it_needs(path, miniature, tmp_path):
    definition = Definition.load(str(path))

    def make():
        return Study(definition, workdir=str(tmp_path), corpus="speech", seeds=(1, 2, 3), miniature=miniature)

    study = Runner(make, execute=Execution()).run()
    stored = {}
    for job in study.jobs.values():
        flags = dict(x.lstrip("-").split("=", 1) for x in job.arguments[1:])
        if job.kind == "labelling":
            stored[flags["output"]] = set(flags["artifacts"].split(","))
        if job.kind == "training":
            config = load_config(flags["config"])
            for name, value in flags.items():
                if name.startswith("config.") and name not in ("config.train.warm_start", "config.seed"):
                    section = name.removeprefix("config.")
                    old = config
                    for part in section.split("."):
                        old = old[part]
                    config.update_from_flattened_dict({section: type(old)(value)})
            objective = Objective(config.losses)
            needs = set(objective.needs) & {"teacher", "teacher_joint", "teacher_top_k", "teacher_log_prob",
                                            "teacher_log_probs", "teacher_hidden"}  # fmt: skip
            have = {name for part in flags["train"].split(",") for name in stored.get(part.rpartition(":")[0], ())}
            if not config.distillation.online_teacher:
                choose_artifacts(needs, stored=have)
            policy_arguments(config.augment, time_aligned=ON_THE_FRAMES & needs)
            assert not (config.augment.speed_factors and ON_THE_FRAMES & needs), job.title
            assert not check_sparsity(config.sparsity) or config.sparsity.end <= config.train.steps, job.title
            build_optimizer(config.optimizer, steps=config.train.steps)
    assert study.claims and {split for _, split, _ in study.results} == {"test"}
    seeds = {system.name: len(system.folders) for system in study.systems.values()}
    assert all(seeds[name] == 3 for claim in study.claims for name in (claim.better, claim.worse))


def test_there_are_all():
    assert {path.stem for path in FILES} == {"frontier", "hwang", "panchapagesan", "tang", "zeineldeen"}
