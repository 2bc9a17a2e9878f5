"""Writes report.html and results.json from what evaluations, trainings and labellings left behind.

    python -m tf_rnnt_kd.report --results=run/results/a.json,run/results/b.json --baseline=a --output=run \\
        --trainings=run/a,run/b --pseudo_labels=run/pseudo --teacher=run/exported/teacher --student=run/exported/b \\
        --records=run/records --split=test --commands=run/commands.jsonl

Only --results, --baseline and --output are needed; the page has the parts for which something was given.
"""

import json
import sys
from pathlib import Path

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
_UTTERANCES_TO_LOOK_AT = 50


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_list("results", None, "JSON files of tf_rnnt_kd.evaluate, in the order of the table.", **add)
    flags.DEFINE_string("baseline", None, "Name of the system against which p is computed.", **add)
    flags.DEFINE_string("output", None, "Folder for report.html and results.json.", **add)
    flags.DEFINE_string("title", "Distilling an RNN-T", "Of the page.", **add)
    flags.DEFINE_list("trainings", [], "Work folders of tf_rnnt_kd.train, for their learning curves.", **add)
    flags.DEFINE_list("pseudo_labels", [], "Datasets of beam_pipelines.pseudo_label.", **add)
    flags.DEFINE_string("teacher", None, "Exported teacher, for the picture of its lattice.", **add)
    flags.DEFINE_string("student", None, "Exported student, for the picture of its lattice.", **add)
    flags.DEFINE_string("records", None, "Records with the utterance for that picture.", **add)
    flags.DEFINE_string("split", "test", "Their split.", **add)
    flags.DEFINE_string(
        "commands", None, "JSON lines {title, part, command, seconds} of the stages that made it all.", **add
    )
    flags.DEFINE_integer("seed", 0, "Of the bootstrap.", **add)


def _report() -> None:
    command_line.require(FLAGS, ("results", "baseline", "output"))
    paths = ("results", "trainings", "pseudo_labels", "teacher", "student", "records", "commands")
    command_line.require_paths(FLAGS, paths)
    lattice_flags = (FLAGS.teacher, FLAGS.student, FLAGS.records)
    if any(lattice_flags) and not all(lattice_flags):
        raise ValueError("the lattice picture needs all of --teacher, --student and --records")

    # Here, so that --help and mistakes in flags answer at once.
    from tf_rnnt_kd.evaluation import report
    from tf_rnnt_kd.evaluation.results import Result, format_table

    results = [Result.load(path) for path in FLAGS.results]
    datasets = {Path(path).name: _dataset(Path(path)) for path in FLAGS.pseudo_labels}
    summary = report.summarise(results, baseline=FLAGS.baseline, pseudo_labels=datasets, seed=FLAGS.seed)
    picture = _lattice_picture() if FLAGS.teacher else {}
    page = report.render(
        summary,
        results=results,
        title=FLAGS.title,
        logs={Path(path).name: _json_lines(Path(path) / "train_log.jsonl") for path in FLAGS.trainings},
        commands=_json_lines(Path(FLAGS.commands)) if FLAGS.commands else (),
        **picture,
    )
    output = Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    report.write_results(summary, path=output / "results.json")
    (output / "report.html").write_text(page, encoding="utf-8")
    sys.stdout.write(f"\n{format_table(results)}\n\n")
    for system in summary["systems"]:
        if system["improvement_over_baseline"] is not None:
            sys.stdout.write(
                f"{system['split']}: probability that {system['name']} improves on {FLAGS.baseline}: "
                f"{system['improvement_over_baseline']:.4f}\n"
            )
    sys.stdout.write(f"\nwrote {output / 'report.html'} and {output / 'results.json'}\n")


def _lattice_picture() -> dict:
    """The longest of the first utterances that the teacher recognises without an error."""
    import itertools

    from tf_rnnt_kd.evaluation import corpus, occupancy

    viewers = [
        occupancy.LatticeViewer(FLAGS.teacher, name="teacher"),
        occupancy.LatticeViewer(FLAGS.student, name=f"student ({Path(FLAGS.student).name})"),
    ]
    hashes = [viewer.tokenizer_hash for viewer in viewers]
    if hashes[0] != hashes[1]:
        raise ValueError(f"teacher and student have different tokenizers ({hashes[0]}, {hashes[1]}): no common lattice")
    utterances = itertools.islice(corpus.RecordCorpus(FLAGS.records, split=FLAGS.split), _UTTERANCES_TO_LOOK_AT)
    by_length = sorted(utterances, key=lambda utterance: (-len(utterance.waveform), utterance.utterance_id))
    if not by_length:
        raise ValueError(f"{FLAGS.records}: the split {FLAGS.split} has no usable utterance")
    for utterance in by_length:
        written, tokens = viewers[0].hypothesis(utterance.waveform)
        if written == utterance.text:
            break
    else:  # a teacher this bad is worth a look as well
        utterance = by_length[0]
        written, tokens = viewers[0].hypothesis(utterance.waveform)
    note = (
        f"Utterance {utterance.utterance_id}, “{utterance.text}”; tokens of the teacher's hypothesis "
        f"“{written}”. Dark: the alignment surely passes there. A student that needs to hear more before it writes "
        "lies further to the right."
    )
    views = [viewer.view(utterance.waveform, tokens=tokens) for viewer in viewers]
    return {"views": views, "view_note": note, "words": utterance.words}


def _dataset(path: Path) -> dict:
    try:
        return json.loads((path / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a complete dataset ({error}): label again") from error


def _json_lines(path: Path) -> list[dict]:
    """Lines that are whole; a training that is still running may have half of one at the end."""
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_report, define_flags)


if __name__ == "__main__":
    main()
