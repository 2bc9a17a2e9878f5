"""The training loop: records in, a folder with the best model by dev WER out."""

import json
import pathlib
import sys
import time
from collections.abc import Sequence

import keras
import tensorflow as tf
from tqdm import tqdm

from tf_rnnt_kd.decoding import GreedySearch
from tf_rnnt_kd.records import reader
from tf_rnnt_kd.records.dataset import DEAD_LETTER_FILE, write_atomically
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import workdir as workdir_lib
from tf_rnnt_kd.training.dev import DevEvaluator
from tf_rnnt_kd.training.session import Session


def train(
    *, config, workdir, train_sources: Sequence[reader.Source], dev_source: reader.Source, tokenizer_dir
) -> dict:
    """Trains a model, or goes on with it where an earlier call stopped.

    Args:
      config: a ConfigDict as `training.config.default_config` gives it.
      workdir: folder for all results (see `training.workdir`).
      train_sources: record splits to train on, mixed. dev_source: a labelled split that chooses the best weights.
      tokenizer_dir: folder of the tokenizer; copied into the workdir.

    Returns:
      The content of `done.json`: steps, best_step, best_dev_wer, hours, rejected, skipped_steps.

    Raises:
      ValueError: the workdir belongs to another training, records do not fit the model, or too many steps had
        non-finite losses.
    """
    workdir = pathlib.Path(workdir)
    tokenizer = Tokenizer.load(tokenizer_dir)
    settings = {
        "config": config.to_dict(),
        "train": [f"{source.directory}:{source.split}" for source in train_sources],
        "dev": f"{dev_source.directory}:{dev_source.split}",
        "tokenizer_hash": tokenizer.hash,
    }
    _claim(workdir, settings)
    done = workdir_lib.read_json(workdir / "done.json")
    if done is not None:
        _say(f"{workdir} is complete: best dev WER {100 * done['best_dev_wer']:.2f} %")
        return done

    # Resuming must give the weights of an uninterrupted run, so nothing may depend on timing.
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    tokenizer.save(workdir / "tokenizer")
    frontend = LogMelFrontend(**config.frontend)
    session = Session(config, sources=train_sources, tokenizer=tokenizer, frontend=frontend)
    inventory = session.inventory
    write_atomically(
        str(workdir / DEAD_LETTER_FILE), content="".join(json.dumps(entry) + "\n" for entry in inventory.rejected)
    )
    batches = ", ".join(f"{b.batch_size} x {b.num_frames} x {b.num_labels}" for b in session.buckets)
    _say(
        f"{len(inventory.num_frames)} utterances, {inventory.hours:.2f} hours, "
        f"refused: {inventory.counts() or 'none'}; {session.model.count_params() / 1e6:.2f} M parameters; "
        f"batches (utterances x feature frames x labels): {batches}"
    )
    manager = session.manager(str(workdir / "checkpoints"), keep=config.train.keep_checkpoints)
    if manager.latest_checkpoint:
        session.restore(manager.latest_checkpoint)
        _say(f"resumed at step {session.step}")
    else:
        session.start()
    dev = DevEvaluator(
        session.average_model,
        batches=reader.evaluation_batches(
            dev_source, tokenizer=tokenizer, frontend=frontend, batch_size=config.train.eval_batch_size
        ),
        tokenizer=tokenizer,
        search=GreedySearch(**config.search),
    )
    _run(session, config=config, workdir=workdir, manager=manager, dev=dev)
    done = {
        "steps": session.step, "best_step": session.best_step, "best_dev_wer": session.best_wer,
        "hours": inventory.hours, "rejected": inventory.counts(), "skipped_steps": session.skipped_steps,
    }
    workdir_lib.write_json(workdir / "done.json", done)
    _say(f"done: dev WER {100 * done['best_dev_wer']:.2f} % at step {done['best_step']}")
    return done


