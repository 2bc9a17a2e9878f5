"""Plans and runs a study: all its trainings, labellings and measurements, and a page with what it found.

    python -m tf_rnnt_kd.study --study=configs/studies/zeineldeen.py --corpus=DIR --workdir=studies_run
    python -m tf_rnnt_kd.study --study=configs/studies/zeineldeen.py --corpus=DIR --workdir=studies_run --plan

The corpus is a folder in LibriSpeech layout with the splits train-labeled, train-unlabeled, dev and test. Systems are
chosen on dev and measured on test. Started again the command goes on where it stopped; studies in one work folder share
what they have in common. Ends with WORKDIR/NAME/results.json and WORKDIR/NAME/README.md.
"""

import collections
import json
import shlex
import subprocess
import sys
from pathlib import Path

from absl import flags

from tf_rnnt_kd import command_line
from tf_rnnt_kd.stages import StageError, duration, exclusive, write_atomically

FLAGS = flags.FLAGS
flags.DEFINE_string("study", None, "Python file with get_study, see tf_rnnt_kd/studies/plan.py.")
flags.DEFINE_string("corpus", None, "Folder in LibriSpeech layout.")
flags.DEFINE_string("workdir", "studies_run", "Folder for everything that is made; studies share it.")
flags.DEFINE_list("seeds", ["1", "2", "3"], "Seeds of the systems.")
flags.DEFINE_bool("plan", False, "Only prints the jobs, and which are done.")
flags.DEFINE_bool("miniature", False, "Tiny models and few steps: the same code path in minutes.")


def _study() -> int:
    command_line.require(FLAGS, ("study", "corpus"))
    from tf_rnnt_kd.studies import Definition, Runner, Study

    definition, seeds = Definition.load(FLAGS.study), [int(seed) for seed in FLAGS.seeds]

    def make():
        return Study(definition, workdir=FLAGS.workdir, corpus=FLAGS.corpus, seeds=seeds, miniature=FLAGS.miniature)

    if FLAGS.plan:
        _print_plan(make())
        return 0
    with exclusive(Path(FLAGS.workdir)):
        study = Runner(make).run()
        _report(study)
    return 0


def _print_plan(study) -> None:
    from tf_rnnt_kd.studies import run

    undecided = study.declare()
    left = []
    for job in study.jobs.values():
        marker = run.done(study.workdir, job)
        left += [] if marker else [job]
        sys.stdout.write(f"{'done' if marker else '    '}  {job.title}\n      {job.command}\n")
    if undecided:
        sys.stdout.write(f"and what depends on {undecided}\n")
    kinds = collections.Counter(job.kind for job in study.jobs.values())
    steps = sum(job.size for job in left if job.kind == "training")
    seconds = run.remaining(left, finished=run.markers(study.workdir))
    time = "time not known before one of each kind is done" if seconds is None else f"about {duration(seconds)}"
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    sys.stdout.write(f"\njobs: {counts}; {len(left)} are left, with {steps} training steps, {time}\n")


def _report(study) -> None:
    from tf_rnnt_kd.studies import page, results, run

    folder = Path(study.workdir, study.definition.name)
    summary = results.summarise(study)
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "results.json", content=json.dumps(summary, indent=1, allow_nan=False) + "\n")
    page.draw(summary, folder / "word_error_rates.png")
    seconds = sum((run.done(study.workdir, job) or {}).get("seconds", 0.0) for job in study.jobs.values())
    about = [f"Revision {_revision()}. All jobs together took {duration(seconds)} on this machine."]
    command = (
        "python",
        "-m",
        "tf_rnnt_kd.study",
        f"--study={FLAGS.study}",
        "--corpus=DIR",
        f"--seeds={','.join(FLAGS.seeds)}",
    )
    text = page.render(summary, picture="word_error_rates.png", commands=[shlex.join(command)], about=about)
    write_atomically(folder / "README.md", content=text)
    sys.stdout.write(
        "\n" + "\n".join([*page.table(summary), "", *page.claims(summary)]) + f"\n\nThe page: {folder / 'README.md'}\n"
    )


def _revision() -> str:
    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "unknown"
    return git.stdout.strip() or "unknown"


if __name__ == "__main__":
    command_line.start(_study, errors=(ValueError, StageError))
