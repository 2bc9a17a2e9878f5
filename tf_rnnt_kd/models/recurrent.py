"""The LSTM as one layer: layer norm, projection and coupled gates as options, whole sequences or steps."""

import keras
import tensorflow as tf

from tf_rnnt_kd.models.masking import count_frames, mask_frames, valid_frames

_EPSILON = 1e-5


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class LSTM(keras.layers.Layer):
    """LSTM over time (Hochreiter and Schmidhuber 1997). [B, T, C] -> [B, T, output_width].

    i, f, g, o = the gates' parts of x_t W + h_{t-1} U + b; c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);
    h_t = (sigmoid(o) tanh(c_t)) P. Matrix products run in the compute dtype, gates and cell in float32.

    Args:
      units: width of the cell.
      projection: width of P (Sak et al. 2014); None: no P.
      layer_norm: normalises each gate's sum before b, and c_t before its tanh (Ba et al. 2016).
      coupled_gates: sigmoid(i) is 1 - sigmoid(f) (CIFG, Greff et al. 2017): a quarter fewer weights.
    """

    def __init__(self, units, projection=None, layer_norm=False, coupled_gates=False, **kwargs):
        super().__init__(**kwargs)
        self.settings = {
            "units": units, "projection": projection, "layer_norm": layer_norm, "coupled_gates": coupled_gates,
        }
        self.units = units
        self.layer_norm = layer_norm
        self.num_gates = 3 if coupled_gates else 4
        self.output_width = projection or units

    def build(self, input_shape):
        columns = self.num_gates * self.units
        self.kernel = self.add_weight(name="kernel", shape=(int(input_shape[-1]), columns))
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.output_width, columns), initializer=_orthogonal
        )
        # (i,) f, g, o. It should remember before it has learned what: the forget gate begins at 1.
        self.bias = self.add_weight(name="bias", shape=(self.num_gates, self.units), initializer=self._initial_bias)
        if self.layer_norm:
            self.gate_scale = self.add_weight(name="gate_scale", shape=(self.num_gates, self.units), initializer="ones")
            self.cell_scale = self.add_weight(name="cell_scale", shape=(self.units,), initializer="ones")
            self.cell_shift = self.add_weight(name="cell_shift", shape=(self.units,), initializer="zeros")
        if self.settings["projection"]:
            self.projection = self.add_weight(name="projection", shape=(self.units, self.output_width))
        self.built = True

    def _initial_bias(self, shape, dtype=None):
        return tf.tensor_scatter_nd_update(tf.zeros(shape, dtype), [[shape[0] - 3]], tf.ones([1, shape[1]], dtype))

    def call(self, frames, lengths):
        """Rows beyond `lengths` [B] may hold anything, and are zero in the outputs."""
        valid = valid_frames(lengths, count_frames(frames))
        outputs, _, _ = self.step(frames, valid, self.get_initial_state(tf.shape(frames)[0]))
        return mask_frames(outputs, lengths)

    def get_initial_state(self, batch_size):
        """Zeros: {"output": [B, output_width] in the compute dtype, "cell": [B, units] float32}."""
        return {
            "output": tf.zeros([batch_size, self.output_width], self.compute_dtype),
            "cell": tf.zeros([batch_size, self.units]),
        }

    def step(self, frames, valid, state):
        """The next frames [B, k, C] -> (outputs [B, k, output_width], valid [B, k], new state).

        Where `valid` [B, k] is false the state stays as it is, whatever the frame holds.
        """
        frames = tf.where(valid[:, :, None], tf.cast(frames, self.compute_dtype), 0)
        # One product for all frames; only what depends on the frame before stays in the loop.
        inputs = tf.transpose(tf.tensordot(frames, tf.cast(self.kernel, frames.dtype), 1), [1, 0, 2])
        recurrent = tf.cast(self.recurrent_kernel, frames.dtype)
        weights = {name: tf.cast(getattr(self, name), tf.float32) for name in self._elementwise()}
        projection = tf.cast(self.projection, frames.dtype) if self.settings["projection"] else None

        def advance(before, now):
            (output, cell), (incoming, exists) = before, now
            new_output, new_cell = self._cell(incoming + tf.matmul(output, recurrent), cell, weights)
            new_output = tf.cast(new_output, output.dtype)
            if projection is not None:
                new_output = tf.matmul(new_output, projection)
            exists = exists[:, None]
            return tf.where(exists, new_output, output), tf.where(exists, new_cell, cell)

        before = state["output"], state["cell"]
        if frames.shape[1] == 1:  # a search goes label by label, and a loop costs more than what is in it
            output, cell = advance(before, (inputs[0], valid[:, 0]))
            return output[:, None], valid, {"output": output, "cell": cell}
        outputs, cells = tf.scan(advance, (inputs, tf.transpose(valid)), before)
        new_state = {"output": outputs[-1], "cell": cells[-1]}
        return tf.transpose(outputs, [1, 0, 2]), valid, new_state

    def _elementwise(self):
        return ("bias", "gate_scale", "cell_scale", "cell_shift") if self.layer_norm else ("bias",)

    def _cell(self, sums, cell, weights):
        """Sums before the gates [B, gates * units] and the cell [B, units] -> (h before P, cell), float32."""
        gates = tf.reshape(tf.cast(sums, tf.float32), [-1, self.num_gates, self.units])
        if self.layer_norm:
            gates = _normalised(gates) * weights["gate_scale"]
        *into, forget, candidate, out = tf.unstack(gates + weights["bias"], axis=1)
        forget = tf.sigmoid(forget)
        cell = forget * cell + (tf.sigmoid(into[0]) if into else 1.0 - forget) * tf.tanh(candidate)
        shown = cell
        if self.layer_norm:
            shown = _normalised(cell) * weights["cell_scale"] + weights["cell_shift"]
        return tf.sigmoid(out) * tf.tanh(shown), cell

    def get_config(self):
        return {**super().get_config(), **self.settings}


def _orthogonal(shape, dtype=None):
    """Keras's initializer, which knows no bfloat16."""
    return tf.cast(keras.initializers.Orthogonal()(shape, "float32"), dtype)


def _normalised(x):
    """Mean 0 and variance 1 along the last axis."""
    mean, variance = tf.nn.moments(x, axes=-1, keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + _EPSILON)
