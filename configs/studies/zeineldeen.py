"""Full-sum distillation from bad teachers, after Zeineldeen et al. 2023 (arXiv 2303.05958).

python -m tf_rnnt_kd.study --study=configs/studies/zeineldeen.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import small

TITLE = "Full-sum distillation from bad teachers"
QUESTION = (
    "Teachers of very different word error rates label the same audio. Each teaches a streaming student by its words "
    "(hard), by its lattice (collapsed), by log P(y|x) (full-sum: L1, L2, over an n-best list), and by how its n-best "
    "list ranks (sequence-discriminative). How much worse does a student become as its teacher does?"
)
MINIATURE = small.MINIATURE
TEACHERS = {"good": 1600, "fair": 500, "poor": 300, "bad": 200}
"""Training steps: early ends make bad teachers."""

_LATE = {"kind": "ramp", "begin": 300, "end": 600}  # a student from scratch has no scores to compare yet
DISTANCES = {
    "full_sum_l1": {"loss": "full_sum", "distance_kind": "l1", "per_label": True, "weight": {**_LATE, "to": 1.0}},
    "full_sum_l2": {"loss": "full_sum", "distance_kind": "l2", "per_label": True, "weight": {**_LATE, "to": 1.0}},
    "n_best": {"loss": "full_sum_n_best", "per_label": True, "weight": {**_LATE, "to": 1.0}},
    "discriminative": {"loss": "sequence_posterior", "weight": {**_LATE, "to": 1.0}},
}
METHODS = ("hard", "collapsed", *DISTANCES)


def get_config(variant):
    if variant.startswith("teacher_"):
        return small.teacher(steps=TEACHERS[variant.removeprefix("teacher_")])
    config = small.student()
    with config.unlocked():
        if variant == "collapsed":
            config.losses.collapsed = {"weight": 0.1, "shift": 4}
        elif variant in DISTANCES:
            # The labelled part is trained as ever; of the other, half is what the teacher wrote, half how sure it was.
            config.losses = {
                "rnnt": {"weight": 1.0, "on": "labelled"},
                "pseudo": {
                    "loss": "rnnt",
                    "on": "unlabelled",
                    "weight": {"kind": "ramp", "from": 1.0, "to": 0.5, **{k: _LATE[k] for k in ("begin", "end")}},
                },
                variant: {**DISTANCES[variant], "on": "unlabelled"},
            }
        elif variant != "hard":
            raise ValueError(f"no variant {variant!r}: choose teacher_{{{','.join(TEACHERS)}}}, {', '.join(METHODS)}")
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    study.train("labelled only", variant="hard", data=[labelled], note="no teacher")
    for quality in TEACHERS:
        teacher = study.train(
            f"teacher, {quality}", variant=f"teacher_{quality}", data=[labelled], seeds=1, note="full context"
        )
        labels = study.label(teacher, artifacts="hard,nbest,collapsed")
        students = {
            method: study.train(f"{method}, {quality} teacher", variant=method, data=[labelled, labels])
            for method in METHODS
        }
        for method in ("full_sum_l1", "full_sum_l2", "n_best", "discriminative"):
            study.claim(f"{method} beats hard, {quality} teacher", better=students[method], worse=students["hard"])
    study.measure("test")
