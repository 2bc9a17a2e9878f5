"""The training loop: records in, a folder with the best model by dev WER out."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import ml_collections
import tensorflow as tf

from tf_rnnt_kd.decoding import GreedySearch
from tf_rnnt_kd.records import reader
from tf_rnnt_kd.records.dataset import DEAD_LETTER_FILE, write_atomically
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import faults, memory, plan
from tf_rnnt_kd.training import workdir as workdir_lib
from tf_rnnt_kd.training.checkpoints import Checkpoints
from tf_rnnt_kd.training.config import without_free_settings
from tf_rnnt_kd.training.dev import DevEvaluator
from tf_rnnt_kd.training.loop import Loop
from tf_rnnt_kd.training.monitor import Monitor, say
from tf_rnnt_kd.training.preemption import Preemption
from tf_rnnt_kd.training.session import Session
from tf_rnnt_kd.training.strategy import worker_of


def train(
    *, config: ml_collections.ConfigDict, workdir: str | os.PathLike, train_sources: Sequence[reader.Source],
    dev_source: reader.Source, tokenizer_dir: str | os.PathLike, strategy: tf.distribute.Strategy | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Trains a model, or goes on with it where an earlier call stopped.

    Args:
      config: a ConfigDict as `training.config.default_config` gives it.
      workdir: folder for all results (see `training.workdir`).
      train_sources: record splits to train on, mixed. dev_source: a labelled split that chooses the best weights.
      tokenizer_dir: folder of the tokenizer; copied into the workdir.
      strategy: a tf.distribute.Strategy as `build_strategy` gives it, None for one device. Each of several workers
        calls this with the same arguments.
      dry_run: only says what it would do: no step is taken and nothing is written.

    Returns:
      The content of `done.json`: steps, best_step, best_dev_wer, hours, rejected, skipped_steps. Nothing of a dry run
      that finds the training unfinished.

    Raises:
      ValueError: the workdir belongs to another training, records do not fit the model, the model not into memory, no
        checkpoint is whole, or too many steps had non-finite losses.
      TrainingFault: it ended early and goes on when called again, see `training.faults`.
    """
    with Preemption() as preemption:
        try:
            return _train(
                config, pathlib.Path(workdir), sources=train_sources, dev_source=dev_source,
                tokenizer=Tokenizer.load(tokenizer_dir), strategy=strategy, preemption=preemption, dry_run=dry_run,
            )
        except (OSError, tf.errors.OpError) as error:
            if faults.is_disk_full(error):
                raise faults.StorageError(
                    f"{workdir} takes no more files ({error}); its last checkpoint is whole. Make room and start the "
                    "same command again"
                ) from error
            if strategy is not None and faults.is_worker_lost(error):
                raise faults.WorkerLost(
                    "another worker is gone: start the same command again on all workers, and the training goes on "
                    f"from its last checkpoint ({str(error).splitlines()[0]})"
                ) from error
            raise


