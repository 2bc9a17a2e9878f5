"""What is worth storing of a teacher: word error rate against bytes per hour.

python -m tf_rnnt_kd.study --study=configs/studies/frontier.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import Point, small

TITLE = "What is worth storing of a teacher"
QUESTION = (
    "One streaming student learns from one teacher by everything that records can hold of it, in every precision, and "
    "from the teacher itself running beside it. What does a byte per hour buy?"
)
MINIATURE = small.MINIATURE
STORED = {  # name: (artifact, flags of pseudo_label, variant)
    "hard": ("", (), "hard"),
    "top 4": ("top_k", ("--top_k=4",), "top_k"),
    "collapsed, 8 bit, band of 5": ("collapsed", ("--collapsed_bits=8", "--band=5"), "collapsed"),
    "n-best": ("nbest", (), "n_best"),
    "collapsed, 8 bit": ("collapsed", ("--collapsed_bits=8",), "collapsed"),
    "collapsed, 16 bit": ("collapsed", ("--collapsed_bits=16",), "collapsed"),
    "collapsed, 16 bit, band of 5": ("collapsed", ("--collapsed_bits=16", "--band=5"), "collapsed"),
    "factored, int8": ("factored", ("--factored_type=int8",), "soft"),
    "factored, bfloat16": ("factored", ("--factored_type=bfloat16",), "soft"),
}
_TERMS = {
    "n_best": {"loss": "full_sum_n_best", "per_label": True, "weight": 0.5},
    "top_k": {"weight": 0.01, "shift": 4},
    "collapsed": {"weight": 0.1, "shift": 4},
    "soft": {"weight": 0.01, "shift": 4},
}


def get_config(variant, models=small):
    whole = small.first_trainings(models)
    if variant in whole:
        return whole[variant]()
    config = models.going_on(models.student())
    if variant != "hard":
        with config.unlocked():
            config.losses[variant] = dict(_TERMS[variant])
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    _, teacher = small.teachers(study, labelled)
    start = study.train("start", variant="start", data=[labelled], note="what all students start from")
    systems, lines = {}, {}
    for name in study.some(STORED, 2):
        artifact, flags, variant = STORED[name]
        labels = study.label(teacher, artifacts=",".join(x for x in ("hard", artifact) if x), flags=flags)
        systems[name] = study.train(
            name, variant=variant, data=[labelled, labels], note=" ".join(flags), warm_start=start
        )
        lines[name] = [Point(labels, systems[name])]
    words = study.label(teacher)
    online = study.train(
        "online teacher", variant="soft", data=[labelled, words],
        settings={"distillation.online_teacher": teacher.folder}, note="nothing stored but words",
        warm_start=start,
    )  # fmt: skip
    systems["online teacher"], lines["online teacher"] = online, [Point(words, online)]
    for text, better, worse in (
        ("whole distributions beat words alone", "factored, bfloat16", "hard"),
        ("whole distributions beat words alone", "online teacher", "hard"),
        ("three numbers beat words alone", "collapsed, 8 bit", "hard"),
        ("8 bits lose nothing to 16", "collapsed, 8 bit", "collapsed, 16 bit"),
        ("a band loses nothing", "collapsed, 8 bit, band of 5", "collapsed, 8 bit"),
        ("stored loses nothing to online", "factored, bfloat16", "online teacher"),
    ):
        if {better, worse} <= set(systems):
            study.claim(text, better=systems[better], worse=systems[worse])
    study.curve("What a byte buys", x_label="bytes stored per hour of audio", lines=lines, logarithmic=True)
    study.measure("test")
