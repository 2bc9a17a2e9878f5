"""Learning rates over the updates of a training. All warm up linearly to the peak."""

import keras

_SETTING = "optimizer.schedule"


def build_schedule(name, *, peak, warmup_steps, steps) -> keras.optimizers.schedules.LearningRateSchedule:
    """A schedule by name: `constant`, `cosine` (to zero at `steps`) or `transformer` (the inverse square root).

    Raises:
      ValueError: there is no such schedule, or the transformer's has no warm-up.
    """
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0, decay_steps=max(1, steps - warmup_steps), warmup_target=peak,
            warmup_steps=warmup_steps,
        )
    if name == "constant":
        return WarmUp(peak, warmup_steps)
    if name == "transformer":
        if warmup_steps < 1:
            raise ValueError(f"{_SETTING}='transformer' needs optimizer.warmup_steps of at least 1, not {warmup_steps}")
        return TransformerSchedule(peak, warmup_steps)
    raise ValueError(f"unknown {_SETTING} {name!r}: choose constant, cosine or transformer")


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """peak * min(1, n / warmup_steps) in the n-th update, n = 1, 2, ..."""

    def __init__(self, peak, warmup_steps):
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        count = keras.ops.cast(step, "float32") + 1.0
        return self.peak * keras.ops.minimum(1.0, count / max(self.warmup_steps, 1))

    def get_config(self):
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class TransformerSchedule(WarmUp):
    """peak * min(n / w, sqrt(w / n)) in the n-th update (Vaswani et al. 2017, section 5.3, scaled to its peak at w)."""

    def __call__(self, step):
        count = keras.ops.cast(step, "float32") + 1.0
        return self.peak * keras.ops.minimum(count / self.warmup_steps, keras.ops.sqrt(self.warmup_steps / count))
