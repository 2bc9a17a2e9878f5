"""How much later a student names the words than its teacher: the `shift` that soft targets on lattice nodes need.

    python -m benchmarks.alignment_lag --teacher=demo_run/teacher --student=demo_run/student-labeled \\
        --records=demo_run/records:dev

Both models align the reference transcripts (Viterbi over their own lattices); printed are mean, median and histogram of
the student's frame minus the teacher's, per token. Choose `config.losses.collapsed.shift` near the median.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
flags.DEFINE_string("teacher", None, "Workdir of a training.")
flags.DEFINE_string("student", None, "Workdir of another with the same tokenizer and frame rate.")
flags.DEFINE_string("records", None, "Labelled records, DIR:split.")


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
    command_line.require(FLAGS, ("teacher", "student", "records"))
    import numpy as np

    from tf_rnnt_kd.records.reader import Source

    source = Source.parse(FLAGS.records)
    teacher, student = token_frames(FLAGS.teacher, source), token_frames(FLAGS.student, source)
    lags = np.concatenate([student[name] - teacher[name] for name in teacher])
    sys.stdout.write(f"{len(lags)} tokens: mean {lags.mean():.2f}, median {np.median(lags):g} frames later\n")
    for lag, count in zip(*np.unique(lags, return_counts=True), strict=True):
        sys.stdout.write(f"{lag:4d} {count:5d} {'#' * int(60 * count / len(lags))}\n")


if __name__ == "__main__":
    command_line.start(main)
