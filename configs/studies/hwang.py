"""Soft against hard targets, after Hwang et al. 2023 (arXiv 2210.05793).

python -m tf_rnnt_kd.study --study=configs/studies/hwang.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import Point, small

TITLE = "Soft and hard targets: self-training and mismatch"
QUESTION = (
    "A teacher labels audio for a student of its own architecture (self-training), for three generations, and for a "
    "smaller streaming one (mismatch). Which is better: its words (hard), its whole distributions (soft), both, or "
    "three numbers a node (collapsed)? And what does a shift in time recover where the student must be later?"
)
MINIATURE = small.MINIATURE
SOFT_WEIGHT = 0.01  # of a sum over all nodes; the paper's grid is 0.01 and 0.001
SHIFTS = (4, 2, 6)
SELF = {"soft": "both", "hard": "words", "softonly": "distributions alone", "collapsed": "three numbers"}
GENERATIONS = 3


def get_config(variant, models=small, soft_weight=SOFT_WEIGHT):
    kind, _, loss = variant.partition("_")
    config = {"self": models.teacher, "student": models.student}[kind]()
    if loss in ("teacher", "start"):
        return config
    config = models.going_on(config)
    config.augment.speed_factors = ()  # which stored lattices would not fit
    name, _, shift = loss.partition("-")
    terms = {
        "soft": {"loss": "soft", "weight": soft_weight},
        "collapsed": {"loss": "collapsed", "weight": 0.1},
        "alignment": {"loss": "alignment_kl", "weight": 0.1},
    }
    with config.unlocked():
        if name in terms:
            config.losses[name] = terms[name] | ({"shift": int(shift)} if shift else {})
        elif name == "softonly":
            config.losses = {"rnnt": {"weight": 1.0, "on": "labelled"}, "soft": terms["soft"]}
        elif name != "hard":
            raise ValueError(f"no variant {variant!r}")
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    teacher = study.train("teacher", variant="self_teacher", data=[labelled], note="labelled split alone")
    labels = study.label(teacher, artifacts="hard,collapsed,factored")
    data = [labelled, labels]
    same = {
        name: study.train(f"self: {name}", variant=f"self_{name}", data=data, note=SELF[name], warm_start=teacher)
        for name in study.some(SELF)
    }
    if not study.miniature:
        alone = study.train(
            "self: labelled only", variant="self_hard", data=[labelled], note="for as long", warm_start=teacher
        )
        study.claim("what it wrote itself helps a teacher", better=same["hard"], worse=alone)
    for name in [name for name in same if name in ("soft", "collapsed") and "hard" in same]:
        study.claim(f"{name} beats hard in self-training", better=same[name], worse=same["hard"])
    last, lines = {}, {}
    for name in study.some(("soft", "hard")):
        previous = same[name]
        lines[name] = [Point(0, teacher), Point(1, previous)]
        for generation in study.some(range(2, GENERATIONS + 1), 0):
            again = study.label(previous, artifacts="hard,factored")
            previous = study.train(
                f"self: {name}, generation {generation}", variant=f"self_{name}", data=[labelled, again],
                warm_start=teacher,
            )  # fmt: skip
            lines[name].append(Point(generation, previous))
        last[name] = previous
    if len(last) > 1:
        study.claim("soft beats hard after as many generations", better=last["soft"], worse=last["hard"])
    study.curve("Generations of self-training", x_label="generation", lines=lines)

    # Of full context, and better than what the labelled split alone gives a small model.
    data = [labelled, study.label(same.get("hard", teacher), artifacts="hard,collapsed,factored")]
    start = study.train("streaming: start", variant="student_start", data=[labelled], note="of all below")

    def student(title, loss, data=data):
        return study.train(f"streaming: {title}", variant=f"student_{loss}", data=data, warm_start=start)

    hard, soft = student("hard", "hard"), student("soft", "soft")
    if not study.miniature:
        alone = student("labelled only", "hard", data=[labelled])
        study.claim("what the teacher wrote helps", better=hard, worse=alone)
    study.claim("hard at least equals unshifted soft under mismatch", better=hard, worse=soft)
    for name in study.some(("alignment", "collapsed"), 0):
        title = {"alignment": "alignment KL"}.get(name, name)
        other = student(title, name)
        study.claim(f"{title} beats unshifted soft under mismatch", better=other, worse=soft)
    shifted = {shift: student(f"soft, {shift} frames later", f"soft-{shift}") for shift in study.some(SHIFTS)}
    points = [Point(shift, system) for shift, system in sorted({0: soft, **shifted}.items())]
    study.curve("Soft targets shifted in time", x_label="frames that the student may be later", lines={"soft": points})
    best = study.best_on_dev(list(shifted.values()))
    study.claim("a shift recovers what unshifted soft loses", better=best, worse=soft)
    study.measure("test")
