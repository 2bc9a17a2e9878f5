"""Optimizer, schedule, and the average of the weights."""

import keras


def build_optimizer(config, *, steps: int) -> keras.optimizers.Optimizer:
    """AdamW with linear warm-up and cosine decay to zero over `steps`; see `default_config().optimizer`."""
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps - config.warmup_steps),
        warmup_target=config.peak_learning_rate,
        warmup_steps=config.warmup_steps,
    )
    return keras.optimizers.AdamW(
        schedule,
        weight_decay=config.weight_decay,
        beta_2=0.98,
        epsilon=1e-8,
        global_clipnorm=config.clip_norm,
    )


class WeightAverage:
    """An exponential moving average of a model's weights, held by a second model of the same shape.

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
        step = keras.ops.cast(step, "float32")
        decay = keras.ops.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for average, weight in zip(self.average_model.weights, self.model.weights, strict=True):
            average.assign(average + (1.0 - decay) * (weight - average))
