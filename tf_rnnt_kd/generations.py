"""Noisy-student generations: label, filter, train, measure, promote, and again with what was promoted.

    python -m tf_rnnt_kd.generations --rounds=3 --teacher_workdir=run/teacher --config=configs/demo.py:student_hard \\
        --records=run/records --tokenizer=run/tokenizer --workdir=run/generations --label_flag=--min_confidence=0.6

In each round the teacher labels the unlabelled split, a student is trained on that and on the labelled one, and becomes
the teacher of the next round if it improves on dev with at least the probability of --promote_above (paired bootstrap);
else the rounds end. Started again the command goes on where it stopped. WORKDIR/README.md and results.json tell of all
rounds, WORKDIR/promoted.json names the last teacher's training and its SavedModel.
"""

import json
import sys
from pathlib import Path

from absl import flags

from tf_rnnt_kd import command_line
from tf_rnnt_kd.stages import StageError, exclusive, write_atomically

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_integer("rounds", 3, "Generations at most.", lower_bound=1, **add)
    flags.DEFINE_string("teacher_workdir", None, "Folder of a complete training: the first teacher.", **add)
    flags.DEFINE_string("config", None, "Settings of the students: FILE:VARIANT.", **add)
    flags.DEFINE_string("records", None, "Utterance records with all splits.", **add)
    flags.DEFINE_string("tokenizer", None, "Tokenizer folder.", **add)
    flags.DEFINE_string("labelled_split", "train-labeled", "Split with transcripts.", **add)
    flags.DEFINE_string("unlabelled_split", "train-unlabeled", "Split to be labelled.", **add)
    flags.DEFINE_string("dev_split", "dev", "Split that decides.", **add)
    flags.DEFINE_string("test_split", "test", "Split to report.", **add)
    flags.DEFINE_string(
        "artifacts", "hard", "What the records hold of the teacher, see beam_pipelines.pseudo_label.", **add
    )
    flags.DEFINE_multi_string("label_flag", [], "Passed on to pseudo_label: filters, runner.", **add)
    flags.DEFINE_float(
        "promote_above", 0.9, "Probability of improvement from which a student is promoted.", 0.0, 1.0, **add
    )
    flags.DEFINE_bool("warm_start", False, "Students start from the weights of their teacher.", **add)
    flags.DEFINE_bool("dry_run", False, "Only check the next round's commands, and print them.", **add)
    flags.DEFINE_string("workdir", None, "Folder for everything that is made.", **add)


def _generations() -> int:
    command_line.require(FLAGS, ("teacher_workdir", "config", "records", "tokenizer", "workdir"))
    command_line.require_paths(FLAGS, ("teacher_workdir", "records", "tokenizer"))
    from tf_rnnt_kd import forks
    from tf_rnnt_kd.studies import Definition, Runner, Study, planning
    from tf_rnnt_kd.studies.rounds import Rounds, load_config

    rounds = Rounds(
        teacher=FLAGS.teacher_workdir, count=FLAGS.rounds, labelled=FLAGS.labelled_split,
        unlabelled=FLAGS.unlabelled_split, dev=FLAGS.dev_split, test=FLAGS.test_split,
        artifacts=FLAGS.artifacts, label_flags=tuple(FLAGS.label_flag),
        promote_above=FLAGS.promote_above, warm_start=FLAGS.warm_start,
    )  # fmt: skip
    question = f"Does what a generation says of `{FLAGS.unlabelled_split}` make the next one better?"
    definition = Definition(
        "generations", FLAGS.config, "Generations", question, lambda _: load_config(FLAGS.config), rounds.declare
    )

    def make():
        return Study(
            definition, workdir=FLAGS.workdir, records=FLAGS.records, tokenizer=FLAGS.tokenizer, seeds=(1,),
            dev=FLAGS.dev_split,
        )  # fmt: skip

    if FLAGS.dry_run:
        sys.stdout.write("\n".join(planning.describe(make())) + "\n")
        return 0
    with exclusive(Path(FLAGS.workdir)):
        _report(Runner(make, execute=forks.call).run(), rounds)
    return 0


def _report(study, rounds) -> None:
    from tf_rnnt_kd.studies import report, results

    folder = Path(study.workdir)
    promoted = {"workdir": rounds.last.folder, "saved_model": study.export(rounds.last)}
    write_atomically(folder / "promoted.json", content=json.dumps(promoted, indent=1) + "\n")
    summary = results.summarise(study, split=FLAGS.test_split) | {"rounds": rounds.history}
    commands = [job.command for job in study.jobs.values()]
    sys.stdout.write(report.write(study, summary, folder=folder, commands=commands, about=rounds.lines()))


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_generations, define_flags, errors=(ValueError, StageError))


if __name__ == "__main__":
    main()
