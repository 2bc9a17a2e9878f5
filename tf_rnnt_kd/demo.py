"""The whole way, from audio files to a served student: each stage is a binary of its own, this one only calls them.

    python -m tf_rnnt_kd.demo --workdir=demo_run                       # on speech that it synthesises itself
    python -m tf_rnnt_kd.demo --workdir=demo_run --corpus=DIR          # LibriSpeech layout, with the four splits
                                                                       # train-labeled, train-unlabeled, dev, test

Started again it goes on where it stopped, wherever it was killed: the stages themselves know what they have finished;
stages.json in the work folder only spares their start. All commands are printed, and kept in commands.jsonl; with
--dry_run they are printed only.
"""

import hashlib
import json
import sys
from pathlib import Path

from absl import flags

from tf_rnnt_kd import command_line, config_files
from tf_rnnt_kd.splits import DEV, LABELLED, SPLITS, TEST, UNLABELLED
from tf_rnnt_kd.stages import Runner, Stage, StageError, exclusive, say, write_atomically

FLAGS = flags.FLAGS
STUDENTS = {  # name of the variant in configs/demo.py, after `student_`: title
    "labeled": "Student on the labelled split alone",
    "hard": "Student with hard pseudo-labels",
    "distill": "Student with hard pseudo-labels and collapsed soft distillation",
}
BASELINE = "student-labeled"
_TRANSCRIBED_FILES = 3
# Synthetic voices are learnt sooner than people.
_SYNTHETIC_STEPS = 500


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("workdir", "demo_run", "Folder for everything that is made.", **add)
    flags.DEFINE_string(
        "corpus", None, "Folder with the four splits in LibriSpeech layout; synthesised if not given.", **add
    )
    flags.DEFINE_multi_string(
        "synthesize_flag", [], "Passed on to synthesize_corpus, e.g. --synthesize_flag=--hours=0.1", **add
    )
    flags.DEFINE_multi_string("teacher_flag", [], "Passed on to the teacher's training.", **add)
    flags.DEFINE_multi_string("student_flag", [], "Passed on to each student's training.", **add)
    flags.DEFINE_bool("dry_run", False, "Only print the commands.", **add)


def _demo() -> int:
    workdir = Path(FLAGS.workdir)
    if FLAGS.dry_run:
        _print_commands(workdir)
        return 0
    from tf_rnnt_kd import forks

    try:
        with exclusive(workdir):
            corpus = _claim_corpus(workdir)
            Runner(workdir, stages=lambda: plan(workdir, corpus=corpus), execute=forks.call).run()
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: interrupted; the same command goes on from here\n")
        return 130
    sys.stdout.write(f"\nThe report: {workdir / 'report.html'}\n")
    return 0


def _print_commands(workdir: Path) -> None:
    stages = plan(workdir, corpus=_given_corpus())
    for number, stage in enumerate(stages, 1):
        say(f"[{number}/{len(stages)}] {stage.title}\n      {stage.command}")


