"""A few training steps of a tiny model, in this process or one of several: python tiny_steps.py SETTINGS OUT.npz

The same global batches whatever the strategy, so that what comes out may be compared.
"""

import json
import os
import sys

import numpy as np

BUCKETS = ((32, 4), (40, 2))
"""Feature frames and utterances of the global batches with even and odd numbers."""


def tiny_config(**train):
    from tf_rnnt_kd.training.config import default_config

    config = default_config()
    config.model.encoder.update(width=8, num_layers=1, num_heads=2, kernel_size=3, dropout=0.0)
    config.model.predictor.update(width=4, dropout=0.0)
    config.model.joint_width = 6
    config.augment.update(freq_masks=0, time_masks=0)
    config.train.update(steps=10, jit_compile=False)
    config.train.update(train)
    return config


def batch(index, *, part=0, num_parts=1):
    """Random features and labels: of the global batch of a number, one of some equal parts."""
    import tensorflow as tf

    frames, size = BUCKETS[index % 2]
    rng = np.random.default_rng(index)
    made = {
        "features": rng.normal(size=[size, frames, 3]).astype(np.float32),
        "num_frames": rng.integers(frames - 9, frames + 1, size=size).astype(np.int32),
        "tokens": rng.integers(1, 5, size=[size, 3]).astype(np.int32),
        "num_tokens": rng.integers(0, 4, size=size).astype(np.int32),
        "utterance_id": np.array([f"{index}-{row}" for row in range(size)]),
    }
    rows = size // num_parts
    return {name: tf.constant(value[part * rows : (part + 1) * rows]) for name, value in made.items()}


def spec():
    import tensorflow as tf

    return {name: tf.TensorSpec([None] * len(value.shape), value.dtype) for name, value in batch(0).items()} | {
        "features": tf.TensorSpec([None, None, 3])
    }


class Tiny:
    """Model, optimizer, average, masks and step under a strategy."""

    def __init__(self, config, strategy=None):
        import contextlib

        import keras

        from tf_rnnt_kd.losses import Objective
        from tf_rnnt_kd.models import build_transducer
        from tf_rnnt_kd.training.forward import Forward
        from tf_rnnt_kd.training.optimizer import PARTS, Optimizer, WeightAverage
        from tf_rnnt_kd.training.precision import LossScale, layers_in
        from tf_rnnt_kd.training.sparsity import Sparsity
        from tf_rnnt_kd.training.step import TrainStep, random_states
        from tf_rnnt_kd.training.variational_noise import VariationalNoise

        keras.utils.clear_session()  # the names of dropout's states, which several replicas draw by, begin anew
        keras.utils.set_random_seed(0)
        self.strategy = strategy
        with strategy.scope() if strategy is not None else contextlib.nullcontext():
            with layers_in(config.train.precision):
                self.model = build_transducer(config.model.to_dict(), vocab_size=5, num_features=3)
            with layers_in("float32"):
                self.averaged = build_transducer(config.model.to_dict(), vocab_size=5, num_features=3)
            # Linear in the gradient: Adam would make large what rounding leaves of gradients that are truly zero.
            rate = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=10)
            self.optimizer = Optimizer(
                keras.optimizers.SGD(rate, momentum=0.9, name="sgd"), schedules=dict.fromkeys((None, *PARTS), rate),
                clip_norm=2.0, weight_decay=0.01,
            )
            self.optimizer.build(self.model.trainable_variables)
            self.sparsity = Sparsity(
                config.sparsity, self.model.trainable_variables, averages=[self.averaged.trainable_variables],
                steps=10,
            )
            self.loss_scale = LossScale(config.train.precision, initial=4.0, growth_steps=2)
        average = WeightAverage(self.model, average_model=self.averaged, decay=0.5)
        average.start()
        forward = Forward(self.model, config, Objective(config.losses))
        self.step = TrainStep(
            forward, variables=forward.trainable_variables, optimizer=self.optimizer, average=average,
            after_update=[self.sparsity.after_update],
            noise=VariationalNoise(config.variational_noise, model=self.model, seed=config.seed),
            seeds=random_states(self.model), config=config, batch_spec=spec(), strategy=strategy,
            loss_scale=self.loss_scale,
        )

    def arrays(self):
        """All weights and the optimizer's state, by name; every replica of this process must have the same.

        The states that dropout draws from are their own for each replica: `draws/<path>` [replicas, 2].
        """
        from tf_rnnt_kd.training.step import random_states

        found = {}
        for kind, variables in (
            ("model", self.model.weights), ("average", self.averaged.weights), ("optimizer", self.optimizer.variables),
        ):
            for variable in variables:
                copies = [variable.numpy()]
                if self.strategy is not None:
                    copies = [copy.numpy() for copy in self.strategy.experimental_local_results(variable.value)]
                for copy in copies[1:]:
                    np.testing.assert_array_equal(copy, copies[0], err_msg=f"replicas differ in {variable.path}")
                found[f"{kind}/{variable.path}"] = copies[0]
        for path, state in random_states(self.model).items():
            copies = self.strategy.experimental_local_results(state) if self.strategy is not None else [state]
            found[f"draws/{path}"] = np.stack([copy.numpy() for copy in copies])
        return found


def run(*, numbers, strategy=None, train=None, overrides=None):
    """Arrays after some steps, and each step's terms as `terms/<step>/<name>`.

    Args:
      numbers: for each step, those of its batches. train, overrides: other settings of `train`, and of any section.
    """
    import tensorflow as tf

    from tf_rnnt_kd.training.strategy import worker_of

    worker, num_workers = worker_of(strategy)
    config = tiny_config(**(train or {}))
    config.update_from_flattened_dict(overrides or {})
    tiny, found = Tiny(config, strategy), {}
    for step, of_step in enumerate(numbers):
        batches = [batch(number, part=worker, num_parts=num_workers) for number in of_step]
        terms = tiny.step(batches, tf.constant(step))
        found.update({f"terms/{step}/{name}": value.numpy() for name, value in terms.items()})
    return {**tiny.arrays(), **found}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tf_rnnt_kd.training.strategy import build_strategy

    settings = json.loads(sys.argv[1])
    chosen = build_strategy(settings.pop("strategy"), virtual_cpus=settings.pop("virtual_cpus", 0))
    results = {case: run(strategy=chosen, **changes) for case, changes in settings["cases"].items()}
    flat = {f"{case}:{name}": value for case, found in results.items() for name, value in found.items()}
    np.savez(sys.argv[2], **flat)
