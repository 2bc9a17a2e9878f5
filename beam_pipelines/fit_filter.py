"""Fits the line of Park's normalised score on utterances that a teacher has labelled.

    python -m beam_pipelines.pseudo_label --records=run/records --split=dev --teacher=run/teacher_model \\
        --output=run/dev_labelled
    python -m beam_pipelines.fit_filter --records=run/dev_labelled --split=dev --output=run/park.json

Long hypotheses have a lower log-prob than short ones. The line says how much lower is usual for this teacher, and
pseudo_label --park_line=run/park.json --min_park=X then refuses what lies more than -X standard deviations below it.

OUTPUT is JSON, with a line for each teacher that labelled the split; OUTPUT with .png for .json shows the utterances
and the line.
"""

import sys

from absl import flags

from tf_rnnt_kd import command_line

_REQUIRED = {
    "records": "Folder of labelled records, from python -m beam_pipelines.pseudo_label.",
    "output": "JSON file to write, for pseudo_label --park_line.",
}


def run(values: flags.FlagValues) -> None:
    """The whole program; every ValueError is one line for the user."""
    command_line.require(values, _REQUIRED)
    command_line.require_paths(values, ("records",))
    # TensorFlow takes seconds to import: not before the flags are known to be right.
    from beam_pipelines.park_fit import fit_park_lines

    for model_id, line in fit_park_lines(values.records, split=values.split, output=values.output).items():
        sys.stdout.write(
            f"teacher {model_id}: log P = {line.mu:.4f} * tokens {line.beta:+.4f}, sigma = {line.sigma:.4f} nats per "
            f"root of a token ({line.utterances} utterances)\n"
        )


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    flags.DEFINE_string("records", None, _REQUIRED["records"], flag_values=values)
    flags.DEFINE_string("split", "dev", "Split of it to fit on.", flag_values=values)
    flags.DEFINE_string("output", None, _REQUIRED["output"], flag_values=values)


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(lambda: run(flags.FLAGS), define_flags)


if __name__ == "__main__":
    main()
