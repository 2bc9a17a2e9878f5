"""One training step: the gradients of all replicas and micro-batches, and then everything that changes the weights."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_rnnt_kd.speech.draws import GENERATOR, key_of
from tf_rnnt_kd.training.batching import DRAW, distribute, num_utterances, numeric
from tf_rnnt_kd.training.optimizer import global_norm
from tf_rnnt_kd.training.precision import LossScale
from tf_rnnt_kd.training.strategy import jit_compiles, replicas_of
from tf_rnnt_kd.training.updates import one_copy


class TrainStep:
    """`train_step(batches, step) -> {name: scalar}`: one update from one or several micro-batches.

    The loss of a step is the mean over all utterances of all its micro-batches on all replicas, and so are the terms
    and gradients: 2N utterances on one replica, N on each of two, or two micro-batches of N make the same step. The
    replicas' gradients are summed once a step.

    Compiled by XLA a graph is traced once per shape of the batches and device, otherwise once for all on one device
    and once per shape on several. The weights change in this order: optimizer, `after_update`, average.

    Args:
      forward: (batch, step) -> {name: [B]} with `loss`, for the rows of one replica. A batch may hold DRAW.
      variables: Keras variables that the loss trains; `optimizer` was built for them.
      optimizer: a training.optimizer.Optimizer. average: a WeightAverage, or None.
      after_update: functions of the step, called after each update.
      noise: a VariationalNoise, or None.
      seeds: variables [2] that hold the state of dropout, by their paths; replicas would otherwise drop the same.
      config: the whole config. batch_spec: the element_spec of the batches.
      strategy: made within whose scope all variables were; None for one device.
      loss_scale: a LossScale, whose factor the gradients are free of before anything else sees them.
    """

    def __init__(
        self, forward: Callable, *, variables: Sequence, optimizer, config, batch_spec, average=None, after_update=(),
        noise=None, seeds: Mapping[str, tf.Variable] | None = None, strategy=None, loss_scale=None,
    ):
        if config.train.accumulate_steps < 1:
            raise ValueError(f"train.accumulate_steps must be at least 1, not {config.train.accumulate_steps}")
        self._forward, self._variables, self._optimizer = forward, variables, optimizer
        self._average, self._after_update, self._noise = average, after_update, noise
        self._loss_scale = loss_scale or LossScale("float32")
        self._seed, self._strategy = config.seed, strategy
        self._micro_batches = config.train.accumulate_steps
        # With one replica all draws follow from the states of the layers; a checkpoint keeps one copy of these.
        self._seeds = seeds if seeds and strategy is not None and strategy.num_replicas_in_sync > 1 else {}
        # A mirrored strategy lets nothing conditional change its variables from within a replica; XLA cannot compile
        # its sums. On a TPU all of a step must be one program.
        self._is_one_program = strategy is None or isinstance(strategy, tf.distribute.TPUStrategy)
        compiles = jit_compiles(config.train.jit_compile) and not isinstance(strategy, tf.distribute.TPUStrategy)
        # Without AutoGraph, which would rewrite every function below for nothing, a graph is traced in half the time.
        plain: dict[str, Any] = {"autograph": False}
        xla = {**plain, "jit_compile": True}
        self._gradients = tf.function(self._one_replica, **xla) if compiles else self._one_replica
        whole = xla if compiles and strategy is None else dict(plain)
        if strategy is None and not compiles:
            spec = numeric(batch_spec) | ({DRAW: tf.TensorSpec([], tf.int32)} if self._micro_batches > 1 else {})
            whole["input_signature"] = [spec, tf.TensorSpec([], tf.int32)]
        if self._micro_batches == 1:
            self.compiled = tf.function(self._step, **whole)
            return
        with strategy.scope() if strategy is not None else contextlib.nullcontext():
            # Each replica adds up its own; the sum over replicas is taken once.
            self._sums = [
                tf.Variable(
                    tf.zeros(variable.shape), trainable=False, synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM, name="gradient_sum",
                )
                for variable in variables
            ]
        self.compiled = tf.function(self._add, **whole)
        self._finish_compiled = tf.function(self._finish, **(xla if compiles and strategy is None else plain))

    def __call__(self, batches, step):
        """Takes a step.

        Args:
          batches: `train.accumulate_steps` batches as the reader gives them, for all replicas of this process.
          step: int32 scalar, steps before this one.

        Returns:
          Scalars: the mean of every loss term, `loss` (the weighted sum), `gradient_norm` before clipping,
          `learning_rate`, with float16 `loss_scale`, and `finite`: false where the step was not applied because the
          loss or a gradient was not finite. Where only a loss scale above 1 was too large, the step is left out and
          the scale halved, but `finite` is true.
        """
        if len(batches) != self._micro_batches:
            raise ValueError(f"{len(batches)} batches for a step of {self._micro_batches}")
        if len(batches) == 1:
            return self.compiled(distribute(batches[0], self._strategy), step)
        counts = [num_utterances(batch) for batch in batches]
        terms = [
            self.compiled(distribute(batch, self._strategy, micro_batch=index), step)
            for index, batch in enumerate(batches)
        ]
        shares = [count / sum(counts) for count in counts]
        means = {
            name: tf.add_n([share * term[name] for share, term in zip(shares, terms, strict=True)])
            for name in terms[0]
        }
        # The sums weigh each gradient with the utterances per replica.
        per_replica = sum(counts) / len(replicas_of(self._strategy))
        return self._finish_compiled(means, tf.constant(per_replica, tf.float32), step)

    # What follows is traced in the cross-replica context, or that of the only replica.

    def _step(self, batch, step):
        return self._apply(lambda *own: self._mean_over_replicas(*self._gradients(*own)), (batch, step), step=step)

    def _add(self, batch, step):
        def add(batch, step):
            gradients, terms = self._gradients(batch, step)
            self._is_trained = [gradient is not None for gradient in gradients]  # the same in every trace
            rows = tf.cast(tf.shape(batch["num_frames"])[0], tf.float32)
            for total, gradient in zip(self._sums, gradients, strict=True):
                if gradient is not None:
                    total.assign_add(rows * tf.cast(gradient, tf.float32))
            return self._mean_over_replicas([], terms)[1]

        return self._local(self._run(add, batch, step))

    def _finish(self, terms, count, step):
        def take(terms, count):
            gradients = [tf.convert_to_tensor(total) / count for total in self._sums]
            with tf.control_dependencies(gradients):
                for total in self._sums:
                    total.assign(tf.zeros(total.shape))
            gradients = [gradient if own else None for gradient, own in zip(gradients, self._is_trained, strict=True)]
            return self._mean_over_replicas(gradients, {})[0], terms

        return self._apply(take, (terms, count), step=step)

    def _apply(self, gradients_of, arguments, *, step):
        """The end of a step; `gradients_of(*arguments)` gives (gradients, terms) in the replica context."""
        if not self._is_one_program:
            with self._strategy.scope():
                return self._update(*self._run(gradients_of, *arguments), step)
        return self._local(self._run(lambda *own: self._update(*gradients_of(*own), step), *arguments))

    def _update(self, gradients, terms, step):
        if self._is_one_program:
            norm = global_norm(gradients)
        else:
            terms = self._local(terms)
            norm = global_norm([one_copy(self._strategy, value) for value in gradients if value is not None])
        terms = {**terms, "gradient_norm": norm, "learning_rate": tf.cast(self._optimizer.learning_rate, tf.float32)}
        is_loss_finite, is_norm_finite = tf.math.is_finite(terms["loss"]), tf.math.is_finite(norm)
        if self._loss_scale.is_on:
            terms["loss_scale"] = self._loss_scale.value
            terms["finite"] = is_loss_finite & (is_norm_finite | (terms["loss_scale"] > 1.0))
            self._loss_scale.update(is_norm_finite)
        else:
            terms["finite"] = is_loss_finite & is_norm_finite

        def apply():
            self._optimizer.apply(gradients, self._variables)
            for function in self._after_update:
                function(step)
            if self._average is not None:
                self._average.update(self._optimizer.iterations - 1)
            return tf.constant(True)

        tf.cond(is_loss_finite & is_norm_finite, apply, lambda: tf.constant(False))
        return terms

    # What follows is traced in the context of a replica.

    def _one_replica(self, batch, step):
        """Gradients of the mean loss of one replica's rows, and the means of the terms."""
        self._reseed(batch.get(DRAW), step)
        scale = self._loss_scale.value
        with tf.GradientTape() as tape:
            with self._noise.applied(step) if self._noise is not None else contextlib.nullcontext():
                terms = {name: tf.reduce_mean(values) for name, values in self._forward(batch, step).items()}
            loss = terms["loss"] * scale if self._loss_scale.is_on else terms["loss"]
        gradients = tape.gradient(loss, [variable.value for variable in self._variables])
        if self._loss_scale.is_on:
            gradients = [gradient if gradient is None else gradient / scale for gradient in gradients]
        return gradients, terms

    def _reseed(self, draw, step):
        """Dropout's states from the seed, the step and the replica alone: a checkpoint holds those of one replica."""
        for path, state in self._seeds.items():
            seed = tf.random.fold_in(tf.stack([key_of(self._seed, path), step]), draw, alg=GENERATOR)
            state.assign(tf.cast(seed, state.dtype))

    def _mean_over_replicas(self, gradients, terms):
        if self._strategy is None:
            return gradients, terms
        present = [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
        scalars = [tf.stack(list(terms.values()))] if terms else []
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(tf.distribute.ReduceOp.MEAN, present + scalars)
        rest = iter(means)
        gradients = [None if gradient is None else next(rest) for gradient in gradients]
        return gradients, dict(zip(terms, tf.unstack(next(rest)), strict=True)) if terms else {}

    # What follows is the same in any context.

    def _run(self, function, *arguments):
        return function(*arguments) if self._strategy is None else self._strategy.run(function, args=arguments)

    def _local(self, terms):
        """Scalars that are equal on all replicas, of one of them."""
        if self._strategy is None:
            return terms
        return {name: one_copy(self._strategy, value) for name, value in terms.items()}


def random_states(model):
    """{path: variable} of the states that a model's dropout layers draw from."""
    return {
        variable.path: variable.value for variable in model.variables if variable.path.endswith("seed_generator_state")
    }
