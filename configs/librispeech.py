"""LibriSpeech and Libri-Light: Conformer teachers, and small streaming students of what they say.

    python -m tf_rnnt_kd.train --config=configs/librispeech.py:conformer_s --workdir=run/teacher \\
        --train=libri/records:train-clean-360,libri/records:train-other-500 --dev=libri/records:dev-other \\
        --tokenizer=libri/tokenizer
    python -m tf_rnnt_kd.train --config=configs/librispeech.py:student_soft --workdir=run/student \\
        --train=libri/records:train-clean-360@1,light/pseudo:train@9 --dev=libri/records:dev-other \\
        --tokenizer=libri/tokenizer

| variant | what it is |
|---|---|
| conformer_s, conformer_m, conformer_l | Gulati et al. 2020, table 1, with their optimizer and SpecAugment |
| conformer_xl | 0.6 billion weights, as the models of noisy student training; bfloat16 and Adafactor |
| student_hard | a streaming student of pseudo labels: hard distillation |
| student_soft | the same with a K-way loss over stored factored lattices (`pseudo_label --artifacts=hard,factored`) |

The vocabulary is 1024 word pieces. A batch is of frames: 64,000 are 64 utterances of 10 s on each replica. Published
batches hold 256 (noisy student training) to 2048 utterances: multiply replicas and `train.accumulate_steps` until they
do, or lower the learning rate. Labelled and pseudo-labelled utterances are mixed 1 : 9 by the weights in --train.
"""

import ml_collections

from tf_rnnt_kd.models.presets import preset
from tf_rnnt_kd.training.config import default_config

TEACHERS = ("conformer_s", "conformer_m", "conformer_l", "conformer_xl")
STUDENTS = ("student_hard", "student_soft")
VARIANTS = TEACHERS + STUDENTS


def get_config(variant="conformer_s"):
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    config = default_config()
    model = preset(variant if variant in TEACHERS else "streaming_small")
    config.model = ml_collections.ConfigDict(model)

    config.data.frames_per_batch = 64_000
    config.data.num_buckets = 6
    config.data.max_padding = 0.1
    config.data.shuffle_buffer = 1024  # 0.3 GB of each checkpoint per source; shards are shuffled too

    # Two frequency masks of 27 bins, ten time masks of a twentieth of the utterance: it has no time warp, so that
    # stored lattices fit. libri_full_adapt is the stronger policy for teachers of much data.
    config.augment.policy = "conformer"

    config.optimizer.name, config.optimizer.weight_decay = "adam", 0.0
    config.optimizer.schedule = "transformer"
    config.optimizer.warmup_steps = 10_000
    config.optimizer.peak_learning_rate = 0.05 / model["encoder"]["width"] ** 0.5
    config.optimizer.ema_decay = 0.9999

    config.train.steps = 200_000
    config.train.log_every = 100
    config.train.eval_every = config.train.checkpoint_every = 2000
    config.train.precision = "mixed_bfloat16"
    if variant == "conformer_xl":
        config.optimizer.name, config.optimizer.peak_learning_rate = "adafactor", 1e-2
        config.augment.policy = "libri_full_adapt"
    if variant in STUDENTS:
        # Those of the streaming models in the entropy-semiring paper.
        config.optimizer.warmup_steps, config.optimizer.peak_learning_rate = 5000, 1.5e-3
        with config.unlocked():
            config.losses.rnnt = {"weight": 1.0, "fastemit_lambda": 0.001}
            if variant == "student_soft":
                # The sum over nodes counts as published; a causal student may be 4 frames later than its teacher.
                config.losses.soft = {"weight": 0.001, "shift": 4}
    return config
