"""Gaussian noise on the weights of the forward pass."""

import contextlib
import re

import keras
import tensorflow as tf

from tf_rnnt_kd.speech.draws import GENERATOR, key_of


class VariationalNoise:
    """Adds N(0, deviation^2) to weights while the loss is computed (Graves 2011, with a fixed deviation).

    The gradient is taken at the noisy weights and applied to the clean ones, which no step ever changes otherwise. The
    noise of a step depends on seed, step and the variable's path only: it is the same on all replicas and in a run
    that was resumed.

    Args:
      config: `default_config().variational_noise`. model: a Keras model. seed: of the training.

    Raises:
      ValueError: a setting makes no sense, or a pattern fits no trainable variable.
    """

    def __init__(self, config, *, model, seed: int):
        if config.deviation < 0 or config.begin < 0:
            raise ValueError(
                "variational_noise.deviation and .begin must be 0 or more, not "
                f"{config.deviation} and {config.begin}"
            )
        self.is_on = config.deviation > 0
        self._deviation, self._begin, self._seed = config.deviation, config.begin, seed
        self._model = model
        variables = model.trainable_variables
        for pattern in config.include:
            if not any(re.search(pattern, variable.path) for variable in variables):
                paths = ", ".join(variable.path for variable in variables)
                raise ValueError(f"variational_noise.include: {pattern!r} fits none of the variables: {paths}")
        patterns = tuple(config.include) or ("",)
        self.variables = [v for v in variables if any(re.search(pattern, v.path) for pattern in patterns)]

    @contextlib.contextmanager
    def applied(self, step):
        """Within it the model computes with noisy weights; `step` is an int32 scalar, the steps before this one.

        A tape outside of it gives gradients with respect to the clean variables. What layers change meanwhile (seeds
        of dropout, statistics) is written back at the end.
        """
        if not self.is_on:
            yield
            return
        noisy = [(variable, self._noisy(variable, step)) for variable in self.variables]
        with keras.StatelessScope(state_mapping=noisy) as scope:
            yield
        # Dropout's seeds are in `variables` but not in `weights`.
        trained = {id(variable) for variable in self._model.trainable_variables}
        for variable in self._model.variables:
            value = None if id(variable) in trained else scope.get_current_value(variable)
            if value is not None:
                variable.assign(value)

    def _noisy(self, variable, step):
        key = key_of(self._seed, variable.path)
        shape, dtype = variable.shape, variable.dtype

        def noise():
            seed, deviation = [key, step], self._deviation
            return tf.random.stateless_normal(shape, seed, stddev=deviation, dtype=dtype, alg=GENERATOR)

        return variable.value + tf.cond(step >= self._begin, noise, lambda: tf.zeros(shape, dtype))
