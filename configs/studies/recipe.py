"""What a streaming student gains by audio without transcripts, and by what: the table of the README.

python -m tf_rnnt_kd.study --study=configs/studies/recipe.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import small

TITLE = "What a streaming student gains"
QUESTION = (
    "A streaming student that the labelled split has taught all it can goes on: on the labelled split alone, or with "
    "what a teacher of full context writes about audio without transcripts: words, words and three numbers a node, "
    "words and whole distributions. What does each bring, at equal steps?"
)
MINIATURE = small.MINIATURE
LOSSES = {
    "labelled": {},
    "hard": {},
    "collapsed": {"collapsed": {"weight": 0.1, "shift": 4}},
    "soft": {"soft": {"weight": 0.01, "shift": 4}},
}


def get_config(variant, models=small):
    whole = {"teacher": models.teacher, "start": models.student}
    if variant in whole:
        return whole[variant]()
    if variant not in LOSSES:
        raise ValueError(f"no variant {variant!r}: choose {', '.join([*whole, *LOSSES])}")
    config = models.going_on(models.student())
    with config.unlocked():
        config.losses.update(LOSSES[variant])
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    teacher = study.train("teacher", variant="teacher", data=[labelled], seeds=1, note="full context")
    start = study.train("start", variant="start", data=[labelled], seeds=1, note="what all students start from")
    labels = study.label(teacher, artifacts="hard,collapsed,factored")
    students = {}
    for name in study.some(LOSSES, 3):
        data = [labelled] if name == "labelled" else [labelled, labels]
        students[name] = study.train(name, variant=name, data=data, warm_start=start)
    study.claim("the teacher's words help", better=students["hard"], worse=students["labelled"])
    for name in [name for name in students if name in ("collapsed", "soft")]:
        study.claim(f"{name} beats words alone", better=students[name], worse=students["hard"])
    study.measure("test")
