"""The training loop: records in, a folder with the best model by dev WER out."""

import json
import pathlib
import sys
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.records import reader
from tf_rnnt_kd.records.dataset import DEAD_LETTER_FILE, write_atomically
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import workdir as workdir_lib
from tf_rnnt_kd.training.dev import DevEvaluator
from tf_rnnt_kd.training.optimizer import WeightAverage, build_optimizer
from tf_rnnt_kd.training.step import make_train_step

_STATISTICS_UTTERANCES = 500


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
      The content of `done.json`: steps, best_step, best_dev_wer, hours, rejected.

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
        logging.info("%s is complete: best dev WER %.2f %%", workdir, 100 * done["best_dev_wer"])
        return done

    # Resuming must give the weights of an uninterrupted run, so nothing may depend on timing.
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    tokenizer.save(workdir / "tokenizer")
    frontend = LogMelFrontend(**config.frontend)
    model = _build(config, tokenizer, frontend)
    average_model = _build(config, tokenizer, frontend) if config.optimizer.ema_decay else model
    objective = Objective(config.losses)
    node_level = bool({"teacher", "teacher_occupancies"} & objective.needs)
    frame_seconds = frontend.hop / frontend.sample_rate * model.subsampling
    reader.check_teacher(
        train_sources, tokenizer_hash=tokenizer.hash, frame_seconds=frame_seconds, node_level=node_level
    )
    inventory = reader.take_inventory(
        train_sources, tokenizer=tokenizer, frontend=frontend, subsampling=model.subsampling
    )
    write_atomically(
        str(workdir / DEAD_LETTER_FILE), content="".join(json.dumps(entry) + "\n" for entry in inventory.rejected)
    )
    stretch = max([1.0 / factor for factor in config.augment.speed_factors], default=1.0)
    buckets = reader.plan_buckets(
        inventory, num_buckets=config.data.num_buckets, frames_per_batch=config.data.frames_per_batch,
        multiple=model.subsampling * 4, stretch=stretch,
    )
    logging.info(
        "%d utterances, %.2f hours; refused: %s; buckets (feature frames x labels x batch): %s; %.2f M parameters",
        len(inventory.num_frames), inventory.hours, inventory.counts() or "none",
        ", ".join(f"{b.num_frames} x {b.num_labels} x {b.batch_size}" for b in buckets), model.count_params() / 1e6,
    )
    iterator = iter(
        reader.training_batches(
            train_sources, tokenizer=tokenizer, frontend=frontend, subsampling=model.subsampling, buckets=buckets,
            seed=config.seed, shuffle_buffer=config.data.shuffle_buffer, speed_factors=config.augment.speed_factors,
            with_collapsed=node_level,
        )
    )
    optimizer = build_optimizer(config.optimizer, steps=config.train.steps)
    optimizer.build(model.trainable_variables)
    average = WeightAverage(model, average_model=average_model, decay=config.optimizer.ema_decay)
    step_counter = tf.Variable(0, dtype=tf.int64, trainable=False)
    skipped_counter = tf.Variable(0, dtype=tf.int64, trainable=False)
    best_wer = tf.Variable(np.inf, dtype=tf.float64, trainable=False)
    best_step = tf.Variable(0, dtype=tf.int64, trainable=False)
    averaged = average_model.variables if config.optimizer.ema_decay else []
    checkpoint = tf.train.Checkpoint(
        # `variables` holds the dropout layers' seeds too; Keras's own object graph as tf.train sees it does not.
        variables=[variable.value for variable in [*model.variables, *averaged, *optimizer.variables]],
        counters=[step_counter, skipped_counter, best_wer, best_step],
        iterator=iterator,
    )
    manager = tf.train.CheckpointManager(
        checkpoint, str(workdir / "checkpoints"), max_to_keep=config.train.keep_checkpoints
    )
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        logging.info("resumed at step %d", step_counter.numpy())
    else:
        mean, deviation = _feature_statistics(train_sources, tokenizer=tokenizer, frontend=frontend)
        model.set_feature_statistics(mean, deviation)
        average.start()
    log = workdir_lib.TrainLog(workdir, resumed_step=int(step_counter.numpy()))
    dev = DevEvaluator(
        average_model,
        batches=reader.evaluation_batches(
            dev_source, tokenizer=tokenizer, frontend=frontend, batch_size=config.train.eval_batch_size
        ),
        tokenizer=tokenizer,
        max_symbols_per_frame=config.train.max_symbols_per_frame,
    )
    train_step = make_train_step(model, objective=objective, optimizer=optimizer, average=average, config=config)
    board = tf.summary.create_file_writer(str(workdir / "tensorboard"))

    steps, limit = config.train.steps, config.train.max_skipped_steps
    bar = tqdm(
        total=steps, initial=int(step_counter.numpy()), desc=workdir.name, unit="step", dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    started, audio_seconds, postfix = time.monotonic(), 0.0, {}
    with bar, board.as_default():
        while (step := int(step_counter.numpy())) < steps:
            batch = next(iterator)
            terms = train_step(batch, tf.constant(step, tf.int32))
            audio_seconds += float(tf.reduce_sum(batch["num_frames"])) * frontend.hop / frontend.sample_rate
            if not bool(terms.pop("finite")):
                skipped_counter.assign_add(1)
                _report_skipped(batch, step=step, skipped=int(skipped_counter.numpy()), limit=limit)
            step += 1
            step_counter.assign(step)
            bar.update()
            if step % config.train.log_every == 0 or step == steps:
                values = {name: float(value) for name, value in terms.items()}
                elapsed = time.monotonic() - started
                speed = audio_seconds / elapsed
                for name, value in {**values, "audio_hours_per_hour": speed}.items():
                    tf.summary.scalar(name, value, step=step)
                log.write(step=step, seconds=round(elapsed, 2), **values)
                postfix.update(loss=f"{values['loss']:.2f}", audio_x=f"{speed:.0f}")
                bar.set_postfix(postfix)
                if bar.disable:
                    logging.info("step %d of %d, loss %.3f, %.0f x real time", step, steps, values["loss"], speed)
            if step % config.train.eval_every == 0 or step == steps:
                dev_wer, samples = dev.word_error_rate()
                tf.summary.scalar("dev_wer", dev_wer, step=step)
                tf.summary.text("dev_samples", "\n\n".join(f"{ref} | {hyp}" for ref, hyp in samples), step=step)
                log.write(step=step, dev_wer=dev_wer)
                postfix.update(dev_wer=f"{100 * dev_wer:.1f}%")
                bar.set_postfix(postfix)
                if bar.disable:
                    logging.info("step %d of %d, dev WER %.2f %%", step, steps, 100 * dev_wer)
                if dev_wer < best_wer.numpy():
                    workdir_lib.save_best(workdir, model=average_model, step=step, dev_wer=dev_wer)
                    best_wer.assign(dev_wer)
                    best_step.assign(step)
            if step % config.train.checkpoint_every == 0 or step == steps:
                manager.save(checkpoint_number=step)
    done = {
        "steps": steps, "best_step": int(best_step.numpy()), "best_dev_wer": float(best_wer.numpy()),
        "hours": inventory.hours, "rejected": inventory.counts(), "skipped_steps": int(skipped_counter.numpy()),
    }
    workdir_lib.write_json(workdir / "done.json", done)
    logging.info("done: dev WER %.2f %% at step %d", 100 * done["best_dev_wer"], done["best_step"])
    return done


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


def _build(config, tokenizer, frontend):
    return build_transducer(
        config.model.to_dict(), vocab_size=tokenizer.vocab_size, num_features=frontend.num_mel_bins
    )


def _feature_statistics(sources, *, tokenizer, frontend):
    """Mean and standard deviation [F] of the features of the first utterances, in the sources' order."""
    total, squares, count = 0.0, 0.0, 0
    budget = _STATISTICS_UTTERANCES
    for source in sources:
        batches = reader.evaluation_batches(source, tokenizer=tokenizer, frontend=frontend, batch_size=20)
        for batch in batches.take(-(-budget // 20)):
            valid = np.arange(batch["features"].shape[1])[None] < batch["num_frames"].numpy()[:, None]
            frames = batch["features"].numpy()[valid].astype(np.float64)
            total, squares, count = total + frames.sum(0), squares + (frames**2).sum(0), count + len(frames)
            budget -= len(valid)
        if budget <= 0:
            break
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 1e-6))


def _report_skipped(batch, *, step, skipped, limit):
    names = [name.decode() for name in batch["utterance_id"].numpy()]
    logging.error("step %d skipped: loss or gradient is not finite; utterances: %s", step, ", ".join(names))
    if skipped > limit:
        raise ValueError(f"{skipped} steps were not finite (train.max_skipped_steps={limit}); see the utterances above")
