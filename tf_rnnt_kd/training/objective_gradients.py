"""How strongly each term of the objective pulls at the weights: the norms of their gradients, apart from the step."""

import keras
import tensorflow as tf

from tf_rnnt_kd.training.batching import distribute, num_utterances, numeric
from tf_rnnt_kd.training.strategy import replicas_of
from tf_rnnt_kd.training.updates import one_copy


class ObjectiveGradients:
    """`norms(batch, step) -> {term: scalar}`: the norm of what each term adds to the gradient of the loss.

    With the term's weight at this step, its adaptive weights, and the mean over the utterances of all replicas, so that
    the norms of terms compare, and that of the only term is the step's `gradient_norm` before clipping. Masks, dropout
    and all are those of a step, but nothing that a step would change changes: how often it is called leaves the
    training as it is.

    It costs the forward part of a step once and the backward part once per term. It is traced once on one device and
    once per shape of the batches on several.

    Args:
      forward: a Forward. variables: Keras variables that it trains. batch_spec: the element_spec of the batches.
      strategy: that of the training, None for one device.
      accumulate_steps: of the training: from the batches of such a step as one, as many utterances are measured as one
        of them has, the first, since more would need more memory than a step does.
    """

    def __init__(self, forward, *, variables, batch_spec, strategy=None, accumulate_steps=1):
        self._forward, self._variables, self._strategy = forward, list(variables), strategy
        self._accumulate_steps = accumulate_steps
        signature = None if strategy is not None else [numeric(batch_spec), tf.TensorSpec([], tf.int32)]
        self.compiled = tf.function(self._norms, input_signature=signature, autograph=False)

    def __call__(self, batch, step):
        """
        Args:
          batch: as Session.advance gives it. step: int32 scalar, training steps done.

        Returns:
          {term: float32 scalar}; terms that are 0 for ever are left out.
        """
        if self._accumulate_steps > 1:
            replicas = len(replicas_of(self._strategy))
            rows = max(1, num_utterances(batch) // self._accumulate_steps // replicas) * replicas
            batch = {name: values[:rows] for name, values in batch.items()}
        return self.compiled(distribute(batch, self._strategy), step)

    def _norms(self, batch, step):
        if self._strategy is None:
            return self._one_replica(batch, step)
        norms = self._strategy.run(self._one_replica, args=(batch, step))
        return {name: one_copy(self._strategy, norm) for name, norm in norms.items()}

    def _one_replica(self, batch, step):
        objective = self._forward.objective
        weights = objective.weights_at(step)
        live = [name for name, term in objective.terms.items() if term.weight.is_ever_nonzero]
        # What layers would change (dropout's states, running statistics) stays in the scope and is dropped with it.
        with tf.GradientTape(persistent=True) as tape, keras.StatelessScope():
            inputs = self._forward.loss_inputs(batch, step)
            means = {
                name: tf.reduce_mean(objective(inputs, weights={**dict.fromkeys(weights, 0), name: weights[name]})[0])
                for name in live
            }
        trained = [variable.value for variable in self._variables]
        return {name: self._norm(tape.gradient(mean, trained)) for name, mean in means.items()}

    def _norm(self, gradients):
        """The norm of the mean over replicas of these gradients, float32."""
        gradients = [tf.cast(tf.convert_to_tensor(g), tf.float32) for g in gradients if g is not None]
        if self._strategy is not None and gradients:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        return tf.linalg.global_norm(gradients) if gradients else tf.zeros([])
