"""Distillation of sparse models by three numbers a node, after Panchapagesan et al. 2021 (arXiv 2011.06110).

python -m tf_rnnt_kd.study --study=configs/studies/panchapagesan.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import Point, small

TITLE = "Collapsed distillation of sparse models"
QUESTION = (
    "A dense streaming model is pruned gradually, with and without collapsed distillation from its dense self. Does "
    "the gain grow with sparsity (published: 4.3 % relative at 60 %, 12.1 % at 90 %), is it there for blocks of "
    "weights, and for a small dense student?"
)
MINIATURE = small.MINIATURE | {"sparsity.begin": 0, "sparsity.end": 3, "sparsity.frequency": 1}
SPARSITIES = (60, 90, 95)
BLOCK = (1, 4)


def smaller():
    """A dense student of fewer weights."""
    config = small.student()
    config.model.encoder.width, config.model.encoder.num_layers = 64, 2
    return config


def get_config(variant, dense=small.student, smaller=smaller, going_on=small.going_on):
    name, *options = variant.split("_")
    config = dense()
    if name in ("sparse", "blocks"):
        config = going_on(config)  # from the dense model's weights
        config.sparsity.begin, config.sparsity.end = 0, small.at(config, 0.6)
        config.sparsity.frequency = small.at(config, 0.02)
        config.sparsity.target = int(options[0]) / 100
        config.sparsity.block = BLOCK if name == "blocks" else (1, 1)
    elif name == "small":
        config = smaller()
    elif name != "dense":
        raise ValueError(f"no variant {variant!r}")
    if "kd" in options:
        with config.unlocked():
            config.losses.collapsed = {"weight": 0.1}
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    dense = study.train("dense", variant="dense", data=[labelled], seeds=1, note="the teacher")
    # The same data for all: what the dense model says of the labelled split, along its transcripts.
    data = [study.label(dense, split="train-labeled", artifacts="hard,collapsed", targets="reference")]

    def pair(name, variant, **arguments):
        without = study.train(name, variant=variant, data=data, **arguments)
        taught = study.train(f"{name}, distilled", variant=f"{variant}_kd", data=data, **arguments)
        study.claim(f"distillation helps: {name}", better=taught, worse=without)
        return taught, without

    gains = {"single weights": [], "blocks": []}
    for sparsity in study.some(SPARSITIES):
        taught, without = pair(f"{sparsity} % sparse", f"sparse_{sparsity}", warm_start=dense)
        gains["single weights"].append(Point(sparsity, taught, against=without))
    for sparsity in study.some(SPARSITIES[:2], 0):
        taught, without = pair(
            f"{sparsity} % sparse, blocks of {BLOCK[0]} x {BLOCK[1]}", f"blocks_{sparsity}", warm_start=dense
        )
        gains["blocks"].append(Point(sparsity, taught, against=without))
    if not study.miniature:
        pair("small and dense", "small")
    lines = {name: points for name, points in gains.items() if points}
    study.curve("What distillation saves", x_label="sparsity, %", lines=lines)
    study.measure("test")
