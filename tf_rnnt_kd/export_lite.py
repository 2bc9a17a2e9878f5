"""Converts an exported streaming model for devices, and measures what each format costs in words.

    python -m tf_rnnt_kd.export_lite --model=exported/student --output=exported/student_lite
    python -m tf_rnnt_kd.export_lite --model=exported/student --output=exported/student_lite \\
        --records=run/records --split=test --markdown

The folder gets a LiteRT file for each format (float32.tflite, float16.tflite, int8.tflite with dynamic range; of a
pruned model sparse.tflite and sparse_int8.tflite) and metadata.json, which says what a host must know. With --records
all are run over these utterances, chunk by chunk on one thread, and so is the SavedModel as a whole: a table of word
error rate, size and speed. What is there already is not made again.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("model", None, "An exported model (tf_rnnt_kd.export), or a folder of its versions.", **add)
    flags.DEFINE_string("output", None, "Folder to make.", **add)
    flags.DEFINE_list(
        "formats", [], "Of float32, float16, int8, sparse, sparse_int8; all that fit if not given.", **add
    )
    flags.DEFINE_string("records", None, "Records to measure on (beam_pipelines.prepare_corpus).", **add)
    flags.DEFINE_string("split", "test", "Their split.", **add)
    flags.DEFINE_boolean("markdown", False, "Print the table in Markdown.", **add)


def _export_lite() -> None:
    command_line.require(FLAGS, {"model=DIR": "an exported model", "output=DIR": "the folder to make"})
    command_line.require_paths(FLAGS, ("model", "records"))

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

    rows = device_systems.measure(FLAGS.model, folder=FLAGS.output, records=FLAGS.records, split=FLAGS.split)
    table = device_systems.format_rows(rows, markdown=FLAGS.markdown)
    measured_on = f"{rows[0].result.utterances} utterances of {FLAGS.records}, split {FLAGS.split}"
    sys.stdout.write(f"\n{measured_on}, one thread:\n\n{table}\n")


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_export_lite, define_flags)


if __name__ == "__main__":
    main()
