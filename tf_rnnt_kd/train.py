"""Trains an RNN-T on records, alone or as a student of stored teacher knowledge.

    python -m tf_rnnt_kd.train --config=configs/demo.py:teacher --workdir=run/teacher \\
        --train=run/records:train-labeled --dev=run/records:dev --tokenizer=run/tokenizer

Every setting of the config can be changed on the command line: --config.train.steps=2000. Started again with the same
flags it resumes from the last checkpoint.
"""

from absl import flags
from ml_collections import config_flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file(
    "config", None, "Settings: a Python file with get_config(), as FILE or FILE:VARIANT.", lock_config=True
)
flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and the best model.")
flags.DEFINE_list("train", None, "Records to train on: DIR:split[,DIR:split...].")
flags.DEFINE_string("dev", None, "Labelled records that choose the best weights: DIR:split.")
flags.DEFINE_string("tokenizer", None, "Tokenizer folder, from tf_rnnt_kd.train_tokenizer.")


def _train() -> None:
    command_line.require(FLAGS, ("config", "workdir", "train", "dev", "tokenizer"))
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


if __name__ == "__main__":
    command_line.start(_train)
