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

from pathlib import Path

from absl import flags

from beam_pipelines import command_line

_REQUIRED = {
    "input": "Folder of the corpus, or a JSONL manifest",
    "output": "Folder for the records",
}


def run(values: flags.FlagValues, beam_arguments: list[str]) -> None:
    """The job; every ValueError is one line for the user."""
    if "://" not in values.input and not Path(values.input).exists():
        raise ValueError(f"no such file or folder: {values.input}; --input takes a corpus folder or a JSONL manifest")
    # TensorFlow and Beam take seconds to import: not before the flags are known to be right.
    import tensorflow as tf

    from beam_pipelines.corpus import prepare_corpus
    from beam_pipelines.transforms import progress

    tf.get_logger().setLevel("ERROR")  # tensorflow-io's resampler warns about itself
    info, made = prepare_corpus(
        values.input,
        output=values.output,
        splits=values.splits,
        num_shards=values.num_shards,
        min_seconds=values.min_seconds,
        text_profile=values.text_profile,
        beam_options=command_line.beam_options(beam_arguments),
    )
    if not made:
        progress.say(f"{values.output} is complete already; delete its dataset.json if the input has changed")
    for line in describe(info):
        progress.say(line)


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


if __name__ == "__main__":
    define_flags()
    command_line.start(run, required={name: f"{meaning}; see --help" for name, meaning in _REQUIRED.items()})
