"""What a training consists of while it runs, and all of it that a checkpoint must hold."""

import contextlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.records import reader
from tf_rnnt_kd.training.batching import global_buckets, merge
from tf_rnnt_kd.training.forward import Forward
from tf_rnnt_kd.training.hidden_layers import build_hidden_layers, stored_widths
from tf_rnnt_kd.training.online_teacher import open_online_teacher
from tf_rnnt_kd.training.optimizer import WeightAverage, build_optimizer
from tf_rnnt_kd.training.precision import LossScale, layers_in
from tf_rnnt_kd.training.sparsity import Sparsity
from tf_rnnt_kd.training.step import TrainStep, random_states
from tf_rnnt_kd.training.strategy import worker_of
from tf_rnnt_kd.training.teacher_inputs import ON_THE_TIME_AXIS, choose_artifacts
from tf_rnnt_kd.training.variational_noise import VariationalNoise
from tf_rnnt_kd.training.warm_start import WarmStart, warm_start

_STATISTICS_UTTERANCES = 500


class Session:
    """Model, averaged model, optimizer, data iterator and counters of one training.

    Attributes:
      model: the Transducer that is trained. average_model: its averaged weights, which are evaluated and kept; float32
        whatever the precision of the training.
      inventory: what the training records hold. buckets: the shapes of one replica's batches.
      num_replicas: replicas of the model that share each step.
      worker, num_workers: number of this process, and how many there are; number 0 writes the results.
      checkpoint: a tf.train.Checkpoint of this worker's whole state. Between workers only the iterators differ.
      forward: the Forward that is trained. batch_spec: the element_spec of the batches.
      sparsity: the Sparsity of the weights, which may be off.
      hop_seconds: seconds per feature frame.
      step: steps taken. skipped_steps: those of them that were not finite.
      best_wer: best dev WER so far, infinite before the first evaluation. best_step: its step.
    """

    def __init__(self, config, *, sources: Sequence[reader.Source], tokenizer, frontend, strategy=None):
        """Raises ValueError where the records do not fit the model.

        Args:
          strategy: a tf.distribute.Strategy as `build_strategy` gives it, None for one device.
        """
        self._config = config
        sources = reader.mixture(sources, config.data.mixture)
        self._sources, self._tokenizer, self._frontend = sources, tokenizer, frontend
        self._strategy = strategy
        self.num_replicas = 1 if strategy is None else strategy.num_replicas_in_sync
        self.worker, self.num_workers = worker_of(strategy)
        self.hop_seconds = frontend.hop / frontend.sample_rate
        averaging = bool(config.optimizer.ema_decay)
        with self._scope():
            with layers_in(config.train.precision):
                self.model = self._build_model()
            with layers_in("float32"):
                self.average_model = self._build_model() if averaging else self.model
        objective = Objective(config.losses)
        subsampling, num_hypotheses = self.model.subsampling, config.distillation.num_hypotheses
        with self._scope():
            teacher = open_online_teacher(
                config.distillation, needs=objective.needs, tokenizer_hash=tokenizer.hash,
                sample_rate=frontend.sample_rate, frame_seconds=self.hop_seconds * subsampling,
            )
        artifacts = []
        if teacher is None:
            artifacts = choose_artifacts(objective.needs, stored=reader.stored_artifacts(sources))
        reader.check_teacher(
            sources, tokenizer_hash=tokenizer.hash, node_level=bool(ON_THE_TIME_AXIS & set(artifacts)),
            frame_seconds=self.hop_seconds * subsampling,
        )
        self.inventory = reader.take_inventory(
            sources, tokenizer=tokenizer, frontend=frontend, subsampling=subsampling, artifacts=artifacts,
            num_hypotheses=num_hypotheses,
        )
        self.buckets = reader.plan_buckets(
            self.inventory, num_buckets=config.data.num_buckets, frames_per_batch=config.data.frames_per_batch,
            multiple=subsampling * 4, speed_factors=config.augment.speed_factors,
            max_padding=config.data.max_padding,
        )
        batches = reader.training_batches(
            sources, tokenizer=tokenizer, frontend=frontend, subsampling=subsampling,
            buckets=global_buckets(self.buckets, self.num_replicas), seed=config.seed,
            shuffle_buffer=config.data.shuffle_buffer, speed_factors=config.augment.speed_factors,
            artifacts=artifacts, num_hypotheses=num_hypotheses, waveforms=teacher is not None,
            num_parts=self.num_workers, part=self.worker,
            noise=reader.open_noise(
                config.augment.noise, probability=config.augment.noise_probability,
                snr_db=config.augment.noise_snr_db,
            ),
        )
        self._iterator = iter(batches)
        stored = stored_widths(batches.element_spec)
        with self._scope():
            hidden = build_hidden_layers(
                objective, model=self.model, teacher_widths=stored if teacher is None else teacher.layer_widths
            )
        forward = Forward(
            self.model, config, objective, reader.teacher_joint(sources) if "factored" in artifacts else None,
            teacher, hidden,
        )
        self.forward, self.batch_spec = forward, batches.element_spec
        variables = forward.trainable_variables
        with self._scope():
            optimizer = build_optimizer(config.optimizer, steps=config.train.steps)
            optimizer.build(variables)
            self.sparsity = Sparsity(
                config.sparsity, self.model.trainable_variables, steps=config.train.steps,
                averages=[self.average_model.trainable_variables] if averaging else [],
            )
            loss_scale = LossScale(config.train.precision)
        self._average = WeightAverage(
            self.model, average_model=self.average_model, decay=config.optimizer.ema_decay
        )
        self._train_step = TrainStep(
            forward, variables=variables, optimizer=optimizer, average=self._average if averaging else None,
            after_update=[self.sparsity.after_update],
            noise=VariationalNoise(config.variational_noise, model=self.model, seed=config.seed),
            seeds=random_states(self.model), config=config, batch_spec=batches.element_spec, strategy=strategy,
            loss_scale=loss_scale,
        )
        self._integers = tf.Variable(tf.zeros([3], tf.int64), trainable=False)  # step, skipped_steps, best_step
        self._best_wer = tf.Variable(np.inf, dtype=tf.float64, trainable=False)
        of_model = {id(variable) for variable in self.model.variables}
        held = [
            *self.model.variables, *(self.average_model.variables if averaging else []),
            *(variable for variable in variables if id(variable) not in of_model), *optimizer.variables,
            *self.sparsity.variables,
        ]
        self.checkpoint = tf.train.Checkpoint(
            # `variables` holds the dropout layers' seeds too; Keras's own object graph as tf.train sees it does not.
            variables=[variable.value for variable in held],
            counters=[self._integers, self._best_wer, *loss_scale.variables],
            iterator=self._iterator,
        )

    def _scope(self):
        return contextlib.nullcontext() if self._strategy is None else self._strategy.scope()

    def _build_model(self):
        return build_transducer(
            self._config.model.to_dict(), vocab_size=self._tokenizer.vocab_size,
            num_features=self._frontend.num_mel_bins,
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

    def restore(self, path: str) -> None:
        """Goes back to what `checkpoint.write` has written; every value must be in it.

        Raises:
          ValueError: another worker went back to another step.
        """
        self.checkpoint.read(path).assert_consumed()
        self._check_workers()

    def start(self) -> WarmStart | None:
        """What is done once, before the first step: measures the features, takes over weights, starts the average.

        Returns:
          What came of `train.warm_start`, None where it is not set.

        Raises:
          ValueError: another worker is at another step, or the warm start has nothing to give.
        """
        self._check_workers()
        mean, deviation = self._feature_statistics()
        self.model.set_feature_statistics(mean, deviation)
        settings, taken = self._config.train, None
        if settings.warm_start:
            taken = warm_start(self.model, settings.warm_start, only=settings.warm_start_only)
        self._average.start()
        return taken

    def advance(self):
        """Takes one step on the next `train.accumulate_steps` batches.

        Returns:
          (the batches of this worker as one; {term: scalar}; whether the step was finite)
        """
        batches, step = [next(self._iterator) for _ in range(self._config.train.accumulate_steps)], self.step
        terms = self._train_step(batches, tf.constant(step, tf.int32))
        finite = bool(terms.pop("finite"))
        self._integers.assign_add([1, int(not finite), 0])
        return merge(batches), terms, finite

    def note_best(self, dev_wer: float) -> None:
        """Remembers that the current step has the best dev WER."""
        self._best_wer.assign(dev_wer)
        self._integers.assign([self.step, self.skipped_steps, self.step])

    def _check_workers(self):
        if not isinstance(self._strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return
        own = self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant([self.step], tf.int32)
        )
        steps = self._strategy.gather(own, axis=0).numpy().tolist()
        if len(set(steps)) > 1:
            raise ValueError(
                f"the workers' checkpoints are of different steps, {steps}: --workdir must be one folder that all "
                "workers see"
            )

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
