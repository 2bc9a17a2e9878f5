"""Adafactor: Adam's second moments kept as row and column means."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class Adafactor(keras.optimizers.Optimizer):
    """Adafactor (Shazeer and Stern 2018, algorithms 4 and 5), with optional momentum.

    A variable of shape [..., N, M] has N + M numbers of state for each leading index instead of Adam's 2 N M. The
    Adafactor of Keras 3.15 multiplies the factors out and keeps the product, so that it saves half of Adam's state at
    most; this one gives the same updates without it.

    Args:
      learning_rate: a schedule. It is relative: an update has about this share of the variable's root mean square.
      beta_1: momentum; 0 keeps none, which is where the memory is saved.
      beta_2: decay of the second moments, corrected for their start (section 7.1), or None for 1 - n^-0.8 in update n
        (section 7.2).
      epsilon_1: added to squared gradients. epsilon_2: the least root mean square that a variable is taken to have.
      clip_threshold: greatest root mean square of an update before the learning rate.
    """

    def __init__(
        self, learning_rate, beta_1=0.0, beta_2=None, epsilon_1=1e-30, epsilon_2=1e-3, clip_threshold=1.0, **kwargs
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._moments, self._momentums = [], []
        for variable in variables:
            shape, name = tuple(variable.shape), variable.path.replace("/", "_")
            shapes = {"rows": shape[:-1], "columns": shape[:-2] + shape[-1:]} if len(shape) > 1 else {"square": shape}
            self._moments.append(
                {
                    kind: self.add_variable(kept, initializer="zeros", dtype=variable.dtype, name=f"{name}_{kind}")
                    for kind, kept in shapes.items()
                }
            )
            if self.beta_1:
                self._momentums.append(self.add_variable_from_reference(variable, name="momentum"))

    def update_step(self, gradient, variable, learning_rate):
        dtype, index = variable.dtype, self._get_variable_index(variable)
        gradient = ops.cast(gradient, dtype)
        squares = ops.square(gradient) + self.epsilon_1
        decay, moments = ops.cast(self._decay(), dtype), self._moments[index]
        if "rows" in moments:
            rows = self._follow(moments["rows"], ops.mean(squares, axis=-1), decay)
            columns = self._follow(moments["columns"], ops.mean(squares, axis=-2), decay)
            rows = rows / ops.mean(rows, axis=-1, keepdims=True)
            update = gradient * ops.rsqrt(rows)[..., None] * ops.rsqrt(columns)[..., None, :]
        else:
            update = gradient * ops.rsqrt(self._follow(moments["square"], squares, decay))
        update = update / ops.maximum(1.0, _root_mean_square(update) / self.clip_threshold)
        scale = ops.maximum(self.epsilon_2, _root_mean_square(ops.convert_to_tensor(variable)))
        update = update * scale * ops.cast(learning_rate, dtype)
        if self.beta_1:
            update = self._follow(self._momentums[index], update, self.beta_1)
        self.assign_sub(variable, update)

    def _decay(self):
        count = ops.cast(self.iterations, "float32") + 1.0
        if self.beta_2 is None:
            return 1.0 - ops.power(count, -0.8)
        return self.beta_2 * (1.0 - ops.power(self.beta_2, count - 1.0)) / (1.0 - ops.power(self.beta_2, count))

    def _follow(self, average, value, decay):
        """average <- decay average + (1 - decay) value; the new average."""
        new = decay * ops.convert_to_tensor(average) + (1.0 - decay) * value
        self.assign(average, new)
        return new

    def get_config(self):
        names = ("beta_1", "beta_2", "epsilon_1", "epsilon_2", "clip_threshold")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _root_mean_square(values):
    return ops.sqrt(ops.mean(ops.square(values)))
