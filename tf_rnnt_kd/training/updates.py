"""Changing variables within a step, with or without a distribution strategy."""

import keras
import tensorflow as tf


def across_replicas(function, *values):
    """Calls function(strategy, *values) once for all replicas, in the cross-replica context.

    In a replica context (inside `strategy.run`) this is a `merge_call`: it must not stand within a tf.cond or a
    nested tf.function there. Within `function` both are allowed. In the cross-replica context (within
    `strategy.scope()`, outside of `strategy.run`), and without a strategy, the function is simply called.

    Args:
      values: tensors or structures of tensors that are equal on all replicas; the function gets one copy per device,
        which `strategy.extended.update` takes apart again.
    """
    if tf.distribute.in_cross_replica_context():
        return function(tf.distribute.get_strategy(), *values)
    return tf.distribute.get_replica_context().merge_call(function, args=values)


def update_each(strategy, function, variables, *values):
    """Calls function(variable, *its values) for every variable, on each device that holds a copy of it.

    Args:
      strategy: as `across_replicas` gives it. function: changes the tf.Variable that it is given.
      variables: Keras or TensorFlow variables. values: as many lists of tensors or variables as function has further
        arguments, each as long as `variables`.
    """
    for variable, *own in zip(variables, *values, strict=True):
        arguments = tuple(raw_variable(value) for value in own)
        strategy.extended.update(raw_variable(variable), function, args=arguments, group=False)


def one_copy(strategy, value):
    """The first of the equal copies that a value has in the cross-replica context."""
    return strategy.experimental_local_results(value)[0]


def raw_variable(variable):
    """The tf.Variable of a Keras variable; anything else as it is."""
    return variable.value if isinstance(variable, keras.Variable) else variable
