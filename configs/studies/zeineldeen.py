"""Full-sum distillation from bad teachers, after Zeineldeen et al. 2023 (arXiv 2303.05958).

python -m tf_rnnt_kd.study --study=configs/studies/zeineldeen.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import Point, small

TITLE = "Full-sum distillation from bad teachers"
QUESTION = (
    "Teachers of very different word error rates label the same audio. Each teaches a streaming student by its words "
    "(hard), by its lattice (collapsed), by log P(y|x) (full-sum: L1, L2, over an n-best list), and by how its n-best "
    "list ranks (sequence-discriminative). How much worse does a student become as its teacher does?"
)
MINIATURE = small.MINIATURE
EARLY = {"poor": 0.5, "bad": 0.35}
"""Shares of a whole training: early ends make bad teachers."""

METHODS = ("hard", "discriminative", "full_sum_l1", "collapsed", "full_sum_l2", "n_best")
_LATE = (0.15, 0.3)
"""Shares of a training between which they come in: a student from scratch has no scores to compare yet."""


def get_config(variant, models=small):
    whole = small.first_trainings(models)
    if variant in whole:
        return whole[variant]()
    if variant in EARLY:
        config = models.teacher()
        config.train.steps = small.at(config, EARLY[variant])
        return config
    if variant not in METHODS:
        known = [*whole, *EARLY, *METHODS]
        raise ValueError(f"no variant {variant!r}: choose {', '.join(known)}")
    config = models.going_on(models.student())
    begin, end = (small.at(config, share) for share in _LATE)
    late = {"kind": "ramp", "begin": begin, "end": end}
    distances = {
        "full_sum_l1": {"loss": "full_sum", "distance_kind": "l1", "per_label": True},
        "full_sum_l2": {"loss": "full_sum", "distance_kind": "l2", "per_label": True},
        "n_best": {"loss": "full_sum_n_best", "per_label": True},
        "discriminative": {"loss": "sequence_posterior"},
    }
    with config.unlocked():
        if variant == "collapsed":
            config.losses.collapsed = {"weight": 0.1, "shift": 4}
        elif variant in distances:
            # The labelled part is trained as ever; of the other, half is what the teacher wrote, half how sure it was.
            config.losses = {
                "rnnt": {"weight": 1.0, "on": "labelled"},
                "pseudo": {"loss": "rnnt", "on": "unlabelled", "weight": {**late, "from": 1.0, "to": 0.5}},
                variant: {**distances[variant], "weight": {**late, "to": 1.0}, "on": "unlabelled"},
            }
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    start = study.train("start", variant="start", data=[labelled], note="what all students start from")
    study.train("labelled only", variant="hard", data=[labelled], note="no teacher", warm_start=start)
    lines = {method: [] for method in study.some(METHODS, 2)}
    first, good = small.teachers(study, labelled)
    teachers = {"good": good, "fair": first}
    for quality in study.some(EARLY, 0):
        teachers[quality] = study.train(
            f"teacher, {quality}", variant=quality, data=[labelled], seeds=1, note="full context, ended early"
        )
    for quality in study.some(teachers):
        teacher = teachers[quality]
        labels = study.label(teacher, artifacts="hard,nbest,collapsed")
        students = {
            method: study.train(
                f"{method}, {quality} teacher", variant=method, data=[labelled, labels], warm_start=start
            )
            for method in lines
        }
        for method, student in students.items():
            lines[method].append(Point(teacher, student))
            if method not in ("hard", "collapsed"):
                text = f"{method} beats hard, {quality} teacher"
                study.claim(text, better=student, worse=students["hard"])
        if "full_sum_l1" in students:
            text = f"the discriminative variant adds, {quality} teacher"
            study.claim(text, better=students["discriminative"], worse=students["full_sum_l1"])
    order = (("hard", "collapsed"), ("collapsed", "full_sum_l1"), ("hard", "full_sum_l1"), ("hard", "discriminative"))
    study.curve("Students over their teachers", x_label="word error rate of the teacher, %", lines=lines, steeper=order)
    study.measure("test")
