"""The trainings of `make demo`: a full-context teacher and three causal students of equal size.

    python -m tf_rnnt_kd.train --config=configs/demo.py:teacher ...
    variants: teacher, student_labeled, student_hard, student_distill

About 11 minutes each on 2 cores.
"""

from tf_rnnt_kd.training.config import default_config

VARIANTS = ("teacher", "student_labeled", "student_hard", "student_distill")


def get_config(variant="teacher"):
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    config = default_config()
    config.model.encoder.channels = 16
    config.optimizer.peak_learning_rate = 2e-3
    config.train.steps = 2000
    # With few hours of speech a model is unsure of many words, and without this most of its errors are lost words.
    config.search.blank_penalty = 1.0
    if variant == "teacher":
        config.train.steps = 1600
        config.model.encoder.width = 128
        config.augment.speed_factors = (0.9, 1.0, 1.1)
        return config
    # No speed perturbation in any student, so that the three differ in their data and losses only: the stored
    # lattices of student_distill would not fit a changed time axis.
    config.model.encoder.width = 96
    config.model.encoder.num_layers = 3
    config.model.encoder.left_context = 16  # 1.28 s of 80 ms frames
    if variant == "student_distill":
        with config.unlocked():
            # A causal model cannot name a word before it has heard it: benchmarks/alignment_lag.py prints by how many
            # frames the student is later than the teacher when it learns from labels alone.
            config.losses.collapsed = {"weight": 0.1, "shift": 4}
    return config
