"""Trains an RNN-T on records, alone or as a student of stored teacher knowledge.

    python -m tf_rnnt_kd.train --config=configs/demo.py:teacher --workdir=run/teacher \\
        --train=run/records:train-labeled --dev=run/records:dev --tokenizer=run/tokenizer

Every setting of the config can be changed on the command line: --config.train.steps=2000. Started again with the same
flags it resumes from the last checkpoint that is whole. Exit status:

    0   complete
    1   a mistake in flags, config or data; the message says which
    69  another worker of several is gone: start all of them again
    74  the disk is full; the last checkpoint is whole: make room, start again
    75  stopped by SIGTERM or SIGINT (Ctrl-C) after saving the step it was at: start again to go on
"""

from absl import flags
from ml_collections import config_flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file(
    "config", None, "Settings: a Python file with get_config(), as FILE or FILE:VARIANT.", lock_config=True
)
flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and the best model.")
flags.DEFINE_list("train", None, "Records to train on: DIR:split[@WEIGHT][,DIR:split...].")
flags.DEFINE_string("dev", None, "Labelled records that choose the best weights: DIR:split.")
flags.DEFINE_string("tokenizer", None, "Tokenizer folder, from tf_rnnt_kd.train_tokenizer.")
flags.DEFINE_enum(
    "strategy", "none", ("none", "mirrored", "multi_worker_mirrored", "tpu"),
    "Devices: one; all of this machine; all machines that TF_CONFIG lists, one process on each; a TPU (never tried).",
)
flags.DEFINE_string("tpu", "", "Name or address of the TPU; the one of this machine if not given.")
flags.DEFINE_integer(
    "virtual_cpus", 0, "Cuts the CPU in so many devices, to try --strategy=mirrored without GPUs.", lower_bound=0
)


def _train() -> int:
    command_line.require(FLAGS, ("config", "workdir", "train", "dev", "tokenizer"))
    # Here, so that --help and mistakes in flags answer at once.
    from tf_rnnt_kd.records.reader import Source
    from tf_rnnt_kd.training.faults import TrainingFault
    from tf_rnnt_kd.training.strategy import build_strategy
    from tf_rnnt_kd.training.trainer import train

    strategy = build_strategy(FLAGS.strategy, tpu=FLAGS.tpu, virtual_cpus=FLAGS.virtual_cpus)
    try:
        train(
            config=FLAGS.config,
            workdir=FLAGS.workdir,
            train_sources=[Source.parse(text, weighted=True) for text in FLAGS.train],
            dev_source=Source.parse(FLAGS.dev),
            tokenizer_dir=FLAGS.tokenizer,
            strategy=strategy,
        )
    except TrainingFault as fault:
        command_line.fail(str(fault), program="train")
        return fault.exit_status
    return 0


if __name__ == "__main__":
    command_line.start(_train)
