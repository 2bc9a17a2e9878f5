"""Plans and runs studies: all their trainings, labellings and measurements, and a page with what was found.

    python -m tf_rnnt_kd.study --study=configs/studies/zeineldeen.py --corpus=DIR --workdir=studies_run
    python -m tf_rnnt_kd.study --study=configs/studies/zeineldeen.py --corpus=DIR --workdir=studies_run --plan

The corpus is a folder in LibriSpeech layout with the splits train-labeled, train-unlabeled, dev and test, or those that
the study names. Systems are chosen on dev and measured on test. Started again the command goes on where it stopped;
studies in one work folder share what they have in common. Ends with WORKDIR/NAME/results.json, README.md and pictures.
--plan checks that all jobs fit together, prints them, and says what they will take.
"""

import os
import shlex
import sys
from pathlib import Path

from absl import flags

from tf_rnnt_kd import command_line
from tf_rnnt_kd.stages import StageError, exclusive

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_list("study", None, "Python file with get_study, see tf_rnnt_kd/studies/plan.py; or several.", **add)
    flags.DEFINE_list("corpus", None, "Folder in LibriSpeech layout; or several that hold the splits.", **add)
    flags.DEFINE_string("workdir", "studies_run", "Folder for everything that is made; studies share it.", **add)
    flags.DEFINE_list("seeds", ["1", "2", "3"], "Seeds of the systems.", **add)
    flags.DEFINE_list("domains", [], "NAME=DIR of other audio, for studies of new domains: splits train, test.", **add)
    flags.DEFINE_multi_string("train_flag", [], "Passed on to all trainings, e.g. --strategy=mirrored.", **add)
    flags.DEFINE_multi_string("label_flag", [], "Passed on to all labellings, e.g. --runner=FlinkRunner.", **add)
    flags.DEFINE_integer(
        "jobs", 1, "At once, on an equal share of the cores each; then their output goes to WORKDIR/logs.",
        lower_bound=1, **add,
    )  # fmt: skip
    flags.DEFINE_bool("miniature", False, "Tiny models, few systems and steps: the same code path in minutes.", **add)
    flags.DEFINE_bool("plan", False, "Only checks and prints the jobs, which are done, and what they take.", **add)
    flags.DEFINE_integer("devices", 1, "Of a plan: replicas of each training.", lower_bound=1, **add)
    flags.DEFINE_float(
        "teraflops", None, "Of a plan: what a device sustains; measured on this machine's if not given.",
        lower_bound=1e-9, **add,
    )  # fmt: skip


def _study() -> int:
    command_line.require(FLAGS, ("study", "corpus"))
    if not FLAGS.plan:
        command_line.require_paths(FLAGS, ("corpus",))
    from tf_rnnt_kd.studies import Definition, Runner, Study, planning, report, results

    definitions, seeds = [Definition.load(path) for path in FLAGS.study], _seeds()
    domains = dict(_domain(text) for text in FLAGS.domains)

    def maker(definition):
        return lambda: Study(
            definition, workdir=FLAGS.workdir, corpus=",".join(FLAGS.corpus), seeds=seeds, domains=domains,
            miniature=FLAGS.miniature, train_flags=FLAGS.train_flag, label_flags=FLAGS.label_flag,
        )  # fmt: skip

    if FLAGS.plan:
        for definition in definitions:
            lines = planning.describe(maker(definition)(), devices=FLAGS.devices, teraflops=FLAGS.teraflops)
            sys.stdout.write("\n".join(lines) + "\n")
        return 0
    with exclusive(Path(FLAGS.workdir)):
        for definition in definitions:
            study = Runner(maker(definition), execute=_execute(), at_once=FLAGS.jobs).run()
            folder = Path(FLAGS.workdir, definition.name)
            text = report.write(study, results.summarise(study), folder=folder, commands=[_command(definition)])
            sys.stdout.write(text)
    return 0


def _execute():
    from tf_rnnt_kd import forks

    forks.prepare()
    if FLAGS.jobs == 1:
        return forks.call
    logs, cores = Path(FLAGS.workdir, "logs"), max(1, len(os.sched_getaffinity(0)) // FLAGS.jobs)
    return lambda arguments, *, name: forks.call(arguments, name=name, log=logs / f"{name}.log", cores=cores)


def _seeds() -> list[int]:
    try:
        seeds = [int(seed) for seed in FLAGS.seeds]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds must be different whole numbers, with commas: got {','.join(FLAGS.seeds)!r}")
    return seeds


def _domain(text):
    name, equals, folder = text.partition("=")
    if not name or not equals or not (FLAGS.plan or Path(folder).is_dir()):
        raise ValueError(f"--domains must be NAME=DIR of folders that are there, with commas: got {text!r}")
    return name, folder


def _command(definition) -> str:
    # Names in the place of folders of this machine.
    places = {"corpus": ",".join(f"DIR{number or ''}" for number in range(len(FLAGS.corpus)))}
    places["domains"] = ",".join(f"{text.partition('=')[0]}=DIR" for text in FLAGS.domains)
    given = [f"--study={definition.config}"]
    given += [f"--{name}={value}" for name, value in places.items() if value]
    given += [f"--seeds={','.join(FLAGS.seeds)}", *(["--miniature"] * FLAGS.miniature)]
    return shlex.join(("python", "-m", "tf_rnnt_kd.study", *given))


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_study, define_flags, errors=(ValueError, StageError))


if __name__ == "__main__":
    main()
