"""Audio files and transcripts in, checked utterance records out.

    python -m beam_pipelines.prepare_corpus --input=LibriSpeech --output=run/records

Input is a folder in LibriSpeech or Libri-Light layout, NeMo manifests (JSONL), Kaldi data folders, Common Voice, a
pattern of audio files such as 'DIR/**/*.mp3', or utterance records; see docs/how_to/own_corpus.md. Unlabelled
recordings that are long are cut in their pauses.

Output is OUTPUT/SPLIT/*.tfrecord, 16 kHz mono, report.html for people and, written last, dataset.json. What cannot be
used is counted by reason and listed in dead_letter.jsonl. Started again the command does nothing if the dataset is
complete, else it goes on where it stopped. All other flags go to Apache Beam, for example --runner=FlinkRunner;
without --runner the job runs in this process.
"""

from pathlib import Path

from absl import flags

from beam_pipelines import command_line

_REQUIRED = {
    "input": "Folder of the corpus, a manifest or a pattern.",
    "output": "Folder for the records.",
}


def run(values: flags.FlagValues, beam_arguments: list[str]) -> None:
    """The job; every ValueError is one line for the user."""
    for path in values.input:
        if not set("*?[") & set(path) and "://" not in path and not Path(path).exists():
            raise ValueError(
                f"no such file or folder: {path}; --input takes a corpus folder, a JSONL manifest or a pattern"
            )
    segment_seconds = _range(values.segment_seconds)
    # TensorFlow and Beam take seconds to import: not before the flags are known to be right.
    import tensorflow as tf

    from beam_pipelines.corpus import list_corpus, prepare_corpus
    from beam_pipelines.transforms import progress

    tf.get_logger().setLevel("ERROR")  # tensorflow-io's resampler warns about itself
    options = command_line.beam_options(beam_arguments)
    for line in list_corpus(values.input, format=values.format, splits=values.splits, count=values.dry_run):
        progress.say(line)
    if values.dry_run:
        return
    info, made = prepare_corpus(
        values.input,
        output=values.output,
        format=values.format,
        splits=values.splits,
        num_shards=values.num_shards,
        min_seconds=values.min_seconds,
        max_seconds=values.max_seconds,
        text_profile=values.text_profile,
        segment=values.segment,
        segment_seconds=segment_seconds,
        level_dbfs=values.level_dbfs,
        keep_duplicates=values.keep_duplicates,
        decoder_processes=values.decoder_processes,
        beam_options=options,
    )
    if not made:
        progress.say(f"{values.output} is complete already; delete its dataset.json if the input has changed")
    for line in describe(info):
        progress.say(line)
    progress.say(f"for people: {values.output}/report.html")


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


def _range(given: list[str]) -> tuple[float, float]:
    try:
        least, longest = (float(value) for value in given)
    except ValueError as error:
        raise ValueError(f"--segment_seconds must be MIN,MAX as 2,30: got {','.join(given)}") from error
    return least, longest


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_multi_string("input", None, _REQUIRED["input"], **add)
    flags.DEFINE_string("output", None, _REQUIRED["output"], **add)
    flags.DEFINE_enum(
        "format",
        "auto",
        ["auto", "librispeech", "libri_light", "nemo", "kaldi", "common_voice", "audio", "records"],
        "Of the input.", **add
    )
    flags.DEFINE_list("splits", [], "Splits to take, with commas; all of them by default.", **add)
    flags.DEFINE_bool("dry_run", False, "Only say what would be read.", **add)
    flags.DEFINE_integer("num_shards", 4, "Files per split.", **add)
    flags.DEFINE_float("min_seconds", 0.1, "Refuse shorter utterances.", **add)
    flags.DEFINE_float("max_seconds", None, "Refuse longer utterances.", **add)
    flags.DEFINE_string(
        "text_profile",
        None,
        "Transcripts: upper case (upper), also without punctuation (words), as is (verbatim), in the letters of a "
        "language (en, de, ...), or in those of each utterance's own (by_domain). By default upper, and as is those of "
        "records.", **add
    )
    flags.DEFINE_enum(
        "segment",
        "auto",
        ["auto", "never", "always"],
        "Cut unlabelled audio in its pauses: where it is too long, never, always.", **add
    )
    flags.DEFINE_list("segment_seconds", ["2", "30"], "MIN,MAX: lengths of what is cut.", **add)
    flags.DEFINE_float("level_dbfs", None, "Bring all utterances to this level of active speech, as -26.", **add)
    flags.DEFINE_bool("keep_duplicates", False, "Keep the same audio in more than one place.", **add)
    flags.DEFINE_integer(
        "decoder_processes", None, "Per worker; 0: the worker itself. One per core by default.", **add
    )


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(run, define_flags, required=_REQUIRED)


if __name__ == "__main__":
    main()
