"""Trains an RNN-T on records, alone or as a student of stored teacher knowledge.

    python -m tf_rnnt_kd.train --config=configs/demo.py:teacher --workdir=run/teacher \\
        --train=run/records:train-labeled --dev=run/records:dev --tokenizer=run/tokenizer

Every setting of the config can be changed on the command line: --config.train.steps=2000. With --dry_run nothing is
written and no step is taken: it reads the records, builds the model, and says what it would do and how much memory
that needs. Started again with the same flags it resumes from the last checkpoint that is whole. Exit status:

    0   complete
    1   a mistake in flags, config or data; the message says which
    69  another worker of several is gone: start all of them again
    74  the disk is full; the last checkpoint is whole: make room, start again
    75  stopped by SIGTERM or SIGINT (Ctrl-C) after saving the step it was at: start again to go on
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from tf_rnnt_kd import command_line, config_files

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    config_flags.DEFINE_config_file(
        "config", None, "Settings: a Python file with get_config(), as FILE or FILE:VARIANT.", lock_config=True, **add
    )
    values["config"].parser = config_files.Parser(values["config"].parser)
    flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and the best model.", **add)
    flags.DEFINE_list("train", None, "Records to train on: DIR:split[@WEIGHT][,DIR:split...].", **add)
    flags.DEFINE_string("dev", None, "Labelled records that choose the best weights: DIR:split.", **add)
    flags.DEFINE_string("tokenizer", None, "Tokenizer folder, from tf_rnnt_kd.train_tokenizer.", **add)
    flags.DEFINE_enum(
        "strategy", "none", ("none", "mirrored", "multi_worker_mirrored", "tpu"),
        "Devices: one; all of this machine; all machines of TF_CONFIG, with one process on each; a TPU (never tried).",
        **add,
    )
    flags.DEFINE_bool("dry_run", False, "Only say what would be done, and what memory it needs.", **add)
    flags.DEFINE_string("tpu", "", "Name or address of the TPU; the one of this machine if not given.", **add)
    flags.DEFINE_integer(
        "virtual_cpus", 0, "Cuts the CPU in so many devices, to try --strategy=mirrored without GPUs.", lower_bound=0,
        **add,
    )


def _train() -> int:
    command_line.require(FLAGS, ("config", "workdir", "train", "dev", "tokenizer"))
    command_line.require_paths(FLAGS, ("tokenizer",))
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
            dry_run=FLAGS.dry_run,
        )
    except TrainingFault as fault:
        command_line.fail(str(fault), program="train")
        return fault.exit_status
    return 0


def _parse(argv: Sequence[str]) -> Sequence[str]:
    """absl's parser, with mistakes in settings as its errors, of one line each."""
    try:
        return FLAGS(argv)
    except AttributeError as error:  # ConfigDict, where a setting is none of its keys
        if not (error.args and isinstance(error.args[0], KeyError)):
            raise
        raise flags.Error(f"--config has no such setting: {' '.join(str(error.args[0].args[0]).split())}") from error
    except flags.IllegalFlagValueError as error:
        first, *_, last = str(error).strip().splitlines() * 2
        kind, _, reason = last.partition(": ")
        if kind != "ValueError":  # what a settings file itself refuses comes with the whole traceback
            raise
        raise flags.Error(f"{first.partition(' Error whilst')[0]} {reason}") from error


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_train, define_flags, flags_parser=_parse)


if __name__ == "__main__":
    main()
