"""Beam searches compared: how good is what they find, and what do they cost beside greedy search?

    python -m benchmarks.search                                        # random and briefly trained joints
    python -m benchmarks.search --workdir=run/student --records=run/records --split=dev

On one thread; CPU time in turn with greedy search, medians. Printed for each search and beam: cost over greedy; mean
log P(best | audio), exact, below that of the best that any of them found (nats per utterance); share of utterances in
which it found that one; and the log of the mass of its n-best list, below the greatest.
"""

import os
import sys

from absl import flags

from benchmarks import measure
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS

MARGINS = (None, 5.0, 2.5)


def searches(beam):
    """{name: search} of one width."""
    from benchmarks.search_peers import AlignmentLengthSearch
    from tf_rnnt_kd.decoding import BeamSearch

    ours = {
        f"time-synchronous, {'every token' if margin is None else f'margin {margin:g}'}": BeamSearch(
            beam, expansion_margin=margin
        )
        for margin in MARGINS
    }
    return {**ours, "alignment-length-synchronous": AlignmentLengthSearch(beam)}


def compared(model, encoded, lengths, *, beams, reference_beam, repetitions):
    """{(name, beam): {"cost", "gap", "best", "mass"}}, and "greedy" among them with beam 1."""
    import numpy as np
    import tensorflow as tf

    from benchmarks.search_lattices import full_sums
    from tf_rnnt_kd.decoding import BeamSearch, GreedySearch

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def exact(tokens, counts, rows):
        return full_sums(model, tf.gather(encoded, rows), tf.gather(lengths, rows), tokens, counts)

    def traced(search):
        return tf.function(lambda: search(model, encoded, lengths)[:2], autograph=False).get_concrete_function()

    batch = len(lengths)
    calls = {("greedy", 1): traced(GreedySearch())}
    for beam in beams:
        calls |= {(name, beam): traced(search) for name, search in searches(beam).items()}
    found = {key: call() for key, call in calls.items()}
    found["reference", reference_beam] = traced(BeamSearch(reference_beam, expansion_margin=None))()

    scores = {}
    for key, (tokens, counts) in found.items():
        tokens, counts = (x[:, None] if len(x.shape) < 3 - i else x for i, x in enumerate((tokens, counts)))
        places = counts.shape[1]
        rows = tf.repeat(tf.range(batch), places)
        flat = tf.reshape(tokens, [batch * places, -1]), tf.reshape(counts, [-1])
        values = tf.reshape(exact(*flat, rows), [batch, places]).numpy()
        # Places that hold no hypothesis look as if they held the empty one; so do those that do hold it, once.
        empty = np.cumsum(counts.numpy() == 0, axis=1) * (counts.numpy() == 0) > 1
        values[empty] = -np.inf
        scores[key] = np.maximum(values.max(axis=1), -1e30), np.logaddexp.reduce(values, axis=1)
    greatest = [np.max([pair[i] for pair in scores.values()], axis=0) for i in (0, 1)]
    seconds = measure.interleaved(calls, repetitions=repetitions)
    yardstick = measure.median(seconds["greedy", 1])
    return {
        key: {
            "cost": measure.median(seconds[key]) / yardstick if key in seconds else float("nan"),
            "gap": float(np.mean(greatest[0] - best)),
            "best": float(np.mean(best > greatest[0] - 1e-3)),
            "mass": float(np.mean(greatest[1] - mass)),
        }
        for key, (best, mass) in scores.items()
    }


def report(title, figures):
    """The lines of one kind of lattices."""
    lines = [title, f"{'search':34s} beam   cost   below best   found best   mass below"]
    for (name, beam), row in figures.items():
        quality = f"{row['gap']:12.3f} {100 * row['best']:10.1f} % {row['mass']:12.3f}"
        lines.append(f"{name:34s} {beam:4d} {row['cost']:6.2f} {quality}")
    return lines


def main():
    os.environ.update(measure.ONE_THREAD)
    measure.one_thread_tensorflow()
    from benchmarks import search_lattices

    sizes = {"batch": FLAGS.batch_size, "frames": FLAGS.frames, "vocab": FLAGS.vocab_size, "width": FLAGS.width}
    kinds = {
        "random joint": lambda: search_lattices.random_lattices(**sizes),
        "trained joint": lambda: search_lattices.trained_lattices(**sizes, steps=FLAGS.steps),
    }
    if FLAGS.workdir:
        command_line.require(FLAGS, {"records=DIR": "labelled records for --workdir"})
        kinds = {
            FLAGS.workdir: lambda: search_lattices.lattices_of_training(
                FLAGS.workdir, records=f"{FLAGS.records}:{FLAGS.split}", batch=FLAGS.batch_size
            )
        }
    for title, make in kinds.items():
        figures = compared(
            *make(), beams=[int(beam) for beam in FLAGS.beams], reference_beam=FLAGS.reference_beam,
            repetitions=FLAGS.repetitions,
        )  # fmt: skip
        sys.stdout.write("\n".join(report(title, figures)) + "\n\n")
        sys.stdout.flush()


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_integer("batch_size", 16, "Utterances at once.", lower_bound=1, **add)
    flags.DEFINE_integer("frames", 60, "Frames of the longest.", lower_bound=4, **add)
    flags.DEFINE_integer("vocab_size", 128, "Symbols, the blank included.", lower_bound=8, **add)
    flags.DEFINE_integer("width", 128, "Of the joint.", lower_bound=1, **add)
    flags.DEFINE_integer("steps", 400, "Of training.", lower_bound=1, **add)
    flags.DEFINE_list("beams", ["4", "8"], "Widths to compare.", **add)
    flags.DEFINE_integer(
        "reference_beam", 24, "Width of the search that only looks for the best.", lower_bound=1, **add
    )
    flags.DEFINE_integer("repetitions", 5, "How often each is timed.", lower_bound=1, **add)
    flags.DEFINE_string("workdir", None, "A training instead of the made-up joints.", **add)
    flags.DEFINE_string("records", None, "Labelled records for it.", **add)
    flags.DEFINE_string("split", "dev", "Their split.", **add)


if __name__ == "__main__":
    command_line.start(main, define_flags)