def plan(workdir: Path, *, corpus: Path | None) -> list[Stage]:
    """The stages in order. What depends on results (which student is best) is a placeholder until they are there."""
    records, tokenizer, results = f"{workdir}/records", f"{workdir}/tokenizer", f"{workdir}/results"
    teacher, exported_teacher = f"{workdir}/teacher", f"{workdir}/exported/teacher"
    pseudo, soft = f"{workdir}/pseudo_labels", f"{workdir}/soft_labels"
    stages, steps = [], []
    if corpus is None:
        steps = [f"--config.train.steps={_SYNTHETIC_STEPS}"]
        corpus = workdir / "corpus"
        arguments = ("tf_rnnt_kd.synthesize_corpus", f"--output={corpus}", *FLAGS.synthesize_flag)
        stages.append(Stage("synthesize", "Synthesise a corpus", "corpus", arguments))
    prepare = (
        "beam_pipelines.prepare_corpus",
        f"--input={corpus}",
        f"--output={records}",
        f"--splits={','.join(SPLITS)}",
    )
    pieces = ("tf_rnnt_kd.train_tokenizer", f"--records={records}", f"--split={LABELLED}", f"--output={tokenizer}")
    stages += [
        Stage("prepare", "Audio files to utterance records", "corpus", prepare),
        Stage("tokenizer", "Train the tokenizer", "training", pieces),
        _training("teacher", "Train the teacher (full context) on the labelled split", variant="teacher",
                  workdir=workdir, train=[f"{records}:{LABELLED}"], extra=[*steps, *FLAGS.teacher_flag]),
        Stage("export-teacher", "Export the teacher", "export", (
            "tf_rnnt_kd.export", f"--workdir={teacher}", f"--output={exported_teacher}")),
        _labelling("pseudo-labels", "The teacher labels the unlabelled split", workdir=workdir, split=UNLABELLED,
                   output=pseudo, targets="hypothesis"),
        _labelling("soft-labels", "The teacher's lattices for the labelled split", workdir=workdir, split=LABELLED,
                   output=soft, targets="reference"),
    ]  # fmt: skip
    train = {
        "labeled": [f"{records}:{LABELLED}"],
        "hard": [f"{records}:{LABELLED}", f"{pseudo}:{UNLABELLED}"],
        "distill": [f"{soft}:{LABELLED}", f"{pseudo}:{UNLABELLED}"],
    }
    for variant, title in STUDENTS.items():
        stages.append(
            _training(f"student-{variant}", title, variant=f"student_{variant}", workdir=workdir,
                      train=train[variant], extra=[*steps, *FLAGS.student_flag])
        )  # fmt: skip
    systems = ["teacher", *(f"student-{variant}" for variant in STUDENTS)]
    for name in systems:
        arguments = (f"--workdir={workdir}/{name}", f"--records={records}", f"--split={TEST}", f"--name={name}")
        compare = () if name in ("teacher", BASELINE) else (f"--compare={results}/{BASELINE}.json",)
        arguments = ("tf_rnnt_kd.evaluate", *arguments, *compare, f"--json={results}/{name}.json")
        stages.append(Stage(f"evaluate-{name}", f"Measure {name} on {TEST}", "evaluation", arguments))
    best = best_student(workdir)
    exported_student = f"{workdir}/exported/{best}"
    listen = [
        f"--model={exported_student}",
        *_some_files(corpus / TEST, result=workdir / "results" / "teacher.json"),
    ]
    report = (
        "tf_rnnt_kd.report",
        "--results=" + ",".join(f"{results}/{name}.json" for name in systems),
        f"--baseline={BASELINE}",
        "--trainings=" + ",".join(f"{workdir}/{name}" for name in systems),
        f"--pseudo_labels={pseudo},{soft}",
        f"--teacher={exported_teacher}",
        f"--student={exported_student}",
        f"--records={records}",
        f"--split={TEST}",
        f"--commands={workdir}/commands.jsonl",
        f"--output={workdir}",
    )
    return [
        *stages,
        Stage("export-student", f"Export the best student on {DEV}: {best}", "export", (
            "tf_rnnt_kd.export", f"--workdir={workdir}/{best}", f"--output={exported_student}")),
        Stage("transcribe", "Transcribe some files with it", "export", ("tf_rnnt_kd.transcribe", *listen), always=True),
        Stage("report", "Write the report", "report", report, always=True),
    ]  # fmt: skip


def best_student(workdir: Path) -> str:
    """Name of the student with the lowest word error rate on dev; `BEST` before all of them are trained."""
    rates = {}
    for variant in STUDENTS:
        path = workdir / f"student-{variant}" / "best" / "best.json"
        if not path.exists() or not (workdir / f"student-{variant}" / "done.json").exists():
            return "BEST"
        rates[f"student-{variant}"] = json.loads(path.read_text())["dev_wer"]
    return min(rates, key=rates.__getitem__)


