"""What a training shows of itself while it runs: a progress bar or lines, train_log.jsonl, and TensorBoard."""

import collections
import sys
import time

import tensorflow as tf
from tqdm import tqdm

from tf_rnnt_kd.training import workdir as workdir_lib


class Monitor:
    """Of one run of a training, as a context manager.

    A terminal gets a progress bar, anything else a line for each entry. Speeds are those since the entry before.

    Args:
      workdir: folder of the training.
      session: the training's Session.
      steps: how many there will be.
      evaluation_pending: whether the resumed step has still to be evaluated.
      is_silent: for all workers but the first: shows and writes nothing.
    """

    def __init__(self, workdir, *, session, steps, evaluation_pending=False, is_silent=False):
        self._session, self._steps, self._is_silent = session, steps, is_silent
        if is_silent:
            self._log, self._board = None, tf.summary.create_noop_writer()
        else:
            self._log = workdir_lib.TrainLog(
                workdir, resumed_step=session.step, evaluation_pending=evaluation_pending
            )
            self._board = tf.summary.create_file_writer(str(workdir / "tensorboard"))
        self._bar = tqdm(
            total=steps, initial=session.step, desc=workdir.name, unit="step", dynamic_ncols=True,
            disable=is_silent or not sys.stderr.isatty(),
        )
        self._postfix = {}
        self._pace = _Pace(session.step)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._bar.close()
        self._board.close()

    def count(self, batch):
        """One more step was taken, on this batch and equal parts of it in the other workers."""
        frames = float(tf.reduce_sum(batch["num_frames"])) * self._session.num_workers
        self._pace.audio_seconds += frames * self._session.hop_seconds
        self._bar.update()

    def log_terms(self, values):
        """Means of a step's terms and whatever else is a number: {name: float}, with `loss`."""
        step = self._session.step
        pace = self._pace.measure(step, steps=self._steps)
        self._scalars({**values, "steps_per_second": pace.steps, "audio_hours_per_hour": pace.audio})
        self._write(step=step, seconds=round(pace.elapsed, 2), **values)
        self._show(
            {
                "loss": f"{values['loss']:.2f}", "steps/s": f"{pace.steps:.2f}", "audio h/h": f"{pace.audio:.0f}",
                "to go": _duration(pace.seconds_left),
            }
        )

    def log_skipped(self, utterances):
        """The step was left out; the ids of its utterances."""
        self._write(step=self._session.step, skipped=utterances)

    def log_dev(self, dev_wer, samples):
        """Word error rate of the dev split and pairs of (reference, hypothesis)."""
        step = self._session.step
        self._scalars({"dev_wer": dev_wer})
        with self._board.as_default(step):
            rows = ["| reference | hypothesis |", "|---|---|", *(f"| {ref} | {hyp} |" for ref, hyp in samples)]
            tf.summary.text("dev_samples", "\n".join(rows))
        self._write(step=step, dev_wer=dev_wer)
        self._show({"dev WER": f"{100 * dev_wer:.1f}%"})

    def log_pictures(self, pictures):
        """{name: uint8 [height, width, 3]} for TensorBoard."""
        with self._board.as_default(self._session.step):
            for name, picture in pictures.items():
                tf.summary.image(name, picture[None])

    def flush(self):
        """Makes TensorBoard's file as complete as the log is."""
        self._board.flush()

    def _scalars(self, values):
        with self._board.as_default(self._session.step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def _write(self, **entry):
        if self._log is not None:
            self._log.write(**entry)

    def _show(self, values):
        # The bar has steps per second and the time to go of its own.
        self._postfix.update({name: value for name, value in values.items() if name not in ("steps/s", "to go")})
        self._bar.set_postfix(self._postfix)
        if self._bar.disable and not self._is_silent:
            say(f"step {self._session.step} of {self._steps}: " + ", ".join(f"{k} {v}" for k, v in values.items()))


Measure = collections.namedtuple("Measure", "elapsed steps audio seconds_left")
"""Seconds of this run; steps and audio seconds per second since the last measure; seconds that are left."""


class _Pace:
    """How fast a run is; the first measure, with what is compiled until then, does not count for the time left."""

    def __init__(self, step):
        self.audio_seconds = 0.0
        self._start = self._settled = self._last = (time.monotonic(), step)
        self._is_first = True

    def measure(self, step, *, steps):
        now = time.monotonic()
        since = max(now - self._last[0], 1e-9)
        done, elapsed = step - self._settled[1], max(now - self._settled[0], 1e-9)
        measure = Measure(
            now - self._start[0], (step - self._last[1]) / since, self.audio_seconds / since,
            (steps - step) * elapsed / max(done, 1),
        )
        self._last, self.audio_seconds = (now, step), 0.0
        if self._is_first:
            self._settled, self._is_first = self._last, False
        return measure


def say(text):
    """A line on stderr that leaves a progress bar in peace."""
    tqdm.write(text, file=sys.stderr)


def _duration(seconds):
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
