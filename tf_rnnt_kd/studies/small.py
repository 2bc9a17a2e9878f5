"""Models of the studies on an hour of connected words: a training takes minutes on two cores."""

from tf_rnnt_kd.training.config import default_config

MINIATURE = {
    "frontend.num_mel_bins": 32,
    "model.encoder.width": 16,
    "model.encoder.num_layers": 1,
    "model.encoder.num_heads": 2,
    "model.encoder.channels": 4,
    "model.encoder.kernel_size": 3,
    "model.predictor.width": 8,
    "model.joint_width": 16,
    "data.num_buckets": 1,
    "data.frames_per_batch": 3200,
    "train.steps": 4,
    "train.eval_every": 4,
    "train.log_every": 2,
    "train.pictures_every": 0,
    "train.memory_limit_gb": -1.0,
    "optimizer.warmup_steps": 1,
    # A teacher of four steps would write more tokens than there are frames, and no label would be kept.
    "search.max_symbols_per_frame": 1,
}
"""Settings of the same trainings made tiny."""


def teacher(*, steps: int = 1600):
    """A Conformer of full context, 80 ms frames."""
    config = default_config()
    config.model.encoder.channels = 16
    config.model.encoder.width = 128
    # With the default batches: smaller ones learn sooner, at a lower rate, and less. See docs/results/baseline.md.
    config.optimizer.peak_learning_rate = 2e-3
    config.augment.speed_factors = (0.9, 1.0, 1.1)
    # With few hours of speech a model is unsure of many words, and without this most of its errors are lost words.
    config.search.blank_penalty = 1.0
    config.train.steps = steps
    config.train.eval_every = config.train.checkpoint_every = steps // 4
    config.train.update(pictures_every=0, memory_limit_gb=-1.0)
    return config


def student(*, steps: int = 2000):
    """A causal Conformer that sees 1.28 s back. No speed perturbation, which stored lattices would not fit."""
    config = teacher(steps=steps)
    config.augment.speed_factors = ()
    config.model.encoder.width = 96
    config.model.encoder.num_layers = 3
    config.model.encoder.left_context = 16
    return config


def going_on(config, *, steps: int = 600):
    """The same model when it starts from weights that the labelled split gave it.

    Half of a training from scratch goes into finding out where the words are, which no teacher is needed for; and
    full-sum distances mean nothing before that.
    """
    config.train.steps = steps
    config.train.eval_every = config.train.checkpoint_every = steps // 2
    config.optimizer.peak_learning_rate *= 0.5
    config.optimizer.warmup_steps = 50
    return config


def teacher_again():
    """The teacher when it goes on with what it wrote about the unlabelled split."""
    return going_on(teacher(), steps=800)


def first_trainings(models) -> dict:
    """{variant: what makes its config} of what is trained before the students: `teachers`, and what they start from."""
    return {"teacher": models.teacher, "teacher_again": models.teacher_again, "start": models.student}


def teachers(study, labelled: str):
    """Two of full context: on the labelled split alone (variant `teacher`), and then on its own words too.

    The labelled split alone makes no model of full context that is much better than a small streaming student; in
    practice too a teacher is what noisy-student training made of it (variant `teacher_again`). In a miniature both are
    the first one.
    """
    first = study.train("teacher, first", variant="teacher", data=[labelled], seeds=1, note="labelled split alone")
    if study.miniature:
        return first, first
    again = study.train(
        "teacher", variant="teacher_again", data=[labelled, study.label(first)], seeds=1, warm_start=first,
        note="full context, and its own words",
    )  # fmt: skip
    return first, again


def at(config, share: float) -> int:
    """The step at a share of a training."""
    return round(share * config.train.steps)
