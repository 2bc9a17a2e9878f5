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
STAGE = 0.35
"""Share of a training after which the second stage begins."""

METHODS = (
    "two_stages", "none", "at_once", "output", "hidden", "temperature", "adaptive", "two_stages_adaptive",
)  # fmt: skip
_SMOOTH = {"rule": "max_prob", "at_most": 0.9}  # which rule the paper has could not be read


def get_config(variant, models=small, output_weight=0.01):
    whole = small.first_trainings(models)
    if variant in whole:
        return whole[variant]()
    if variant not in METHODS:
        raise ValueError(f"no variant {variant!r}: choose teacher, start, {', '.join(METHODS)}")
    config = models.going_on(models.student())
    stage, layers = small.at(config, STAGE), f"{last_layer(config)}:{last_layer(models.teacher())}"

    def output(weight=output_weight, **options):
        return {"loss": "soft", "weight": weight, "shift": 4, **options}

    def hidden(weight=1.0):
        return {"weight": weight, "layer": layers}

    first = {"kind": "step", "from": 1.0, "to": 0.0, "begin": stage}
    then = {"kind": "ramp", "begin": stage, "end": stage + small.at(config, 0.05), "to": output_weight}
    terms = {
        "none": {},
        "output": {"output": output()},
        "temperature": {"output": output(temperature=2.0)},
        "adaptive": {"output": output(smoothing=_SMOOTH)},
        "hidden": {"hidden": hidden()},
        "at_once": {"hidden": hidden(), "output": output()},
        "two_stages": {"hidden": hidden(first), "output": output(then)},
        "two_stages_adaptive": {"hidden": hidden(first), "output": output(then, smoothing=_SMOOTH)},
    }
    with config.unlocked():
        config.losses.update(terms[variant])
    return config


def last_layer(config):
    """Name of an encoder's last block."""
    return f"block_{config.model.encoder.num_layers - 1}"


def _last(study, variant):
    return f"block_{study.config(variant)['model']['encoder']['num_layers'] - 1}"


def get_study(study):
    labelled = study.records("train-labeled")
    _, teacher = small.teachers(study, labelled)
    start = study.train("start", variant="start", data=[labelled], note="what all students start from")
    layer = _last(study, "teacher")
    flags = () if study.miniature else (f"--hidden_layers={layer}",)
    artifacts = {"artifacts": "hard,factored,hidden", "flags": flags}
    data = [study.label(teacher, **artifacts)]
    if not study.miniature:
        data.insert(0, study.label(teacher, split="train-labeled", targets="reference", **artifacts))
    students = {}
    for name in study.some(METHODS, 2):
        pair, hidden = f"{_last(study, name)}:{layer}", study.config(name)["losses"].get("hidden")
        # A miniature has fewer layers.
        settings = {"losses.hidden.layer": pair} if hidden and hidden["layer"] != pair else None
        students[name] = study.train(
            name.replace("_", " "), variant=name, data=data, settings=settings, warm_start=start
        )
    for better, worse in (
        ("output", "none"), ("hidden", "none"), ("two_stages", "none"), ("two_stages", "at_once"),
        ("two_stages", "output"), ("two_stages", "hidden"), ("adaptive", "temperature"),
        ("two_stages_adaptive", "none"),
    ):  # fmt: skip
        if {better, worse} <= set(students):
            text = f"{better} beats {worse}".replace("_", " ")
            study.claim(text, better=students[better], worse=students[worse])
    study.measure("test")
