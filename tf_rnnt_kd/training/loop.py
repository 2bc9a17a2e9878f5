"""Steps, and what is done between them: logs, pictures, evaluations, checkpoints, and stopping when asked."""

import tensorflow as tf

from tf_rnnt_kd.training import workdir as workdir_lib
from tf_rnnt_kd.training.batching import numeric
from tf_rnnt_kd.training.faults import Interrupted
from tf_rnnt_kd.training.monitor import say
from tf_rnnt_kd.training.objective_gradients import ObjectiveGradients
from tf_rnnt_kd.training.pictures import Pictures
from tf_rnnt_kd.training.preemption import agreement


class Loop:
    """From where the session stands to `config.train.steps`.

    Args:
      session: started or restored. checkpoints: a Checkpoints. dev: a DevEvaluator. monitor: a Monitor.
      preemption: a Preemption, deferred while the loop runs.
      strategy: that of the session. pieces: the tokenizer's, for pictures.
    """

    def __init__(self, session, *, config, workdir, checkpoints, dev, monitor, preemption, strategy, pieces):
        self._session, self._settings, self._workdir = session, config.train, workdir
        self._checkpoints, self._dev, self._monitor = checkpoints, dev, monitor
        self._preemption, self._is_stopped_anywhere = preemption, agreement(strategy)
        self._gradients = ObjectiveGradients(
            session.forward, variables=session.forward.trainable_variables, batch_spec=session.batch_spec,
            strategy=strategy, accumulate_steps=config.train.accumulate_steps,
        )
        self._pictures = Pictures(session, pieces=pieces)

    def run(self, *, evaluation_pending: bool) -> None:
        """
        Args:
          evaluation_pending: a signal cut short the evaluation of the step that the session stands at.

        Raises:
          Interrupted: after a signal; everything is saved.
          StorageError: a checkpoint could not be written.
          ValueError: too many steps were not finite.
        """
        settings, session = self._settings, self._session
        pending = evaluation_pending and not self._evaluate()
        # Asked in any case: evaluations may be pending in some workers only.
        self._stop_if_asked(evaluation_pending=pending, is_saved=not evaluation_pending)
        while session.step < settings.steps:
            batch, terms, finite = session.advance()
            step, last = session.step, session.step == settings.steps
            self._monitor.count(batch)
            if not finite:
                self._report_skipped(batch)
            self._log(batch, terms, last=last)
            is_due = _is_due(step, settings.eval_every) or last
            pending = is_due and not self._evaluate()
            is_saved = _is_due(step, settings.checkpoint_every) or last
            if is_saved:
                self._checkpoints.save(step, evaluation_pending=pending)
            self._stop_if_asked(evaluation_pending=pending, is_saved=is_saved)

    def _stop_if_asked(self, *, evaluation_pending, is_saved):
        if not self._is_stopped_anywhere(self._preemption.requested is not None):
            return
        step = self._session.step
        if step == self._settings.steps and not evaluation_pending:
            return  # there is nothing left to do
        if not is_saved:
            self._checkpoints.save(step, evaluation_pending=evaluation_pending)
        raise Interrupted(
            f"{self._preemption.requested or 'another worker'} stopped it at step {step} of {self._settings.steps}, "
            "which is saved: the same command goes on"
        )

    def _evaluate(self):
        """Whether it was done, and not cut short."""
        session = self._session
        result = self._dev.word_error_rate(is_stopped=lambda: self._preemption.requested is not None)
        if result is None:
            return False
        dev_wer, samples = result
        self._monitor.log_dev(dev_wer, samples)
        # Before that, weights are not yet as sparse as they are to be exported.
        if session.sparsity.is_reached and dev_wer < session.best_wer:
            if session.worker == 0:
                workdir_lib.save_best(
                    self._workdir, model=session.average_model, step=session.step, dev_wer=dev_wer
                )
            session.note_best(dev_wer)
        return True

    def _log(self, batch, terms, *, last):
        step, settings = self._session.step, self._settings
        values = {}
        if _is_due(step, settings.log_gradients_every):
            norms = self._gradients(batch, tf.constant(step - 1, tf.int32))
            values = {f"gradient_norm/{name}": float(norm) for name, norm in norms.items()}
        if values or _is_due(step, settings.log_every) or last:
            if self._session.sparsity.is_on:
                terms = {**terms, "sparsity": self._session.sparsity.share()}
            self._monitor.log_terms({**{name: float(value) for name, value in terms.items()}, **values})
        if _is_due(step, settings.pictures_every) and self._session.worker == 0:
            self._monitor.log_pictures(self._pictures.draw(batch, step=step - 1))

    def _report_skipped(self, batch):
        session, limit = self._session, self._settings.max_skipped_steps
        names = [name.decode() for name in batch["utterance_id"].numpy()]
        # As they are without augmentation: enough to tell bad data from bad luck.
        losses = session.forward(numeric(batch), tf.constant(session.step - 1, tf.int32), training=False)["loss"]
        bad = [name for name, fine in zip(names, tf.math.is_finite(losses).numpy(), strict=True) if not fine]
        of_them = f"; not finite by themselves: {', '.join(bad)}" if bad else "; by itself each has a finite loss"
        say(
            f"step {session.step} skipped, {session.skipped_steps} so far: the loss or its gradient is not finite; "
            f"utterances: {', '.join(names)}{of_them}"
        )
        self._monitor.log_skipped(bad or names)
        if session.skipped_steps > limit:
            raise ValueError(
                f"{session.skipped_steps} steps were not finite (train.max_skipped_steps={limit}), see the utterances "
                "above and in train_log.jsonl: leave them out, or take another --workdir and a lower "
                "optimizer.peak_learning_rate"
            )


def _is_due(step, every):
    return bool(every) and step % every == 0
