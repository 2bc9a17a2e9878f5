"""Exports the best model of a training as a SavedModel that takes waveforms and gives text.

    python -m tf_rnnt_kd.export --workdir=run/student --output=exported/student

The SavedModel holds features, encoder, search and detokenising, needs TensorFlow alone, and serves as a teacher too;
exported/student/assets.extra/metadata.json says what a user must know. It is compared with the Python model before it
gets its name. Run again on the same model, nothing happens.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "A training's folder (tf_rnnt_kd.train); its best weights are exported.")
flags.DEFINE_string("output", None, "Folder to make.")
flags.DEFINE_integer("n_best", 4, "Hypotheses of the n-best signature.", lower_bound=1)


def _export() -> None:
    required = {"workdir=DIR": "the folder of the training to export", "output=DIR": "the folder to make"}
    command_line.require(FLAGS, required)

    # Here, so that --help and mistakes in flags answer at once.
    from tf_rnnt_kd.serving import export_saved_model
    from tf_rnnt_kd.training.workdir import load_model

    trained = load_model(FLAGS.workdir)
    export = export_saved_model(
        trained.model,
        tokenizer=trained.tokenizer,
        frontend=trained.frontend,
        config=trained.config,
        output_dir=FLAGS.output,
        search=trained.search,
        n_best=FLAGS.n_best,
    )
    metadata, out = export.metadata, sys.stdout.write
    kind = f"streams by {metadata['chunk_samples']} samples" if metadata["streaming"] else "whole utterances only"
    described = f"model {metadata['model_id']}, {metadata['num_parameters']:,} parameters, {kind}"
    if metadata["sparsity"]["target"]:
        described += f", {100 * metadata['sparsity']['zero_share']:.1f} % of all weights zero"
    if export.differences is None:
        out(f"{FLAGS.output} is already done: {described}\n")
        return
    out(f"{FLAGS.output}: {described}, step {trained.step}, dev WER {100 * trained.dev_wer:.2f} %\n")
    out(f"equal to the Python model, floats to {max(export.differences.values()):.1g}\n")


if __name__ == "__main__":
    command_line.start(_export)
