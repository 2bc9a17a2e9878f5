"""Labels utterance records with a teacher: utterance records in, distillation records out.

    python -m beam_pipelines.pseudo_label --records=run/records --split=train-unlabeled --teacher=run/teacher_model \\
        --output=run/pseudo --artifacts=hard,collapsed,factored

The teacher is a SavedModel from python -m tf_rnnt_kd.export. Artifacts: hard (text, tokens, scores; always stored),
collapsed (log-probs of blank, label and rest at each lattice node), factored (joint-space projections, from which the
whole lattice follows; the joint's weights go to OUTPUT/joint.npz). With --targets=reference the tokens are those of the
records' own transcripts, and the teacher gives scores and lattices for them.

What gets no label is counted by reason and listed in OUTPUT/dead_letter.jsonl. OUTPUT/dataset.json comes last; started
again with the same settings the command completes what is missing, or does nothing. All other flags go to Apache Beam,
for example --runner=FlinkRunner; without --runner the job runs in this process.
"""

from absl import flags

from beam_pipelines import command_line

_REQUIRED = {
    "records": "Folder of utterance records, from python -m beam_pipelines.prepare_corpus.",
    "split": "Split of these records to label; several with commas.",
    "teacher": "SavedModel folder, from python -m tf_rnnt_kd.export.",
    "output": "Folder for the distillation records.",
}


def run(values: flags.FlagValues, beam_arguments: list[str]) -> None:
    """The job; every ValueError is one line for the user."""
    # TensorFlow and Beam take seconds to import: not before the flags are known to be right.
    from beam_pipelines.labelling import LabellingOptions, pseudo_label
    from beam_pipelines.transforms import progress

    names = ("targets", "batch_size", "collapsed_bits", "min_confidence", "max_hours", "max_seconds")
    info = pseudo_label(
        values.records,
        splits=values.split,
        teacher=values.teacher,
        output=values.output,
        options=LabellingOptions(artifacts=tuple(values.artifacts), **{name: values[name].value for name in names}),
        tokenizer=values.tokenizer,
        beam_options=command_line.beam_options(beam_arguments),
    )
    for line in describe(info):
        progress.say(line)


def describe(info) -> list[str]:
    """What a finished dataset holds, for people."""
    rejected = ", ".join(f"{count} {reason}" for reason, count in info.rejected.items()) or "none"
    sizes = ", ".join(f"{name} {size['bytes_per_hour'] / 1e6:.2f}" for name, size in sorted(info.artifacts.items()))
    return [
        f"{info.counts['input']} utterances = {info.counts['written']} labelled + {info.counts['rejected']} refused",
        f"refused: {rejected}",
        f"{info.statistics['hours']:.3f} hours; megabytes per hour: {sizes}",
        f"padding was {info.statistics['padding_share']:.0%} of what the teacher computed",
    ]


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("records", None, _REQUIRED["records"], **add)
    flags.DEFINE_list("split", None, _REQUIRED["split"], **add)
    flags.DEFINE_string("teacher", None, _REQUIRED["teacher"], **add)
    flags.DEFINE_string("output", None, _REQUIRED["output"], **add)
    flags.DEFINE_list("artifacts", ["hard"], "What records store: of hard, collapsed, factored.", **add)
    flags.DEFINE_enum("targets", "hypothesis", ["hypothesis", "reference"], "Tokens: the teacher's, or given.", **add)
    flags.DEFINE_string("tokenizer", None, "For reference targets: the tokenizer, unless TEACHER holds it.", **add)
    flags.DEFINE_integer("batch_size", 16, "Utterances per batch.", **add)
    flags.DEFINE_integer("collapsed_bits", 8, "Bits per number of the collapsed artifact: 8 or 16.", **add)
    flags.DEFINE_float("min_confidence", 0.0, "Refuse below this geometric mean of token probabilities.", **add)
    flags.DEFINE_float("max_hours", None, "Label about so much audio, an equal share of each shard.", **add)
    flags.DEFINE_float("max_seconds", 40.0, "Refuse longer utterances.", **add)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command_line.start(run, required=_REQUIRED)
