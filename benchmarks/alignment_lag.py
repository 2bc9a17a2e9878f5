"""How much later a student names the words than its teacher: the `shift` that soft targets on lattice nodes need.

    python -m benchmarks.alignment_lag --teacher_workdir=demo_run/teacher --student_workdir=demo_run/student-labeled \\
        --records=demo_run/records --split=dev

Both models align the reference transcripts (Viterbi over their own lattices); printed are mean, median and histogram of
the student's frame minus the teacher's, per token. Choose `config.losses.collapsed.shift` near the median.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("teacher_workdir", None, "Workdir of a training.", **add)
    flags.DEFINE_string("student_workdir", None, "Workdir of another with the same tokenizer and frame rate.", **add)
    flags.DEFINE_string("records", None, "Labelled records.", **add)
    flags.DEFINE_string("split", "dev", "Their split.", **add)


def token_frames(workdir, source):
    """{utterance id: encoder frame [U] of each token on the best alignment of the reference}."""
    import tensorflow as tf

    from tf_rnnt_kd import lattice
    from tf_rnnt_kd.records import reader
    from tf_rnnt_kd.training.workdir import load_model

    trained, frames = load_model(workdir), {}
    model, tokenizer = trained.model, trained.tokenizer
    batches = reader.evaluation_batches(source, tokenizer=tokenizer, frontend=trained.frontend, batch_size=32)
    for batch in batches:
        ragged = tokenizer.encode_tf(batch["text"])
        labels, counts = ragged.to_tensor(), tf.cast(ragged.row_lengths(), tf.int32)
        encoded, lengths = model.encode(batch["features"], batch["num_frames"])
        sizes = {"logit_lengths": lengths, "label_lengths": counts}
        joint = (model.joint_kernel.value, model.joint_bias.value)
        nodes = lattice.node_log_probs(encoded, model.predict_labels(labels), *joint, labels=labels, **sizes)
        best = lattice.viterbi(nodes, **sizes).token_frames.numpy()
        for name, row, count in zip(batch["utterance_id"].numpy(), best, counts.numpy(), strict=True):
            frames[name] = row[:count]
    return frames


def main() -> None:
    command_line.require(FLAGS, ("teacher_workdir", "student_workdir", "records"))
    import numpy as np

    from tf_rnnt_kd.records.reader import Source

    source = Source(FLAGS.records, FLAGS.split)
    teacher, student = token_frames(FLAGS.teacher_workdir, source), token_frames(FLAGS.student_workdir, source)
    lags = np.concatenate([student[name] - teacher[name] for name in teacher])
    sys.stdout.write(f"{len(lags)} tokens: mean {lags.mean():.2f}, median {np.median(lags):g} frames later\n")
    for lag, count in zip(*np.unique(lags, return_counts=True), strict=True):
        sys.stdout.write(f"{lag:4d} {count:5d} {'#' * int(60 * count / len(lags))}\n")


if __name__ == "__main__":
    command_line.start(main, define_flags)
