"""Optimizer, and the average of the weights."""

import re

import keras
import tensorflow as tf

from tf_rnnt_kd.training import updates
from tf_rnnt_kd.training.adafactor import Adafactor
from tf_rnnt_kd.training.learning_rate import build_schedule

PARTS = {
    "encoder": ("encoder",),
    "predictor": ("predictor",),
    "joint": ("encoder_projection", "predictor_projection", "joint_kernel", "joint_bias"),
}
"""Parts of a Transducer that may have a learning rate of their own: names that stand first in their variables' paths
(the model's own name aside)."""


def build_optimizer(config, *, steps: int) -> "Optimizer":
    """The optimizer of `default_config().optimizer`; its schedules end at `steps`.

    Raises:
      ValueError: a setting has no such choice, or two do not go together.
    """
    unknown = sorted({*config.multipliers, *config.part_warmup_steps} - set(PARTS))
    if unknown:
        raise ValueError(
            f"optimizer.multipliers and optimizer.part_warmup_steps know the parts {', '.join(PARTS)}, not {unknown}"
        )
    schedules = {}
    for part in (None, *PARTS):
        multiplier = config.multipliers.get(part) if part else None
        warmup_steps = config.part_warmup_steps.get(part) if part else None
        schedules[part] = build_schedule(
            config.schedule, peak=config.peak_learning_rate * (1.0 if multiplier is None else multiplier),
            warmup_steps=config.warmup_steps if warmup_steps is None else warmup_steps, steps=steps,
        )
    rate, betas = schedules[None], {"beta_1": config.beta_1, "beta_2": config.beta_2}
    if config.name in ("adam", "adamw"):
        rule = keras.optimizers.Adam(rate, epsilon=1e-8, **betas)
    elif config.name == "adafactor":
        rule = Adafactor(rate, **betas)
    else:
        raise ValueError(f"unknown optimizer.name {config.name!r}: choose adamw, adam or adafactor")
    if config.weight_decay and config.name == "adam":
        raise ValueError(
            f"adam decays no weights: set optimizer.weight_decay=0 (not {config.weight_decay}), or "
            "optimizer.name='adamw'"
        )
    return Optimizer(
        rule, schedules=schedules, clip_norm=config.clip_norm, weight_decay=config.weight_decay,
        no_decay=config.no_decay,
    )


class Optimizer:
    """A Keras update rule with learning rates by part, decoupled weight decay, and clipping of the whole gradient.

    Keras's own `apply` clips what one replica has, before it sums the gradients of all. This one takes the sum.

    Args:
      rule: a keras.optimizers.Optimizer, of which `update_step` and the variables are used.
      schedules: part of PARTS, or None for all other variables -> schedule of its learning rate.
      clip_norm: greatest global norm of the gradients; 0 does not clip.
      weight_decay: variables lose this share of themselves, times the learning rate, before each update (AdamW).
      no_decay: patterns of paths (re.search) that lose nothing.
    """

    def __init__(self, rule, *, schedules, clip_norm=0.0, weight_decay=0.0, no_decay=()):
        self._rule = rule
        self._schedules = schedules
        self._clip_norm = clip_norm
        self._weight_decay = weight_decay
        self._no_decay = tuple(no_decay)

    def build(self, variables) -> None:
        """Makes the state for these variables."""
        self._rule.build(variables)

    @property
    def iterations(self):
        """Updates done, an integer variable."""
        return self._rule.iterations

    @property
    def variables(self):
        """The whole state: what a checkpoint must hold."""
        return self._rule.variables

    @property
    def learning_rate(self):
        """That of the next update, a float32 scalar, before the multipliers of parts."""
        return self.learning_rate_of(None)

    def learning_rate_of(self, part):
        """That of a part of PARTS, or of all other variables (None)."""
        return tf.cast(self._schedules[part](self.iterations), tf.float32)

    def apply(self, gradients, variables) -> None:
        """One update.

        Args:
          gradients: of the loss over all replicas, thus equal on all of them; None where a variable has none.
          variables: the variables that it was built for, in the same order.

        Works without a strategy (within tf.cond and XLA too), in a replica context where merge_call may stand, and in
        the cross-replica context.

        Raises:
          ValueError: no variable has a gradient.
        """
        present = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        if not present:
            raise ValueError("no trainable variable has a gradient: the loss does not depend on the model")
        # Rows that an IndexedSlices names twice are added up here, before their norm is taken.
        gradients = [tf.convert_to_tensor(g) if isinstance(g, tf.IndexedSlices) else g for g, _ in present]
        variables = [variable for _, variable in present]
        updates.across_replicas(lambda strategy, own: self._update(strategy, own, variables), gradients)

    def _update(self, strategy, gradients, variables):
        rates = {part: self.learning_rate_of(part) for part in self._schedules}
        scale = self._clipping(strategy, gradients) if self._clip_norm else None
        for gradient, variable in zip(gradients, variables, strict=True):
            rate = rates[part_of(variable.path)]
            decayed = self._weight_decay and not any(re.search(pattern, variable.path) for pattern in self._no_decay)

            def update(own, gradient, rate=rate, decayed=decayed):
                if scale is not None:
                    gradient = gradient * tf.cast(scale, gradient.dtype)
                if decayed:
                    own.assign_sub(own * tf.cast(self._weight_decay * rate, own.dtype))
                self._rule.update_step(gradient, own, rate)

            updates.update_each(strategy, update, [variable], [gradient])
        self.iterations.assign_add(1)

    def _clipping(self, strategy, gradients):
        """The factor, at most 1, that brings the gradients to the norm allowed; one copy of each is measured."""
        norm = global_norm([updates.one_copy(strategy, gradient) for gradient in gradients])
        return self._clip_norm / tf.maximum(norm, self._clip_norm)


def global_norm(gradients):
    """Square root of the sum of all squares, float32, of gradients as a tape gives them.

    Unlike tf.linalg.global_norm it adds up the rows that an IndexedSlices names more than once.
    """
    dense = [tf.cast(tf.convert_to_tensor(gradient), tf.float32) for gradient in gradients if gradient is not None]
    return tf.linalg.global_norm(dense)


def part_of(path: str):
    """The part of PARTS that a variable belongs to by its path; None for those of no part."""
    names = path.split("/")[:2]
    return next((part for part, first in PARTS.items() for name in names if name in first), None)


class WeightAverage:
    """An exponential moving average of a model's weights, held by a second model, in its precision.

    avg <- avg + (1 - d) (weight - avg), with d = min(decay, (1 + n) / (10 + n)) after n updates, so that the first
    average is not the initialisation.
    """

    def __init__(self, model, *, average_model, decay: float):
        self.model = model
        self.average_model = average_model
        self.decay = decay

    def start(self):
        """Makes the average equal the weights."""
        for average, weight in zip(self.average_model.weights, self.model.weights, strict=True):
            average.assign(weight)

    def update(self, step):
        """One update inside the training step; `step` counts updates before this one."""
        step = tf.cast(tf.convert_to_tensor(step), tf.float32)
        decay = tf.minimum(self.decay, (1.0 + step) / (10.0 + step))

        def follow(average, weight, decay):
            average.assign_add(tf.cast(1.0 - decay, average.dtype) * (tf.cast(weight, average.dtype) - average))

        def merged(strategy, decay):
            averages, weights = self.average_model.weights, self.model.weights
            updates.update_each(strategy, follow, averages, weights, [decay] * len(weights))

        updates.across_replicas(merged, decay)
