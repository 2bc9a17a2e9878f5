"""Soft against hard targets, after Hwang et al. 2023 (arXiv 2210.05793).

python -m tf_rnnt_kd.study --study=configs/studies/hwang.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import small

TITLE = "Soft and hard targets: self-training and mismatch"
QUESTION = (
    "A teacher labels audio for a student of its own architecture (self-training), for three generations, and for a "
    "smaller streaming one (mismatch). Which is better: its words (hard), its whole distributions (soft), both, or "
    "three numbers a node (collapsed)? And what does a shift in time recover where the student must be later?"
)
MINIATURE = small.MINIATURE
SOFT_WEIGHT = 0.01  # of a sum over all nodes; the paper's grid is 0.01 and 0.001
SHIFTS = (0, 2, 4, 6)
GENERATIONS = 3


def get_config(variant):
    kind, _, loss = variant.partition("_")
    config = {"self": small.teacher, "student": small.student}[kind]()
    if loss != "teacher" and kind == "self":
        config.augment.speed_factors = ()  # which stored lattices would not fit
    name, _, shift = loss.partition("-")
    terms = {
        "soft": {"loss": "soft", "weight": SOFT_WEIGHT},
        "collapsed": {"loss": "collapsed", "weight": 0.1},
        "alignment": {"loss": "alignment_kl", "weight": 0.1},
    }
    with config.unlocked():
        if name in terms:
            config.losses[name] = terms[name] | ({"shift": int(shift)} if shift else {})
        elif name == "softonly":
            config.losses = {"rnnt": {"weight": 1.0, "on": "labelled"}, "soft": terms["soft"]}
        elif name not in ("teacher", "hard"):
            raise ValueError(f"no variant {variant!r}")
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    teacher = study.train("teacher", variant="self_teacher", data=[labelled], seeds=1, note="labelled split alone")
    labels = study.label(teacher, artifacts="hard,collapsed,factored")
    data = [labelled, labels]
    same = {
        name: study.train(f"self: {name}", variant=f"self_{name}", data=data, note="the teacher's architecture")
        for name in ("hard", "softonly", "soft", "collapsed")
    }
    study.claim("soft beats hard in self-training", better=same["soft"], worse=same["hard"])
    study.claim("collapsed beats hard in self-training", better=same["collapsed"], worse=same["hard"])
    last = {}
    for name in ("hard", "soft"):
        previous = same[name]
        for generation in range(2, GENERATIONS + 1):
            again = study.label(previous, artifacts="hard,factored")
            previous = study.train(
                f"self: {name}, generation {generation}", variant=f"self_{name}", data=[labelled, again]
            )
        last[name] = previous
    study.claim("soft beats hard after as many generations", better=last["soft"], worse=last["hard"])

    alone = study.train("streaming: labelled only", variant="student_hard", data=[labelled])
    hard = study.train("streaming: hard", variant="student_hard", data=data)
    soft = study.train("streaming: soft", variant="student_soft", data=data)
    collapsed = study.train("streaming: collapsed", variant="student_collapsed", data=data)
    alignment = study.train("streaming: alignment KL", variant="student_alignment", data=data)
    study.claim("what the teacher wrote helps", better=hard, worse=alone)
    study.claim("hard at least equals unshifted soft under mismatch", better=hard, worse=soft)
    study.claim("alignment KL beats unshifted soft under mismatch", better=alignment, worse=soft)
    study.claim("collapsed beats unshifted soft under mismatch", better=collapsed, worse=soft)
    shifted = [
        study.train(f"streaming: soft, {shift} frames later", variant=f"student_soft-{shift}", data=data)
        for shift in SHIFTS[1:]
    ]
    study.claim("a shift recovers what unshifted soft loses", better=study.best_on_dev(shifted), worse=soft)
    study.measure("test")
