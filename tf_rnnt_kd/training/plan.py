"""What a training is about to do, in words: the end of a dry run."""

from collections.abc import Sequence

import numpy as np

from tf_rnnt_kd.records import reader


def describe(session, *, config, sources: Sequence[reader.Source], dev_source: reader.Source, first_step: int) -> str:
    """Steps, passes over the records, evaluations and checkpoints that are left.

    Args:
      session: the training's Session.
      sources: those of the session. dev_source: what is evaluated on.
      first_step: steps taken already.
    """
    settings = config.train
    batches = settings.accumulate_steps * session.num_replicas
    steps = f"steps {first_step + 1} to {settings.steps}, each on {batches} batch{'es' * (batches > 1)}"
    if any(source.weight is not None for source in reader.mixture(sources, config.data.mixture)):
        steps += ", drawn from the records by their weights"
    else:
        of_a_pass = batches_of_a_pass(session)
        passes = batches * (settings.steps - first_step) / of_a_pass
        steps += f": about {passes:.1f} passes over the records, of {of_a_pass} batches"
    dev = dev_source.info().split(dev_source.split)
    return (
        f"dry run, nothing was written: it would take {steps}; evaluate every {settings.eval_every} steps on "
        f"{dev.utterances} utterances ({dev.hours:.2f} hours) of {dev_source}; and save every "
        f"{settings.checkpoint_every} steps, the last {settings.keep_checkpoints} of them kept"
    )


def batches_of_a_pass(session) -> int:
    """Batches of one replica that hold each utterance once, at speed 1."""
    limits = np.array([bucket.num_frames for bucket in session.buckets])
    frames = session.inventory.num_frames
    counts = np.bincount(np.searchsorted(limits, frames[frames <= limits[-1]]), minlength=len(limits))
    sizes = np.array([bucket.batch_size for bucket in session.buckets])
    return max(1, int(np.ceil(counts / sizes).sum()))
