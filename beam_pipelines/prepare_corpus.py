"""Audio files and transcripts in, checked utterance records out.

    python -m beam_pipelines.prepare_corpus --input=LibriSpeech --output=run/records

Input is a folder in LibriSpeech layout (SPLIT/SPEAKER/CHAPTER/*.flac, *.wav or *.ogg with *.trans.txt beside them; a
split without transcripts is unlabelled; SPLIT/alignments.tsv may give word times; SPLIT-truth folders are skipped), a
folder of JSONL manifests as NeMo writes them (SPLIT.jsonl: audio_filepath, duration, text, offset), or one manifest.

Output is OUTPUT/SPLIT/*.tfrecord, 16 kHz mono, and OUTPUT/dataset.json, written last. What cannot be used is counted by
reason and listed in OUTPUT/dead_letter.jsonl. Started again the command does nothing if the dataset is complete, else
it makes it anew. All other flags go to Apache Beam, for example --runner=FlinkRunner; without --runner the job runs in
this process.
"""

import itertools
import os
import sys
from pathlib import Path

from absl import app, flags, logging

_REQUIRED = {
    "input": "Folder of the corpus, or a JSONL manifest",
    "output": "Folder for the records",
}


def main(argv: list[str]) -> int:
    """Runs the job from absl's flags; what is left of `argv` are options of Apache Beam."""
    arguments = flags.FLAGS
    logging.set_verbosity(logging.INFO)
    missing = [name for name in _REQUIRED if not arguments[name].value]
    if missing:
        return _fail(f"--{missing[0]} is missing: {_REQUIRED[missing[0]]}; see --help")
    if "://" not in arguments.input and not Path(arguments.input).exists():
        return _fail(f"no such file or folder: {arguments.input}; --input takes a corpus folder or a JSONL manifest")
    # Each refused file would otherwise be a warning of TensorFlow too, beside its line in the dead-letter file.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow and Beam take seconds to import: not before the flags are known to be right.
    import tensorflow as tf
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_pipelines.corpus import prepare_corpus

    tf.get_logger().setLevel("ERROR")  # tensorflow-io's resampler warns about itself
    beam_options = PipelineOptions(argv[1:])
    known = beam_options.get_all_options()
    unknown = sorted(beam_options.get_all_options(retain_unknown_options=True).keys() - known.keys())
    stray = [
        argument
        for before, argument in itertools.pairwise(argv)
        if not argument.startswith("-") and (not before.startswith("-") or "=" in before)
    ]
    if stray:
        return _fail(f"unexpected argument {stray[0]!r}: all settings are flags, see --help")
    if unknown and known["runner"] in (None, "FnApiRunner", "DirectRunner"):
        return _fail(f"no flag --{unknown[0].removeprefix('--')}, neither here nor in Apache Beam: see --help")
    try:
        info, made = prepare_corpus(
            arguments.input,
            output=arguments.output,
            splits=arguments.splits,
            num_shards=arguments.num_shards,
            min_seconds=arguments.min_seconds,
            text_profile=arguments.text_profile,
            beam_options=beam_options,
        )
    except ValueError as error:
        return _fail(str(error))
    if not made:
        logging.info("%s is complete already; delete its dataset.json if the input has changed", arguments.output)
    for line in describe(info):
        logging.info("%s", line)
    return 0


def describe(info) -> list[str]:
    """What a finished dataset holds, for people."""
    rejected = ", ".join(f"{count} {reason}" for reason, count in info.rejected.items()) or "none"
    lines = [
        f"{name}: {split.utterances} utterances, {split.hours:.3f} hours, {'' if split.labelled else 'un'}labelled"
        for name, split in sorted(info.splits.items())
    ]
    return [
        *lines,
        f"{info.counts['input']} in the input = {info.counts['written']} written + {info.counts['rejected']} refused",
        f"refused: {rejected}",
    ]


def define_flags() -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    flags.DEFINE_string("input", None, _REQUIRED["input"])
    flags.DEFINE_string("output", None, _REQUIRED["output"])
    flags.DEFINE_list("splits", [], "Splits to take, with commas; all of them by default.")
    flags.DEFINE_integer("num_shards", 4, "Files per split.")
    flags.DEFINE_float("min_seconds", 0.1, "Refuse shorter utterances.")
    flags.DEFINE_enum(
        "text_profile",
        "upper",
        ["upper", "words", "verbatim"],
        "Transcripts: upper case, also without punctuation, as is.",
    )


def _fail(message: str) -> int:
    print(f"prepare_corpus: {message}", file=sys.stderr)  # noqa: T201
    return 1


def _parse(argv: list[str]) -> list[str]:
    flags.FLAGS.set_gnu_getopt(True)  # else "--runner FlinkRunner" would hide the flags behind it
    try:
        return flags.FLAGS(argv, known_only=True)
    except flags.Error as error:
        sys.exit(_fail(str(error)))


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=_parse)
