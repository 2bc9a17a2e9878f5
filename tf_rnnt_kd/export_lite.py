"""Converts an exported streaming model for devices, and measures what each format costs in words.

    python -m tf_rnnt_kd.export_lite --model=exported/student --output=exported/student_lite
    python -m tf_rnnt_kd.export_lite --model=exported/student --output=exported/student_lite \\
        --records=run/records:test --markdown

The folder gets a LiteRT file for each format (float32.tflite, float16.tflite, int8.tflite with dynamic range; of a
pruned model sparse.tflite and sparse_int8.tflite) and metadata.json, which says what a host must know. With --records
all are run over these utterances, chunk by chunk on one thread, and so is the SavedModel as a whole: a table of word
error rate, size and speed. What is there already is not made again.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "An exported model (tf_rnnt_kd.export), or a folder of its versions.")
flags.DEFINE_string("output", None, "Folder to make.")
flags.DEFINE_list("formats", [], "Of float32, float16, int8, sparse, sparse_int8; all that fit if not given.")
flags.DEFINE_string("records", None, "RECORDS:SPLIT to measure on (beam_pipelines.prepare_corpus).")
flags.DEFINE_boolean("markdown", False, "Print the table in Markdown.")


def _export_lite() -> None:
    command_line.require(FLAGS, {"model=DIR": "an exported model", "output=DIR": "the folder to make"})
    records, colon, split = (FLAGS.records or "").rpartition(":")
    if FLAGS.records and not (colon and records and split):
        raise ValueError(f"--records={FLAGS.records} is not RECORDS:SPLIT, as in run/records:test")

    # Here, so that --help and mistakes in flags answer at once.
    import tensorflow as tf

    from tf_rnnt_kd.serving.lite import export_lite

    # All systems of the table on one thread.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    metadata = export_lite(FLAGS.model, output_dir=FLAGS.output, formats=FLAGS.formats)
    for name, file in metadata["files"].items():
        sys.stdout.write(f"{FLAGS.output}/{file['file']}: {name}, {file['bytes']:,} bytes\n")
    if not FLAGS.records:
        return

    from tf_rnnt_kd.evaluation import device_systems

    rows = device_systems.measure(FLAGS.model, folder=FLAGS.output, records=records, split=split)
    table = device_systems.format_rows(rows, markdown=FLAGS.markdown)
    sys.stdout.write(f"\n{rows[0].result.utterances} utterances of {FLAGS.records}, one thread:\n\n{table}\n")


if __name__ == "__main__":
    command_line.start(_export_lite)
