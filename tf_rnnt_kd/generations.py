"""Noisy-student generations: label, filter, train, measure, promote, and again with what was promoted.

    python -m tf_rnnt_kd.generations --rounds=3 --teacher=run/teacher --config=configs/demo.py:student_hard \\
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
flags.DEFINE_integer("rounds", 3, "Generations at most.", lower_bound=1)
flags.DEFINE_string("teacher", None, "Folder of a complete training: the first teacher.")
flags.DEFINE_string("config", None, "Settings of the students: FILE:VARIANT.")
flags.DEFINE_string("records", None, "Utterance records with all splits.")
flags.DEFINE_string("tokenizer", None, "Tokenizer folder.")
flags.DEFINE_string("labelled", "train-labeled", "Split with transcripts.")
flags.DEFINE_string("unlabelled", "train-unlabeled", "Split to be labelled.")
flags.DEFINE_string("dev", "dev", "Split that decides.")
flags.DEFINE_string("test", "test", "Split to report.")
flags.DEFINE_string("artifacts", "hard", "What the records hold of the teacher, see beam_pipelines.pseudo_label.")
flags.DEFINE_multi_string("label_flag", [], "Passed on to pseudo_label: filters, runner.")
flags.DEFINE_float("promote_above", 0.9, "Probability of improvement from which a student is promoted.", 0.0, 1.0)
flags.DEFINE_bool("warm_start", False, "Students start from the weights of their teacher.")
flags.DEFINE_string("workdir", None, "Folder for everything that is made.")


def _generations() -> int:
    command_line.require(FLAGS, ("teacher", "config", "records", "tokenizer", "workdir"))
    from tf_rnnt_kd.studies import Definition, Runner, Study
    from tf_rnnt_kd.studies.rounds import Rounds, load_config

    rounds = Rounds(
        teacher=FLAGS.teacher, count=FLAGS.rounds, labelled=FLAGS.labelled, unlabelled=FLAGS.unlabelled, dev=FLAGS.dev,
        test=FLAGS.test, artifacts=FLAGS.artifacts, label_flags=tuple(FLAGS.label_flag),
        promote_above=FLAGS.promote_above, warm_start=FLAGS.warm_start,
    )  # fmt: skip
    question = f"Does what a generation says of `{FLAGS.unlabelled}` make the next one better?"
    definition = Definition(
        "generations", FLAGS.config, "Generations", question, lambda _: load_config(FLAGS.config), rounds.declare
    )

    def make():
        return Study(
            definition, workdir=FLAGS.workdir, records=FLAGS.records, tokenizer=FLAGS.tokenizer, seeds=(1,),
            dev=FLAGS.dev,
        )  # fmt: skip

    with exclusive(Path(FLAGS.workdir)):
        _report(Runner(make).run(), rounds)
    return 0


def _report(study, rounds) -> None:
    from tf_rnnt_kd.studies import page, results

    folder = Path(study.workdir)
    summary = results.summarise(study, split=FLAGS.test) | {"rounds": rounds.history}
    write_atomically(folder / "results.json", content=json.dumps(summary, indent=1, allow_nan=False) + "\n")
    promoted = {"workdir": rounds.last.folder, "saved_model": study.export(rounds.last)}
    write_atomically(folder / "promoted.json", content=json.dumps(promoted, indent=1) + "\n")
    page.draw(summary, folder / "word_error_rates.png")
    commands = [job.command for job in study.jobs.values()]
    text = page.render(summary, picture="word_error_rates.png", commands=commands, about=rounds.lines())
    write_atomically(folder / "README.md", content=text)
    sys.stdout.write(
        "\n" + "\n".join([*page.table(summary), "", *rounds.lines()]) + f"\n\nThe page: {folder / 'README.md'}\n"
    )


if __name__ == "__main__":
    command_line.start(_generations, errors=(ValueError, StageError))
