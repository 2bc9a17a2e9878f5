"""What is worth storing of a teacher: word error rate against bytes per hour.

python -m tf_rnnt_kd.study --study=configs/studies/frontier.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import small

TITLE = "What is worth storing of a teacher"
QUESTION = (
    "One streaming student learns from one teacher by everything that records can hold of it, in every precision, and "
    "from the teacher itself running beside it. What does a byte per hour buy?"
)
MINIATURE = small.MINIATURE
STORED = {  # name: (artifact, flags of pseudo_label, variant)
    "hard": ("", (), "hard"),
    "n-best": ("nbest", (), "n_best"),
    "top 4": ("top_k", ("--top_k=4",), "top_k"),
    "collapsed, 8 bit": ("collapsed", ("--collapsed_bits=8",), "collapsed"),
    "collapsed, 16 bit": ("collapsed", ("--collapsed_bits=16",), "collapsed"),
    "collapsed, 8 bit, band of 5": ("collapsed", ("--collapsed_bits=8", "--band=5"), "collapsed"),
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


def get_config(variant):
    if variant == "teacher":
        return small.teacher()
    config = small.student()
    if variant != "hard":
        with config.unlocked():
            config.losses[variant] = dict(_TERMS[variant])
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    teacher = study.train("teacher", variant="teacher", data=[labelled], seeds=1, note="full context")
    systems = {}
    for name, (artifact, flags, variant) in STORED.items():
        labels = study.label(teacher, artifacts=",".join(x for x in ("hard", artifact) if x), flags=flags)
        systems[name] = study.train(name, variant=variant, data=[labelled, labels], note=labels.partition(":")[0])
    online = study.train(
        "online teacher", variant="soft", data=[labelled, study.label(teacher)],
        settings={"distillation.online_teacher": teacher.folder}, note="nothing stored but words",
    )  # fmt: skip
    study.claim("whole distributions beat words alone", better=systems["factored, bfloat16"], worse=systems["hard"])
    study.claim("three numbers beat words alone", better=systems["collapsed, 8 bit"], worse=systems["hard"])
    study.claim("8 bits lose nothing to 16", better=systems["collapsed, 8 bit"], worse=systems["collapsed, 16 bit"])
    study.claim("stored loses nothing to online", better=systems["factored, bfloat16"], worse=online)
    study.measure("test")
