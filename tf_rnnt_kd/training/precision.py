"""Number formats of a training, and the loss scale that float16 needs."""

import contextlib

import keras
import tensorflow as tf

PRECISIONS = ("float32", "bfloat16", "mixed_bfloat16", "mixed_float16")
_LARGEST_SCALE = 2.0**24


@contextlib.contextmanager
def layers_in(precision: str):
    """Within it, layers are made with this dtype policy of Keras: a name of PRECISIONS.

    Raises:
      ValueError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown train.precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class LossScale:
    """The factor on the loss that keeps float16 gradients above its smallest number (Micikevicius et al. 2018).

    It doubles after `growth_steps` finite steps in a row and halves with each that is not, down to 1. It is a power of
    two, so that it changes no other rounding.

    Args:
      precision: of PRECISIONS. The factor is 1 for ever unless it computes in float16.
    """

    def __init__(self, precision: str, *, initial: float = 2.0**15, growth_steps: int = 2000):
        self.is_on = precision == "mixed_float16"
        self._growth_steps = growth_steps
        self.variables = []
        if self.is_on:
            once = tf.VariableAggregation.ONLY_FIRST_REPLICA
            self._scale = tf.Variable(initial, trainable=False, name="loss_scale", aggregation=once)
            self._finite_steps = tf.Variable(0, trainable=False, name="finite_steps", aggregation=once)
            self.variables = [self._scale, self._finite_steps]
            """The whole state: what a checkpoint must hold."""

    @property
    def value(self):
        """The factor, a float32 scalar."""
        return tf.convert_to_tensor(self._scale) if self.is_on else tf.ones([])

    def update(self, finite) -> None:
        """After a step; `finite` is a Boolean scalar, equal on all replicas."""
        if not self.is_on:
            return
        scale, count = self.value, tf.convert_to_tensor(self._finite_steps) + 1
        grows = finite & (count >= self._growth_steps)
        larger = tf.where(grows, tf.minimum(2.0 * scale, _LARGEST_SCALE), scale)
        self._scale.assign(tf.where(finite, larger, tf.maximum(scale / 2.0, 1.0)))
        self._finite_steps.assign(tf.where(finite & ~grows, count, 0))
