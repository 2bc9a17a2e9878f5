"""Exports the best model of a training as a SavedModel that takes waveforms and gives text.

    python -m tf_rnnt_kd.export --workdir=run/student --output=exported/student

The SavedModel holds features, encoder, search and detokenising, needs TensorFlow alone, and serves as a teacher too;
exported/student/assets.extra/metadata.json says what a user must know. It is compared with the Python model before it
gets its name. Run again on the same model, nothing happens.
"""

import os
import sys

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "A training's folder (tf_rnnt_kd.train); its best weights are exported.")
flags.DEFINE_string("output", None, "Folder to make.")


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: everything is a flag, see --help")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        _export()
    except ValueError as error:
        sys.stderr.write(f"export: {error}\n")
        return 1
    return 0


def _export() -> None:
    if not FLAGS.workdir:
        raise ValueError("--workdir=DIR is missing: the folder of the training to export")
    if not FLAGS.output:
        raise ValueError("--output=DIR is missing: the folder to make")

    # Here, so that --help and mistakes in flags answer at once.
    from tf_rnnt_kd.decoding import GreedySearch
    from tf_rnnt_kd.serving import export_saved_model
    from tf_rnnt_kd.training.workdir import load_model

    trained = load_model(FLAGS.workdir)
    export = export_saved_model(
        trained.model,
        tokenizer=trained.tokenizer,
        frontend=trained.frontend,
        config=trained.config,
        output_dir=FLAGS.output,
        search=GreedySearch(**trained.config["search"]),
    )
    metadata, out = export.metadata, sys.stdout.write
    kind = f"streams by {metadata['chunk_samples']} samples" if metadata["streaming"] else "whole utterances only"
    described = f"model {metadata['model_id']}, {metadata['num_parameters']:,} parameters, {kind}"
    if export.differences is None:
        out(f"{FLAGS.output} is already done: {described}\n")
        return
    out(f"{FLAGS.output}: {described}, step {trained.step}, dev WER {100 * trained.dev_wer:.2f} %\n")
    out(f"equal to the Python model, floats to {max(export.differences.values()):.1g}\n")


if __name__ == "__main__":
    app.run(main)
