"""Trains the vocabulary of a recogniser on the transcripts of a dataset of records.

    python -m tf_rnnt_kd.train_tokenizer --records=run/records --split=train-labeled --output=run/tokenizer

--kind=auto takes whole words where the transcripts have at most 64 different ones, else SentencePiece unigram pieces.
The output holds tokenizer.json, and sentencepiece.model where there is one. Run again with the same settings on the
same records, it does nothing.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
SETTINGS_FILE = "settings.json"


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("records", None, "Dataset of records (beam_pipelines.prepare_corpus).", **add)
    flags.DEFINE_list("split", None, "Labelled split to train on, or several with commas.", **add)
    flags.DEFINE_string("output", None, "Folder to write.", **add)
    flags.DEFINE_enum("kind", "auto", ["auto", "sentencepiece", "characters"], "Kind of vocabulary.", **add)
    flags.DEFINE_enum(
        "model_type", None, ["unigram", "bpe", "char", "word"], "SentencePiece model; unigram if not given.", **add
    )
    flags.DEFINE_integer(
        "vocab_size", 128, "Tokens at most, the blank included (SentencePiece only).", lower_bound=2, **add
    )
    flags.DEFINE_enum("profile", "upper", ["upper", "words", "verbatim"], "Normalisation of the transcripts.", **add)


def _train() -> None:
    required = {
        "records=DIR": "the dataset whose transcripts to train on",
        "split=NAME": "the labelled split to train on, such as train-labeled",
        "output=DIR": "the folder to write the tokenizer to",
    }
    command_line.require(FLAGS, required)
    command_line.require_paths(FLAGS, ("records",))

    # Here, so that --help and mistakes in flags answer at once.
    from tf_rnnt_kd import text
    from tf_rnnt_kd.records.dataset import DatasetInfo, write_atomically

    info = DatasetInfo.load(FLAGS.records)
    settings = {name: FLAGS[name].value for name in ("split", "kind", "model_type", "vocab_size", "profile")}
    settings["records"] = {split: [shard.crc32c for shard in info.split(split).shards] for split in FLAGS.split}
    output = Path(FLAGS.output)
    settings_path = output / SETTINGS_FILE
    if settings_path.exists():
        if json.loads(settings_path.read_text()) != settings:
            raise ValueError(
                f"{output} holds a tokenizer of other settings or records: choose another --output, or delete it"
            )
        tokenizer = text.Tokenizer.load(output)
        sys.stdout.write(f"{output} is already done: {tokenizer.vocab_size} tokens, hash {tokenizer.hash}\n")
        return
    unlabelled = [split for split in FLAGS.split if not info.split(split).labelled]
    if unlabelled:
        raise ValueError(f"{', '.join(unlabelled)} has no transcripts: name a labelled --split")
    paths = [path for split in FLAGS.split for path in info.shard_paths(FLAGS.records, split)]
    tokenizer = text.train_tokenizer(
        (text.normalise(transcript, profile=FLAGS.profile) for transcript in _transcripts(paths)),
        kind=FLAGS.kind,
        model_type=FLAGS.model_type,
        vocab_size=FLAGS.vocab_size,
    )
    tokenizer.save(output)
    write_atomically(settings_path, content=json.dumps(settings, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(
        f"{output}: {tokenizer.kind}, {tokenizer.vocab_size} tokens with the blank, hash {tokenizer.hash}\n"
    )


def _transcripts(paths: list[str]) -> Iterator[str]:
    """The texts of all records in `paths`, in order; records without one are passed over."""
    import tensorflow as tf
    from tqdm import tqdm

    spec = {"text": tf.io.VarLenFeature(tf.string)}  # the audio beside it is never copied
    dataset = (
        tf.data.TFRecordDataset(paths).batch(64).map(lambda batch: tf.io.parse_example(batch, spec)["text"].values)
    )
    for texts in tqdm(dataset.as_numpy_iterator(), desc="transcripts", unit=" batches", leave=False, disable=None):
        yield from (value.decode() for value in texts)


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_train, define_flags)


if __name__ == "__main__":
    main()
