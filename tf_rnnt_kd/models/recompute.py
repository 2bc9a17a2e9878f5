"""Layers that keep nothing for the backward pass but their input, and compute the rest again in it.

Chen et al. 2016 (arXiv 1604.06174). `tf.recompute_grad` is not enough here: it lets a layer that changes a state
(dropout's, running statistics) change it twice, and draw another mask in the backward pass.
"""

import keras
import tensorflow as tf

MODES = ("none", "blocks", "all")
"""What an encoder computes again: nothing; each of its blocks; these and the convolutions that subsample."""


def recomputed(layer, frames, lengths, *, training):
    """layer(frames, lengths, training=training), keeping nothing for its gradients but `frames`.

    Values, gradients and changes of state are those of the layer to the last bit: weights and states are read once and
    given to both computations, and what the first one changes is assigned after it.

    Args:
      layer: a built Keras layer that gives one tensor and reads no variables but its own.
      frames: [B, T, C] float. lengths: [B] int32.
    """
    trained, states = layer.trainable_variables, layer.non_trainable_variables
    variables, changed = [*trained, *states], []
    scope_name = tf.get_current_name_scope()

    def compute(frames, values):
        scope = keras.StatelessScope(list(zip(variables, values, strict=True)), initialize_variables=False)
        before = [scope.get_current_value(variable) for variable in states]
        with scope:
            outputs = layer(frames, lengths, training=training)
        after = [scope.get_current_value(variable) for variable in states]
        moved = zip(states, before, after, strict=True)
        return outputs, [(variable, new) for variable, old, new in moved if new is not old]

    @tf.custom_gradient
    def run(frames, *values):
        outputs, changed[:] = compute(frames, values)

        def gradient(upstream):
            # By its name what is computed again belongs where the layer does.
            named, late = tf.name_scope(f"{scope_name}/again/"), tf.control_dependencies([upstream])
            with named, late, tf.GradientTape() as tape:
                again = [_not_before(upstream, frames), *values[: len(trained)]]
                now = [_not_before(upstream, state) for state in values[len(trained) :]]
                tape.watch(again)
                outputs, _ = compute(again[0], [*again[1:], *now])
            found = tape.gradient(outputs, again, output_gradients=upstream)
            return [*found, *[None] * len(states)]

        return outputs, gradient

    outputs = run(frames, *(tf.convert_to_tensor(variable.value) for variable in variables))
    for variable, value in changed:
        variable.assign(value)
    return outputs


def recomputed_by_utterance(function, variables, features, lengths, *, dtype):
    """function(features, lengths), for one utterance after the other, keeping nothing for its gradients but `features`.

    The sums over a batch in the gradients of weights are taken in another order than that of the whole batch.

    Args:
      function: (features [1, N, F], lengths [1]) -> [1, T, C], without randomness and without changes of state.
      variables: Keras variables that it is differentiated by; it reads no others.
      features: [B, N, F] float. lengths: [B] int32. dtype: of the result.

    Returns:
      [B, T, C].
    """

    def compute(features, lengths, values):
        scope = keras.StatelessScope(list(zip(variables, values, strict=True)), initialize_variables=False)
        with scope:
            return function(features, lengths)

    def forward(features, values):
        def one(row):
            return compute(row[0][None], row[1][None], values)[0]

        return tf.map_fn(one, (features, lengths), fn_output_signature=dtype, parallel_iterations=1)

    @tf.custom_gradient
    def run(features, *values):
        def gradient(upstream):
            def one(b, to_features, sums):
                # Own tensors of the loop's body: a tape does not know those that come from outside by what is in it.
                own = [features[b][None], *(tf.identity(value) for value in values)]
                with tf.GradientTape() as tape:
                    tape.watch(own)
                    outputs = compute(own[0], lengths[b][None], own[1:])
                found = tape.gradient(outputs, own, output_gradients=upstream[b][None])
                sums = [total + more for total, more in zip(sums, found[1:], strict=True)]
                return b + 1, to_features.write(b, found[0][0]), sums

            count = tf.shape(features)[0]
            to_features = tf.TensorArray(features.dtype, size=count, element_shape=features.shape[1:])
            _, to_features, sums = tf.while_loop(
                lambda b, *_: b < count, one, (0, to_features, [tf.zeros_like(value) for value in values]),
                parallel_iterations=1,
            )
            return [to_features.stack(), *sums]

        return forward(features, values), gradient

    return run(features, *(tf.convert_to_tensor(variable.value) for variable in variables))


def _not_before(upstream, value):
    """`value`, but not before `upstream` is known: nor does a compiler take it for what it has computed before.

    Control dependencies alone would do where no XLA is. No number changes, unless `upstream` holds a NaN.
    """
    is_broken = tf.reduce_any(tf.math.is_nan(tf.reshape(upstream, [-1])[:1]))
    if value.dtype.is_floating:
        return tf.where(is_broken, tf.constant(float("nan"), value.dtype), value)
    return value + tf.cast(is_broken, value.dtype)
