"""Whether the jobs of a study fit together, as far as can be seen without running them."""

import functools
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import ml_collections

from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.speech.policies import policy_arguments
from tf_rnnt_kd.studies.plan import Study
from tf_rnnt_kd.training import sparsity
from tf_rnnt_kd.training.optimizer import build_optimizer
from tf_rnnt_kd.training.teacher_inputs import GIVEN_BY, ON_THE_FRAMES, choose_artifacts

_DEFAULT_VOCABULARY = 128


class Shapes(NamedTuple):
    """Shapes of a model's trainable weights."""

    encoder: tuple[tuple[int, ...], ...]
    predictor: tuple[tuple[int, ...], ...]
    joint: tuple[tuple[int, ...], ...]

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return sum(math.prod(shape) for part in self for shape in part)


def check(study: Study) -> None:
    """Goes through all jobs that a study has declared.

    For each training: the losses and what they need of a teacher are in the records that it reads; the augmentation
    does not move what stored lattices lie on; optimizer, sparsity and model can be built.

    Raises:
      ValueError: names the first job that does not fit, and why.
    """
    stored: dict[str, set[str]] = {}
    seen: set[str] = set()
    for job in study.jobs.values():
        if job.kind == "labelling":
            stored[job.flags["output"]] = set(job.flags["artifacts"].split(","))
        if job.kind == "training":
            folders = {part.rpartition(":")[0] for part in job.flags["train"].split(",")}
            have = {artifact for folder in folders for artifact in stored.get(folder, ())}
            alike = json.dumps([job.settings | {"seed": 0}, sorted(have)], sort_keys=True, default=str)
            if alike in seen:
                continue
            seen.add(alike)
            try:
                _check_training(ml_collections.ConfigDict(job.settings), have)
                features = job.settings["frontend"]["num_mel_bins"]
                weight_shapes(job.settings["model"], vocab_size=vocabulary(study), num_features=features)
            except ValueError as error:
                raise ValueError(f"{job.title}: {error}") from error


def vocabulary(study: Study) -> int:
    """Size of the study's vocabulary as far as its definition says it."""
    sizes = [flag.partition("=")[2] for flag in study.definition.corpus.tokenizer if flag.startswith("--vocab_size=")]
    return int(sizes[-1]) if sizes else _DEFAULT_VOCABULARY


def weight_shapes(model: Mapping[str, Any], *, vocab_size: int, num_features: int) -> Shapes:
    """Of a `model` section, without memory for the weights."""
    return _weight_shapes(json.dumps(model, sort_keys=True), vocab_size, num_features)


@functools.cache
def _weight_shapes(model, vocab_size, num_features):
    config = ml_collections.ConfigDict(json.loads(model))
    with keras.StatelessScope(initialize_variables=False):
        built = build_transducer(config, vocab_size=vocab_size, num_features=num_features)
    parts = [[tuple(weight.shape) for weight in part.trainable_weights] for part in (built.encoder, built.predictor)]
    elsewhere = {id(weight) for part in (built.encoder, built.predictor) for weight in part.trainable_weights}
    joint = [tuple(weight.shape) for weight in built.trainable_weights if id(weight) not in elsewhere]
    return Shapes(*(tuple(shapes) for shapes in (*parts, joint)))


def _check_training(config, have):
    objective = Objective(config.losses)
    needs = set(objective.needs) & set(GIVEN_BY)
    if not config.distillation.online_teacher:
        choose_artifacts(needs, stored=have)
    on_the_frames = ON_THE_FRAMES & needs
    policy_arguments(config.augment, time_aligned=on_the_frames)
    if on_the_frames and config.augment.speed_factors:
        raise ValueError(f"augment.speed_factors moves the frames on which {', '.join(sorted(on_the_frames))} lie")
    if sparsity.check(config.sparsity) and config.sparsity.end > config.train.steps:
        raise ValueError(f"sparsity.end={config.sparsity.end} comes after train.steps={config.train.steps}")
    build_optimizer(config.optimizer, steps=config.train.steps)
