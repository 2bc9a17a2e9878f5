"""Labels utterance records with a teacher: utterance records in, distillation records out.

    python -m beam_pipelines.pseudo_label --records=run/records --split=train-unlabeled --teacher=run/teacher_model \\
        --output=run/pseudo --artifacts=hard,collapsed,factored --min_confidence=0.6

Teachers are SavedModels from python -m tf_rnnt_kd.export. --teacher=DIR is one; of DIR,DIR2 the first labels, and the
others are asked whether they agree; en:DIR,de:DIR2 is one for each domain of the utterances.

Artifacts: hard (text, tokens, scores; always stored), nbest (several hypotheses), collapsed (log-probs of blank, label
and rest at each lattice node), factored (joint-space projections, from which the whole lattice follows; the joint goes
to OUTPUT/joint.npz), top_k (the best symbols of each node), hidden (encoder layers), dense (all log-probs: tests). With
--targets=reference the tokens are those of the records' own transcripts, and the teacher gives scores and lattices.

Filters (--min_*, --max_*, --drop_duplicates) refuse labels. --dry_run shows before what each would keep, and writes no
records: OUTPUT/dry_run/report.html; with --max_hours=5 it looks at five hours only. docs/how_to/filters.md says more.

What gets no label is counted by reason and listed in OUTPUT/dead_letter.jsonl. OUTPUT/dataset.json comes last; started
again with the same settings the command completes what is missing, or does nothing. All other flags go to Apache Beam,
for example --runner=FlinkRunner; without --runner the job runs in this process.
"""

import sys

from absl import flags

from beam_pipelines import command_line
from tf_rnnt_kd.command_line import require_paths

_REQUIRED = {
    "records": "Folder of utterance records, from python -m beam_pipelines.prepare_corpus.",
    "split": "Split of these records to label; several with commas.",
    "teacher": "SavedModel folder, from python -m tf_rnnt_kd.export; or several, see above.",
    "output": "Folder for the distillation records.",
}
_ENCODING = ("collapsed_bits", "band", "factored_type", "top_k", "n_best")
_OPTIONS = ("targets", "batch_size", "max_hours", "max_seconds")
_THRESHOLDS = {
    "min_confidence": "Refuse below this geometric mean of token probabilities, 0 to 1.",
    "min_word_confidence": "Refuse where a word's confidence is below this, 0 to 1.",
    "min_park": "Refuse below this length-normalised log-prob, in standard deviations; needs --park_line.",
    "min_nbest_margin": "Refuse where the best leads the second hypothesis by less, nats per token; needs nbest.",
    "min_agreement": "Refuse where another teacher shares less of the words, 0 to 1; needs --teacher=DIR,DIR2.",
    "min_tokens_per_second": "Refuse hypotheses with fewer tokens per second of audio.",
    "max_tokens_per_second": "Refuse hypotheses with more tokens per second of audio.",
    "min_chars_per_second": "Refuse hypotheses with fewer characters per second, white space not counted.",
    "max_chars_per_second": "Refuse hypotheses with more characters per second.",
}


def run(values: flags.FlagValues, beam_arguments: list[str]) -> None:
    """The job; every ValueError is one line for the user."""
    require_paths(values, ("records", "tokenizer"))
    # TensorFlow and Beam take seconds to import: not before the flags are known to be right.
    from beam_pipelines.labelling import pseudo_label, try_filters
    from beam_pipelines.transforms import progress

    arguments = {
        "splits": values.split,
        "teacher": ",".join(values.teacher),
        "output": values.output.rstrip("/"),
        "options": _options(values),
        "tokenizer": values.tokenizer,
        "beam_options": command_line.beam_options(beam_arguments),
    }
    if values.dry_run:
        sys.stdout.write("\n".join(try_filters(values.records, **arguments)) + "\n")
        return
    for line in describe(pseudo_label(values.records, **arguments)):
        progress.say(line)


