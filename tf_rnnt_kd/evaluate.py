"""Measures a recogniser: word error rate with its interval, kinds of errors, speed, size and emission delay.

    python -m tf_rnnt_kd.evaluate --model=exported/student --corpus=LibriSpeech/test-clean --json=student.json
    python -m tf_rnnt_kd.evaluate --workdir=run/student --records=run/records --split=test --compare=baseline.json

The corpus is any folder in LibriSpeech layout (`*.trans.txt` beside the audio; `alignments.tsv` in the split's folder,
if there is one, gives emission delay and latency), or a dataset of records. With --compare, results of other systems
on the same utterances (their --json files), it prints the paired probability of improvement over each (Bisani and Ney
2004).
Audio that cannot be used is counted by reason, listed, and kept in the JSON file.
"""

import json
import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string(
        "model", None, "An exported model (tf_rnnt_kd.export), or a folder of its versions.", **add
    )
    flags.DEFINE_string("workdir", None, "A training's folder: its best weights are measured.", **add)
    flags.DEFINE_string("corpus", None, "A folder in LibriSpeech layout.", **add)
    flags.DEFINE_string("records", None, "A dataset of records (beam_pipelines.prepare_corpus).", **add)
    flags.DEFINE_string("split", "", "Which split of the corpus or the records.", **add)
    flags.DEFINE_string("name", "", "Name of the system in tables; the last part of its path if not given.", **add)
    flags.DEFINE_list("compare", [], "Results (JSON files) of other systems on the same utterances.", **add)
    flags.DEFINE_string(
        "calibration", None, "Of word confidences (tf_rnnt_kd.calibrate), to be measured as well.", **add
    )
    flags.DEFINE_string("json", None, "Where to write the result.", **add)
    flags.DEFINE_integer("batch_size", 16, "Utterances at once, at most.", lower_bound=1, **add)
    flags.DEFINE_integer("seed", 0, "Of the bootstrap.", **add)
    flags.DEFINE_boolean("print_hypotheses", False, "Also print each reference and hypothesis that differ.", **add)


def _evaluate() -> None:
    if bool(FLAGS.model) == bool(FLAGS.workdir):
        raise ValueError("name one system: --model=DIR or --workdir=DIR")
    if bool(FLAGS.corpus) == bool(FLAGS.records):
        raise ValueError("name what to measure on: --corpus=DIR (audio) or --records=DIR --split=NAME")
    if FLAGS.records and not FLAGS.split:
        raise ValueError("--records needs --split=NAME")
    command_line.require_paths(FLAGS, ("model", "workdir", "corpus", "records", "compare", "calibration"))

    # Here, so that --help and mistakes in flags answer at once.
    from tqdm import tqdm

    from tf_rnnt_kd.decoding import Calibration
    from tf_rnnt_kd.evaluation import corpus as corpora
    from tf_rnnt_kd.evaluation import results, systems

    others = [results.Result.load(path) for path in FLAGS.compare]
    calibration = Calibration.load(FLAGS.calibration) if FLAGS.calibration else None
    path = (FLAGS.model or FLAGS.workdir).rstrip("/")
    corpus: corpora.Corpus = (
        corpora.FolderCorpus(FLAGS.corpus, split=FLAGS.split)
        if FLAGS.corpus
        else corpora.RecordCorpus(FLAGS.records, split=FLAGS.split)
    )
    system = systems.load_saved_model(path) if FLAGS.model else systems.load_workdir(path)

    with tqdm(total=corpus.size, unit=" utterances", disable=None) as bar:
        pairs, speed = systems.transcribe(
            system, utterances=corpus, batch_size=FLAGS.batch_size, progress=lambda count: bar.update(count)
        )
    result = results.score(
        pairs,
        name=FLAGS.name or _name(path),
        system=path,
        parameters=system.num_parameters,
        corpus=corpus,
        speed=speed,
        timing=system.timing,
        calibration=calibration,
        seed=FLAGS.seed,
    )
    results.compare(result, others=others, seed=FLAGS.seed)
    if FLAGS.json:
        result.save(FLAGS.json)
    _print(result, others=others, table=results.format_table([result, *others]))


def _name(path: str) -> str:
    """The last part of a path; with the one before it where it is the number of a version."""
    *before, last = path.split("/")
    return "/".join([*before[-1:], last]) if last.isdecimal() else last


def _print(result, *, others, table: str) -> None:
    out = sys.stdout.write
    if FLAGS.print_hypotheses:
        for row in result.per_utterance:
            if row["reference"] != row["hypothesis"]:
                out(f"{row['id']}\n  reference   {row['reference']}\n  hypothesis  {row['hypothesis']}\n")
    out(f"\n{table}\n\n")
    for other in others:
        out(f"probability of improvement over {other.name}: {result.improvement[other.name]:.4f} (paired bootstrap)\n")
    if result.real_time_factor is not None:
        out(f"RTF: {result.real_time_factor_method}\n")
    if result.delay is not None:
        out(
            "delay: end of the word's emission less its end in the audio, {words} correct words: mean {mean:.3f} s, "
            "median {p50:.3f} s, 90 % below {p90:.3f} s\n".format(**result.delay)
        )
    if result.latency is not None:
        out(
            "latency of a stream by steps of {step_seconds:.3g} s: word {words[mean]:.3f} s, median "
            "{words[p50]:.3f} s, 95 % below {words[p95]:.3f} s".format(**result.latency)
        )
        if result.latency["first_tokens"]:
            out("; first token {mean:.3f} s after its word begins".format(**result.latency["first_tokens"]))
        out("\n")
    for title, sure in (("confidence", result.confidence), ("calibrated", result.calibrated_confidence)):
        if sure is not None:
            out(
                f"{title} of {sure['words']} words: mean {sure['mean_confidence']:.3f}, {sure['accuracy']:.3f} right, "
                f"expected calibration error {sure['ece']:.4f}\n"
            )
    out(f"{result.found} utterances found, {result.utterances} scored, {result.found - result.utterances} refused")
    out(f": {json.dumps(result.refused)}\n" if result.refused else "\n")
    for item in result.refused_utterances[:20]:
        out(f"  {item['reason']}: {item['error']}\n")
    if len(result.refused_utterances) > 20:
        out(f"  ... and {len(result.refused_utterances) - 20} more{', in ' + FLAGS.json if FLAGS.json else ''}\n")


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_evaluate, define_flags)


if __name__ == "__main__":
    main()
