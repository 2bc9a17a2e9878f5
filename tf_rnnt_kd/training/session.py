"""What a training consists of while it runs, and all of it that a checkpoint must hold."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.records import reader
from tf_rnnt_kd.training.optimizer import WeightAverage, build_optimizer
from tf_rnnt_kd.training.step import make_train_step
from tf_rnnt_kd.training.teacher_inputs import ON_THE_TIME_AXIS, choose_artifacts

_STATISTICS_UTTERANCES = 500


class Session:
    """Model, averaged model, optimizer, data iterator and counters of one training.

    Attributes:
      model: the Transducer that is trained. average_model: its averaged weights, which are evaluated and kept.
      inventory: what the training records hold. buckets: the shapes of the batches.
      hop_seconds: seconds per feature frame.
      step: steps taken. skipped_steps: those of them that were not finite.
      best_wer: best dev WER so far, infinite before the first evaluation. best_step: its step.
    """

    def __init__(self, config, *, sources: Sequence[reader.Source], tokenizer, frontend):
        """Raises ValueError where the records do not fit the model."""
        self._sources, self._tokenizer, self._frontend = sources, tokenizer, frontend
        self.hop_seconds = frontend.hop / frontend.sample_rate

        def build():
            return build_transducer(
                config.model.to_dict(), vocab_size=tokenizer.vocab_size, num_features=frontend.num_mel_bins
            )

        averaging = bool(config.optimizer.ema_decay)
        self.model = build()
        self.average_model = build() if averaging else self.model
        objective = Objective(config.losses)
        artifacts = choose_artifacts(objective.needs, stored=reader.stored_artifacts(sources))
        subsampling = self.model.subsampling
        reader.check_teacher(
            sources, tokenizer_hash=tokenizer.hash, node_level=bool(ON_THE_TIME_AXIS & set(artifacts)),
            frame_seconds=self.hop_seconds * subsampling,
        )
        self.inventory = reader.take_inventory(
            sources, tokenizer=tokenizer, frontend=frontend, subsampling=subsampling, artifacts=artifacts
        )
        stretch = max([1.0 / factor for factor in config.augment.speed_factors], default=1.0)
        self.buckets = reader.plan_buckets(
            self.inventory, num_buckets=config.data.num_buckets, frames_per_batch=config.data.frames_per_batch,
            multiple=subsampling * 4, stretch=stretch,
        )
        batches = reader.training_batches(
            sources, tokenizer=tokenizer, frontend=frontend, subsampling=subsampling, buckets=self.buckets,
            seed=config.seed, shuffle_buffer=config.data.shuffle_buffer,
            speed_factors=config.augment.speed_factors, artifacts=artifacts,
        )
        self._iterator = iter(batches)
        optimizer = build_optimizer(config.optimizer, steps=config.train.steps)
        optimizer.build(self.model.trainable_variables)
        self._average = WeightAverage(
            self.model, average_model=self.average_model, decay=config.optimizer.ema_decay
        )
        self._train_step = make_train_step(
            self.model, objective=objective, optimizer=optimizer, average=self._average, config=config,
            batch_spec=batches.element_spec,
            teacher_joint=reader.teacher_joint(sources) if "factored" in artifacts else None,
        )
        self._integers = tf.Variable(tf.zeros([3], tf.int64), trainable=False)  # step, skipped_steps, best_step
        self._best_wer = tf.Variable(np.inf, dtype=tf.float64, trainable=False)
        held = [*self.model.variables, *(self.average_model.variables if averaging else []), *optimizer.variables]
        self._checkpoint = tf.train.Checkpoint(
            # `variables` holds the dropout layers' seeds too; Keras's own object graph as tf.train sees it does not.
            variables=[variable.value for variable in held],
            counters=[self._integers, self._best_wer],
            iterator=self._iterator,
        )

    @property
    def step(self) -> int:
        return int(self._integers[0])

    @property
    def skipped_steps(self) -> int:
        return int(self._integers[1])

    @property
    def best_step(self) -> int:
        return int(self._integers[2])

    @property
    def best_wer(self) -> float:
        return float(self._best_wer)

    def manager(self, directory: str, *, keep: int) -> tf.train.CheckpointManager:
        """A manager of this session's checkpoints."""
        return tf.train.CheckpointManager(self._checkpoint, directory, max_to_keep=keep)

    def restore(self, path: str) -> None:
        """Goes back to a checkpoint; every value must be in it."""
        self._checkpoint.restore(path).assert_consumed()

    def start(self) -> None:
        """What is done once, before the first step: measures the features, starts the average."""
        mean, deviation = self._feature_statistics()
        self.model.set_feature_statistics(mean, deviation)
        self._average.start()

    def advance(self):
        """Takes one step on the next batch; returns (batch, {term: scalar}, whether it was finite)."""
        batch, step = next(self._iterator), self.step
        terms = self._train_step(batch, tf.constant(step, tf.int32))
        finite = bool(terms.pop("finite"))
        self._integers.assign_add([1, int(not finite), 0])
        return batch, terms, finite

    def note_best(self, dev_wer: float) -> None:
        """Remembers that the current step has the best dev WER."""
        self._best_wer.assign(dev_wer)
        self._integers.assign([self.step, self.skipped_steps, self.step])

    def _feature_statistics(self):
        """Mean and standard deviation [F] of the features of the first utterances, in the sources' order."""
        total, squares, count, budget = 0.0, 0.0, 0, _STATISTICS_UTTERANCES
        for source in self._sources:
            batches = reader.evaluation_batches(
                source, tokenizer=self._tokenizer, frontend=self._frontend, batch_size=20
            )
            for batch in batches.take(-(-budget // 20)):
                valid = np.arange(batch["features"].shape[1])[None] < batch["num_frames"].numpy()[:, None]
                frames = batch["features"].numpy()[valid].astype(np.float64)
                total, squares, count = total + frames.sum(0), squares + (frames**2).sum(0), count + len(frames)
                budget -= len(valid)
            if budget <= 0:
                break
        mean = total / count
        return mean, np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