def _train(config, workdir, *, sources, dev_source, tokenizer, strategy, preemption, dry_run):
    chief = worker_of(strategy)[0] == 0
    settings = {
        "config": config.to_dict(),
        "train": [str(source) for source in sources],
        "dev": str(dev_source),
        "tokenizer_hash": tokenizer.hash,
    }
    if strategy is not None:
        settings["replicas"] = strategy.num_replicas_in_sync
    if chief:
        _claim(workdir, settings, write=not dry_run)
    done = workdir_lib.read_json(workdir / "done.json")
    if done is not None:
        say(f"{workdir} is complete: best dev WER {100 * done['best_dev_wer']:.2f} %")
        return done

    # Resuming must give the weights of an uninterrupted run, so nothing may depend on timing.
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    frontend = LogMelFrontend(**config.frontend)
    session = Session(config, sources=sources, tokenizer=tokenizer, frontend=frontend, strategy=strategy)
    if chief:
        _describe(session)
        if not dry_run:
            tokenizer.save(workdir / "tokenizer")
            _write_dead_letter(session, workdir)
    memory.check(session, config=config, sources=sources, report=say if chief else lambda text: None)
    checkpoints = Checkpoints(
        session.checkpoint, workdir / "checkpoints", keep=config.train.keep_checkpoints,
        worker=session.worker, num_workers=session.num_workers,
    )
    if dry_run:
        if chief:
            found, _ = checkpoints.find()
            first_step = found.step if found else 0
            say(plan.describe(session, config=config, sources=sources, dev_source=dev_source, first_step=first_step))
        return {}
    notes = _begin(session, checkpoints=checkpoints, workdir=workdir, is_chief=chief)
    pending = notes.get("evaluation_pending", False)
    evaluation = reader.evaluation_batches(
        dev_source, tokenizer=tokenizer, frontend=frontend, batch_size=config.train.eval_batch_size
    )
    dev = DevEvaluator(
        session.average_model, batches=evaluation, tokenizer=tokenizer, search=GreedySearch(**config.search)
    )
    monitor = Monitor(
        workdir, session=session, steps=config.train.steps, evaluation_pending=pending, is_silent=not chief
    )
    loop = Loop(
        session, config=config, workdir=workdir, checkpoints=checkpoints, dev=dev, monitor=monitor,
        preemption=preemption, strategy=strategy, pieces=tokenizer.pieces,
    )
    with monitor, preemption.deferred():
        loop.run(evaluation_pending=pending)
    if not session.sparsity.is_reached:
        # Only steps that were skipped, the last ones among them, lead here.
        raise ValueError(
            f"the weights are not as sparse as sparsity.target={config.sparsity.target}: {session.skipped_steps} steps "
            f"were skipped, so that there were fewer than sparsity.end={config.sparsity.end} updates; train into a new "
            "--workdir with train.warm_start from this one and an end that leaves room"
        )
    inventory = session.inventory
    done = {
        "steps": session.step, "best_step": session.best_step, "best_dev_wer": session.best_wer,
        "hours": inventory.hours, "rejected": inventory.counts(), "skipped_steps": session.skipped_steps,
    }
    if chief:
        workdir_lib.write_json(workdir / "done.json", done)
        say(f"done: dev WER {100 * done['best_dev_wer']:.2f} % at step {done['best_step']}")
    return done


def _begin(session, *, checkpoints, workdir, is_chief) -> dict:
    """Goes on from the newest whole checkpoint, or does what comes before the first step; returns its notes."""
    found, complaints = checkpoints.find()
    for complaint in complaints:
        say(complaint)
    if found is None:
        taken = session.start()
        if taken is not None and is_chief:
            workdir_lib.write_json(workdir / "warm_start.json", taken._asdict())
            say(taken.summary())
        return {}
    try:
        session.restore(found.path)
    except AssertionError as error:
        raise ValueError(
            f"the checkpoint {found.path} is whole, but not one of this training: {str(error).splitlines()[0]}; it may "
            "come from another version of the code: take another --workdir, and set train.warm_start to this one"
        ) from error
    say(f"resumed at step {session.step}")
    return found.notes


def _write_dead_letter(session, workdir):
    content = "".join(json.dumps(entry) + "\n" for entry in session.inventory.rejected)
    write_atomically(str(workdir / DEAD_LETTER_FILE), content=content)


def _describe(session):
    inventory = session.inventory
    batches = ", ".join(f"{b.batch_size} x {b.num_frames} x {b.num_labels}" for b in session.buckets)
    replicas = f" on each of {session.num_replicas} replicas" if session.num_replicas > 1 else ""
    say(
        f"{len(inventory.num_frames)} utterances, {inventory.hours:.2f} hours, "
        f"refused: {inventory.counts() or 'none'}; {session.model.count_params() / 1e6:.2f} M parameters; "
        f"batches{replicas} (utterances x feature frames x labels): {batches}"
    )


def _claim(workdir, settings, *, write):
    """Compares settings with the config.json that is there; where there is none, it is written if `write`."""
    settings = json.loads(json.dumps(settings))
    earlier = workdir_lib.read_json(workdir / "config.json")
    if earlier is None:
        if write:
            workdir.mkdir(parents=True, exist_ok=True)
            workdir_lib.write_json(workdir / "config.json", settings)
        return
    earlier, settings = ({**one, "config": without_free_settings(one["config"])} for one in (earlier, settings))
    if earlier != settings:
        old, new = _flat(earlier), _flat(settings)
        changed = [f"{k}: {old.get(k)!r} -> {new.get(k)!r}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
        raise ValueError(
            f"{workdir} holds a training with other settings ({'; '.join(changed[:5])}): take another --workdir"
        )


def _flat(tree, prefix=""):
    if isinstance(tree, dict):
        return {k: v for name, sub in tree.items() for k, v in _flat(sub, f"{prefix}.{name}".lstrip(".")).items()}
    return {prefix: tree}
