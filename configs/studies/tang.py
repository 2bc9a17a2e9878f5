"""Two-stage distillation of a streaming student, after Tang et al. 2023 (arXiv 2306.15171).

python -m tf_rnnt_kd.study --study=configs/studies/tang.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import small

TITLE = "From full context to streaming in two stages"
QUESTION = (
    "A streaming student learns from a teacher of full context: from its hidden layer, its output, both at once, or "
    "first one and then the other; the output as it is, with a fixed temperature, or smoothed adaptively by a power. "
    "Do two stages beat one, by how much (published: 19 % relative in all), and does the first token come earlier?"
)
MINIATURE = small.MINIATURE
STAGE = 700
"""Step at which the second stage begins."""

_LAYERS = "block_2:block_3"  # the last ones
_THEN = {"kind": "ramp", "begin": STAGE, "end": STAGE + 100}
_SMOOTH = {"rule": "max_prob", "at_most": 0.9}  # which rule the paper has could not be read


def _output(weight, **options):
    return {"loss": "soft", "weight": weight, "shift": 4, **options}


def _hidden(weight):
    return {"weight": weight, "layer": _LAYERS}


_FIRST = {"kind": "step", "from": 1.0, "to": 0.0, "begin": STAGE}
METHODS = {
    "none": {},
    "output": {"output": _output(0.01)},
    "temperature": {"output": _output(0.01, temperature=2.0)},
    "adaptive": {"output": _output(0.01, smoothing=_SMOOTH)},
    "hidden": {"hidden": _hidden(1.0)},
    "at_once": {"hidden": _hidden(1.0), "output": _output(0.01)},
    "two_stages": {"hidden": _hidden(_FIRST), "output": _output({**_THEN, "to": 0.01})},
    "two_stages_adaptive": {
        "hidden": _hidden(_FIRST),
        "output": _output({**_THEN, "to": 0.01}, smoothing=_SMOOTH),
    },
}


def get_config(variant):
    if variant == "teacher":
        return small.teacher()
    if variant not in METHODS:
        raise ValueError(f"no variant {variant!r}: choose teacher, {', '.join(METHODS)}")
    config = small.student()
    with config.unlocked():
        config.losses.update(METHODS[variant])
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    teacher = study.train("teacher", variant="teacher", data=[labelled], seeds=1, note="full context")
    artifacts = {"artifacts": "hard,factored,hidden", "flags": ("--hidden_layers=block_3",)}
    data = [
        study.label(teacher, split="train-labeled", targets="reference", **artifacts),
        study.label(teacher, **artifacts),
    ]
    students = {name: study.train(name.replace("_", " "), variant=name, data=data) for name in METHODS}
    for better, worse in (
        ("output", "none"), ("hidden", "none"), ("two_stages", "at_once"), ("two_stages", "output"),
        ("two_stages", "hidden"), ("adaptive", "temperature"), ("two_stages_adaptive", "none"),
    ):  # fmt: skip
        study.claim(f"{better} beats {worse}", better=students[better], worse=students[worse])
    study.measure("test")