def _run(session, *, config, workdir, manager, dev):
    """Steps, evaluations and checkpoints until `config.train.steps`."""
    settings = config.train
    monitor = _Monitor(workdir, session=session, steps=settings.steps)
    with monitor:
        while session.step < settings.steps:
            batch, terms, finite = session.advance()
            step, last = session.step, session.step == settings.steps
            monitor.count(batch)
            if not finite:
                _report_skipped(batch, session=session, limit=settings.max_skipped_steps)
            if step % settings.log_every == 0 or last:
                monitor.log_terms({name: float(value) for name, value in terms.items()})
            if step % settings.eval_every == 0 or last:
                dev_wer, samples = dev.word_error_rate()
                monitor.log_dev(dev_wer, samples)
                if dev_wer < session.best_wer:
                    workdir_lib.save_best(workdir, model=session.average_model, step=step, dev_wer=dev_wer)
                    session.note_best(dev_wer)
            if step % settings.checkpoint_every == 0 or last:
                manager.save(checkpoint_number=step)


class _Monitor:
    """Progress bar on a terminal, lines elsewhere; train_log.jsonl and TensorBoard in either case."""

    def __init__(self, workdir, *, session, steps):
        self._session, self._steps = session, steps
        self._log = workdir_lib.TrainLog(workdir, resumed_step=session.step)
        self._board = tf.summary.create_file_writer(str(workdir / "tensorboard"))
        self._bar = tqdm(
            total=steps, initial=session.step, desc=workdir.name, unit="step", dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        self._postfix, self._audio_seconds, self._started = {}, 0.0, time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._bar.close()
        self._board.close()

    def count(self, batch):
        """One more step was taken, on this batch."""
        self._audio_seconds += float(tf.reduce_sum(batch["num_frames"])) * self._session.hop_seconds
        self._bar.update()

    def log_terms(self, values):
        step, elapsed = self._session.step, time.monotonic() - self._started
        speed = self._audio_seconds / elapsed
        with self._board.as_default(step):
            for name, value in {**values, "audio_hours_per_hour": speed}.items():
                tf.summary.scalar(name, value)
        self._log.write(step=step, seconds=round(elapsed, 2), **values)
        self._show({"loss": f"{values['loss']:.2f}", "x real time": f"{speed:.0f}"})

    def log_dev(self, dev_wer, samples):
        step = self._session.step
        with self._board.as_default(step):
            tf.summary.scalar("dev_wer", dev_wer)
            tf.summary.text("dev_samples", "\n\n".join(f"{ref} | {hyp}" for ref, hyp in samples))
        self._log.write(step=step, dev_wer=dev_wer)
        self._show({"dev WER": f"{100 * dev_wer:.1f}%"})

    def _show(self, values):
        self._postfix.update(values)
        self._bar.set_postfix(self._postfix)
        if self._bar.disable:
            _say(f"step {self._session.step} of {self._steps}: " + ", ".join(f"{k} {v}" for k, v in values.items()))


def _claim(workdir, settings):
    """Writes config.json, or compares it with the one that is there."""
    workdir.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(settings))
    earlier = workdir_lib.read_json(workdir / "config.json")
    if earlier is None:
        workdir_lib.write_json(workdir / "config.json", settings)
    elif earlier != settings:
        old, new = _flat(earlier), _flat(settings)
        changed = [f"{k}: {old.get(k)!r} -> {new.get(k)!r}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
        raise ValueError(
            f"{workdir} holds a training with other settings ({'; '.join(changed[:5])}): take another --workdir"
        )


def _flat(tree, prefix=""):
    if isinstance(tree, dict):
        return {k: v for name, sub in tree.items() for k, v in _flat(sub, f"{prefix}.{name}".lstrip(".")).items()}
    return {prefix: tree}


def _report_skipped(batch, *, session, limit):
    names = ", ".join(name.decode() for name in batch["utterance_id"].numpy())
    _say(f"step {session.step} skipped: the loss or its gradient is not finite; utterances: {names}")
    if session.skipped_steps > limit:
        raise ValueError(
            f"{session.skipped_steps} steps were not finite (train.max_skipped_steps={limit}); see the utterances above"
        )


def _say(text):
    tqdm.write(text, file=sys.stderr)
