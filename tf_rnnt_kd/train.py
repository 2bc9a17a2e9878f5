"""Trains an RNN-T on records, alone or as a student of stored teacher knowledge.

    python -m tf_rnnt_kd.train --config=configs/demo.py:teacher --workdir=run/teacher \\
        --train=run/records:train-labeled --dev=run/records:dev --tokenizer=run/tokenizer

Every setting of the config can be changed on the command line: --config.train.steps=2000. Started again with the same
flags it resumes from the last checkpoint.
"""

import os
import sys

from absl import app, flags
from ml_collections import config_flags

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file(
    "config", None, "Settings: a Python file with get_config(), as FILE or FILE:VARIANT.", lock_config=True
)
flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and the best model.")
flags.DEFINE_list("train", None, "Records to train on: DIR:split[,DIR:split...].")
flags.DEFINE_string("dev", None, "Labelled records that choose the best weights: DIR:split.")
flags.DEFINE_string("tokenizer", None, "Tokenizer folder, from tf_rnnt_kd.train_tokenizer.")


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: everything is a flag, see --help")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        missing = [f"--{name}" for name in ("config", "workdir", "train", "dev", "tokenizer") if not FLAGS[name].value]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing; see --help for an example")
        # Here, so that --help and mistakes in flags answer at once.
        from tf_rnnt_kd.records.reader import Source
        from tf_rnnt_kd.training.trainer import train

        train(
            config=FLAGS.config,
            workdir=FLAGS.workdir,
            train_sources=[Source.parse(text) for text in FLAGS.train],
            dev_source=Source.parse(FLAGS.dev),
            tokenizer_dir=FLAGS.tokenizer,
        )
    except ValueError as error:
        sys.stderr.write(f"train: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    app.run(main)
