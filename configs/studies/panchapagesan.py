"""Distillation of sparse models by three numbers a node, after Panchapagesan et al. 2021 (arXiv 2011.06110).

python -m tf_rnnt_kd.study --study=configs/studies/panchapagesan.py --corpus=DIR --workdir=studies_run
"""

from tf_rnnt_kd.studies import small

TITLE = "Collapsed distillation of sparse models"
QUESTION = (
    "A dense streaming model is pruned gradually, with and without collapsed distillation from its dense self. Does "
    "the gain grow with sparsity (published: 4.3 % relative at 60 %, 12.1 % at 90 %), is it there for blocks of "
    "weights, and for a small dense student?"
)
MINIATURE = small.MINIATURE | {"sparsity.begin": 0, "sparsity.end": 3, "sparsity.frequency": 1}
SPARSITIES = (60, 90, 95)
BLOCK = (1, 4)


def get_config(variant):
    name, *options = variant.split("_")
    config = small.student()
    if name in ("sparse", "blocks"):
        config.train.steps = 1200
        config.optimizer.peak_learning_rate = 1e-3  # from the dense model's weights
        config.sparsity.target = int(options[0]) / 100
        config.sparsity.begin, config.sparsity.end, config.sparsity.frequency = 0, 800, 20
        config.sparsity.block = BLOCK if name == "blocks" else (1, 1)
    elif name == "small":
        config.model.encoder.width, config.model.encoder.num_layers = 64, 2
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

    for sparsity in SPARSITIES:
        pair(f"{sparsity} % sparse", f"sparse_{sparsity}", warm_start=dense)
    for sparsity in SPARSITIES[:2]:
        pair(f"{sparsity} % sparse, blocks of {BLOCK[0]} x {BLOCK[1]}", f"blocks_{sparsity}", warm_start=dense)
    pair("small and dense", "small")
    study.measure("test")