def _training(name: str, title: str, *, variant: str, workdir: Path, train: list[str], extra: list[str]) -> Stage:
    arguments = (
        "tf_rnnt_kd.train",
        f"--config={_config_folder()}/demo.py:{variant}",
        f"--workdir={workdir}/{name}",
        "--train=" + ",".join(train),
        f"--dev={workdir}/records:{DEV}",
        f"--tokenizer={workdir}/tokenizer",
        *extra,
    )
    return Stage(name, title, "training", arguments)


def _labelling(key: str, title: str, *, workdir: Path, split: str, output: str, targets: str) -> Stage:
    arguments = (
        "beam_pipelines.pseudo_label",
        f"--records={workdir}/records",
        f"--split={split}",
        f"--teacher={workdir}/exported/teacher",
        f"--output={output}",
        "--artifacts=hard,collapsed,factored",
        f"--targets={targets}",
        *([f"--tokenizer={workdir}/tokenizer"] if targets == "reference" else []),
    )
    return Stage(key, title, "pseudo_labels", arguments)


def _config_folder() -> Path:
    """As short as it can be said from here."""
    folder = config_files.FOLDER
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _some_files(folder: Path, *, result: Path) -> list[str]:
    """The first file of some speakers, of those that were good enough to be measured on."""
    if not result.exists():
        return []
    good = {row["id"] for row in json.loads(result.read_text())["per_utterance"]}
    of_speaker: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.stem in good:
            of_speaker.setdefault(path.relative_to(folder).parts[0], path)
    return [str(path) for path in [*of_speaker.values()][:_TRANSCRIBED_FILES]]


def _claim_corpus(workdir: Path) -> Path | None:
    """The corpus to use, None where it is to be synthesised.

    Raises:
      StageError: it lacks a split, or the work folder was made from another corpus.
    """
    corpus = _given_corpus()
    claim = {"corpus": str(corpus.resolve()), "files": _fingerprint(corpus)} if corpus else {"corpus": "synthesised"}
    path = workdir / "corpus.json"
    if not path.exists():
        write_atomically(path, content=json.dumps(claim))
    made_from = json.loads(path.read_text())
    if made_from != claim:
        same = made_from["corpus"] == claim["corpus"]
        raise StageError(
            f"{workdir} was made from {'an earlier state of ' if same else ''}{made_from['corpus']}, not from "
            f"{'the present ' if same else ''}{claim['corpus']}: choose another folder (make demo WORKDIR=DIR), "
            "or remove this one"
        )
    return corpus


def _given_corpus() -> Path | None:
    if not FLAGS.corpus:
        return None
    _check_splits(Path(FLAGS.corpus))
    return Path(FLAGS.corpus)


def _check_splits(corpus: Path) -> None:
    if not corpus.is_dir():
        raise StageError(f"--corpus={corpus} is not a folder")
    missing = [split for split in SPLITS if not (corpus / split).is_dir()]
    if missing:
        raise StageError(
            f"{corpus} lacks the split{'s' if len(missing) > 1 else ''} {', '.join(missing)}: a corpus for the demo "
            f"has the folders {', '.join(SPLITS)} in LibriSpeech layout (SPEAKER/CHAPTER/*.flac and *.trans.txt)"
        )
    mute = [split for split in SPLITS if split != UNLABELLED and not any((corpus / split).rglob("*.trans.txt"))]
    if mute:
        raise StageError(
            f"{corpus}: no transcripts (*.trans.txt) in {', '.join(mute)}; only {UNLABELLED} may lack them"
        )


def _fingerprint(corpus: Path) -> str:
    """Names and sizes of all files in the four splits."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for path in sorted((corpus / split).rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(corpus)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_demo, define_flags, errors=(StageError,))


if __name__ == "__main__":
    main()
