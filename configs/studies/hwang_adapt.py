"""Continuous adaptation to new domains by soft and hard self-training, after Hwang et al. 2023 (arXiv 2210.05793).

python -m tf_rnnt_kd.study --study=configs/studies/hwang_adapt.py --corpus=DIR --domains=fsdd=DIR2 --workdir=studies_run

--domains may name other audio in LibriSpeech layout, splits train (whose transcripts nobody reads) and test. Words that
the corpus does not have cannot be learnt from a teacher that does not know them: the error rate on such a test set ends
at their share.
"""

from tf_rnnt_kd.studies import Point, small

TITLE = "New domains without labels"
QUESTION = (
    "A teacher meets audio of another kind: noisy rooms, the telephone, and other corpora. Nobody transcribes it. In "
    "each round the model labels the new audio and goes on training from its own weights, on its words (hard) or on "
    "its whole distributions as well (soft), on the new audio alone or with the old labelled speech. The paper says "
    "that soft targets adapt a model without losing the old domain: do they, and do hard ones? The control goes on "
    "training on the old speech alone, for as many steps."
)
MINIATURE = small.MINIATURE
KINDS = ("noisy", "narrow_band")
METHODS = ("soft", "hard")
DATA = ("new audio alone", "old speech too")
ROUNDS = 3
ROUND = 0.2  # of a teacher's training
SOFT_WEIGHT = 0.01


def get_config(variant, models=small, soft_weight=SOFT_WEIGHT):
    config = models.teacher()
    if variant == "teacher":
        return config
    if variant not in ("none", *METHODS):
        raise ValueError(f"no variant {variant!r}: choose teacher, none, {', '.join(METHODS)}")
    config.train.steps = config.train.eval_every = small.at(config, ROUND)  # no choice on the old dev split
    config.optimizer.peak_learning_rate *= 0.25
    config.augment.speed_factors = ()  # which stored lattices would not fit
    if variant == "soft":
        with config.unlocked():
            config.losses.soft = {"weight": soft_weight}
    return config


def get_study(study):
    labelled = study.records("train-labeled")
    teacher = study.train("teacher", variant="teacher", data=[labelled], note="the old domain alone")
    control, previous = [Point(0, teacher)], teacher
    for number in study.some(range(1, ROUNDS + 1)):
        previous = study.train(f"none, round {number}", variant="none", data=[labelled], warm_start=previous)
        control.append(Point(number, previous))
    domains = {kind: (study.degraded(kind), "train-unlabeled") for kind in study.some(KINDS)}
    domains |= {name: (study.domain(name), "train") for name in study.some(study.domains, 0)}
    study.measure("test")
    for domain, (records, split) in domains.items():
        lines = {"none": control}
        for method in study.some(METHODS):
            for data in study.some(DATA):
                old = [labelled] if data == DATA[1] else []
                name, previous = f"{domain}: {method}, {data}", teacher
                points = [Point(0, teacher)]
                for number in study.some(range(1, ROUNDS + 1)):
                    labels = study.label(previous, split=split, artifacts="hard,factored", of=records)
                    previous = study.train(
                        f"{name}, round {number}", variant=method, data=[*old, labels], warm_start=previous
                    )
                    points.append(Point(number, previous))
                lines[f"{method}, {data}"] = points
        _tell(study, domain, records, lines)


def _tell(study, domain, records, lines):
    there = f"{domain} test"
    systems = dict.fromkeys(point.system.name for points in lines.values() for point in points)
    systems = [study.systems[name] for name in systems]
    study.measure("test", systems=systems)
    study.measure("test", systems=systems, of=records, name=domain)
    for where, title in ((there, "on the new domain"), ("test", "on the old domain")):
        moved = {
            name: [Point(point.x, point.system, where=where) for point in points] for name, points in lines.items()
        }
        study.curve(f"{domain}, {title}", x_label="round", lines=moved)
    last = {name: points[-1].system for name, points in lines.items()}
    for data in study.some(DATA):
        ends = {method: last[f"{method}, {data}"] for method in study.some(METHODS)}
        for method, system in ends.items():
            study.claim(f"{method} adapts, {data}", better=system, worse=last["none"], where=there)
        if len(ends) > 1:
            pair = {"better": ends["soft"], "worse": ends["hard"]}
            study.claim(f"soft adapts better than hard, {data}", **pair, where=there)
            study.claim(f"soft forgets less than hard, {data}", **pair, where="test")
