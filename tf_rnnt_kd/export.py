"""Exports the best model of a training as a SavedModel that takes waveforms and gives text.

    python -m tf_rnnt_kd.export --workdir=run/student --output=exported/student

The SavedModel lies in exported/student/1, that of the next model in exported/student/2, as TensorFlow Serving wants it;
all programs here take either folder. It holds features, encoder, search and detokenising, needs TensorFlow alone, and
serves as a teacher too; assets.extra/metadata.json says what a user must know. It is compared with the Python model
before it gets its number. Run again on the same model, nothing happens.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string(
        "workdir", None, "A training's folder (tf_rnnt_kd.train); its best weights are exported.", **add
    )
    flags.DEFINE_string("output", None, "Folder of the versions; made where it is missing.", **add)
    flags.DEFINE_integer(
        "version", None, "Number of this version; the next free one if not given.", lower_bound=1, **add
    )
    flags.DEFINE_integer("n_best", 4, "Hypotheses of the n-best signatures.", lower_bound=1, **add)
    flags.DEFINE_string(
        "lm", None, "N-gram language model over the tokenizer's pieces (ARPA), for the n-best signatures.", **add
    )
    flags.DEFINE_float("lm_weight", 0.3, "Of its log-probabilities.", **add)
    flags.DEFINE_string("phrases", None, "File with a phrase on each line that the n-best signatures favour.", **add)
    flags.DEFINE_float(
        "phrase_bonus", 1.0, "For each token of a phrase, also of those given to nbest_biased; in nats.", **add
    )
    flags.DEFINE_string("calibration", None, "Of the words' confidence (JSON, from tf_rnnt_kd.calibrate).", **add)


def _export() -> None:
    required = {"workdir=DIR": "the folder of the training to export", "output=DIR": "the folder of the versions"}
    command_line.require(FLAGS, required)
    command_line.require_paths(FLAGS, ("workdir", "lm", "phrases", "calibration"))

    # Here, so that --help and mistakes in flags answer at once.
    from tf_rnnt_kd.decoding import Calibration
    from tf_rnnt_kd.serving import export_saved_model
    from tf_rnnt_kd.serving.favoured import scorers_from_files
    from tf_rnnt_kd.serving.provenance import training_card
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
        scorers=scorers_from_files(
            trained.tokenizer, lm=FLAGS.lm, lm_weight=FLAGS.lm_weight, phrases=FLAGS.phrases,
            phrase_bonus=FLAGS.phrase_bonus,
        ),
        phrase_bonus=FLAGS.phrase_bonus,
        calibration=Calibration.load(FLAGS.calibration) if FLAGS.calibration else None,
        version=FLAGS.version,
        card=training_card(FLAGS.workdir, trained=trained),
    )
    metadata, out = export.metadata, sys.stdout.write
    kind = f"streams by {metadata['chunk_samples']} samples" if metadata["streaming"] else "whole utterances only"
    described = f"model {metadata['model_id']}, {metadata['num_parameters']:,} parameters, {kind}"
    if metadata["sparsity"]["target"]:
        described += f", {100 * metadata['sparsity']['zero_share']:.1f} % of all weights zero"
    if export.differences is None:
        out(f"{export.path} is already done: {described}\n")
        return
    out(f"{export.path}: {described}, step {trained.step}, dev WER {100 * trained.dev_wer:.2f} %\n")
    out(f"equal to the Python model, floats to {max(export.differences.values()):.1g}\n")


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_export, define_flags)


if __name__ == "__main__":
    main()