def _options(values: flags.FlagValues):
    from beam_pipelines.labelling import LabellingOptions
    from beam_pipelines.transforms.artifacts import Encoding
    from beam_pipelines.transforms.filters import Filters
    from beam_pipelines.transforms.park import load_lines

    return LabellingOptions(
        encoding=Encoding(
            artifacts=tuple(values.artifacts),
            hidden_layers=tuple(values.hidden_layers),
            **{name: values[name].value for name in _ENCODING},
        ),
        filters=Filters(
            max_same_text=values.max_same_text,
            drop_duplicates=values.drop_duplicates,
            park_lines=load_lines(values.park_line) if values.park_line else {},
            **{name: values[name].value for name in _THRESHOLDS},
        ),
        **{name: values[name].value for name in _OPTIONS},
    )


def describe(info) -> list[str]:
    """What a finished dataset holds, for people."""
    refused = ", ".join(f"{count} {reason}" for reason, count in info.rejected.items())
    sizes = ", ".join(f"{name} {size['bytes_per_hour'] / 1e6:.2f}" for name, size in sorted(info.artifacts.items()))
    counts = info.counts
    return [
        f"{counts['input']} utterances = {counts['written']} labelled + {counts['rejected']} refused"
        + (f" ({refused})" if refused else ""),
        f"{info.statistics['hours']:.3f} hours; megabytes per hour: {sizes}",
        f"padding was {info.statistics['padding_share']:.0%} of what the teacher computed",
    ]


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("records", None, _REQUIRED["records"], **add)
    flags.DEFINE_list("split", None, _REQUIRED["split"], **add)
    flags.DEFINE_list("teacher", None, _REQUIRED["teacher"], **add)
    flags.DEFINE_string("output", None, _REQUIRED["output"], **add)
    flags.DEFINE_list(
        "artifacts", ["hard"], "What records store: of hard, nbest, collapsed, factored, top_k, hidden, dense.", **add
    )
    flags.DEFINE_enum("targets", "hypothesis", ["hypothesis", "reference"], "Tokens: the teacher's, or given.", **add)
    flags.DEFINE_string("tokenizer", None, "For reference targets: the tokenizer, unless TEACHER holds it.", **add)
    flags.DEFINE_integer("batch_size", 16, "Utterances per batch.", **add)
    flags.DEFINE_integer("n_best", 4, "Hypotheses of the nbest artifact.", **add)
    flags.DEFINE_integer("collapsed_bits", 8, "Bits per number of the collapsed artifact: 8 or 16.", **add)
    flags.DEFINE_integer(
        "band", 0, "Collapsed, top_k: label positions stored per frame, round the teacher's alignment; 0: all.", **add
    )
    flags.DEFINE_enum("factored_type", "bfloat16", ["bfloat16", "int8"], "Numbers of the factored artifact.", **add)
    flags.DEFINE_integer("top_k", 8, "Symbols per node of the top_k artifact.", **add)
    flags.DEFINE_list("hidden_layers", [], "Layers of the hidden artifact; by default all that the teacher has.", **add)
    flags.DEFINE_float("max_hours", None, "Label about so much audio, an equal share of each shard.", **add)
    flags.DEFINE_float("max_seconds", 40.0, "Refuse longer utterances.", **add)
    for name, meaning in _THRESHOLDS.items():
        flags.DEFINE_float(name, None, meaning, **add)
    flags.DEFINE_string("park_line", None, "JSON from python -m beam_pipelines.fit_filter.", **add)
    flags.DEFINE_integer("max_same_text", None, "Keep at most so many utterances with the same hypothesis.", **add)
    flags.DEFINE_bool("drop_duplicates", False, "Keep one of utterances with the same samples and hypothesis.", **add)
    flags.DEFINE_bool("dry_run", False, "Only show what filters would keep, in OUTPUT/dry_run.", **add)


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(run, define_flags, required=_REQUIRED)


if __name__ == "__main__":
    main()
