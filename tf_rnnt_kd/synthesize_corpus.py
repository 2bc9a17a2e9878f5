"""Synthesises a speech corpus with eSpeak NG: 80 voices, commands and numbers of 20 words, noise and rooms.

    python -m tf_rnnt_kd.synthesize_corpus --output=corpus --hours=1.0 --seed=1

LibriSpeech layout: train-labeled, train-unlabeled (audio only; its transcripts are in train-unlabeled-truth), dev and
test, no speaker in two of them, 16 kHz FLAC, word times in alignments.tsv. The same hours and seed give the same bytes.
Killed and run again it goes on where it was; the file COMPLETE, written last, says that all is there.
"""

import json
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
COMPLETE = "COMPLETE"
INCOMPLETE = "INCOMPLETE"
WORK = ".work"
_FORMAT = 1  # to be raised with any change of what the same flags give


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("output", None, "Folder to write the corpus to.", **add)
    flags.DEFINE_float("hours", 1.0, "How much speech in all, to a few per cent.", lower_bound=0.001, **add)
    flags.DEFINE_integer("seed", 1, "Another seed gives other speakers, sentences and noise.", **add)
    flags.DEFINE_integer("processes", 0, "Processes at once; 0: one per core, at most 8.", lower_bound=0, **add)


def _synthesize() -> None:
    command_line.require(FLAGS, {"output=DIR": "the folder to write the corpus to"})
    from tqdm import tqdm

    from tf_rnnt_kd.speech import synthesis

    output = Path(FLAGS.output)
    settings = {"hours": FLAGS.hours, "seed": FLAGS.seed, "format": _FORMAT}
    if (output / COMPLETE).exists():
        _same_settings(output / COMPLETE, settings)
        sys.stdout.write(f"{output} is already done\n")
        return
    if (output / INCOMPLETE).exists():
        _same_settings(output / INCOMPLETE, settings)
    elif output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} holds something else: choose an empty or new folder for --output")
    speakers = synthesis.plan_speakers(hours=FLAGS.hours, seed=FLAGS.seed)
    work = output / WORK
    work.mkdir(parents=True, exist_ok=True)
    _write(output / INCOMPLETE, settings)

    tasks = [(speaker, str(output), str(work), FLAGS.seed) for speaker in speakers]
    processes = FLAGS.processes or min(8, os.cpu_count() or 1)
    totals = {split: {"speakers": 0, "utterances": 0, "words": 0, "seconds": 0.0} for split in synthesis.SPLITS}
    # A fresh process for each speaker: eSpeak's state is never reset within one, and would make bytes depend on order.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["soundfile", "tf_rnnt_kd.speech.synthesis"])
    progress = tqdm(total=len(tasks), unit="speaker", disable=None)
    with context.Pool(processes, maxtasksperchild=1) as pool, progress as bar:
        for done in pool.imap_unordered(_write_speaker, tasks):
            total = totals[done.pop("split")]
            total["speakers"] += 1
            for name, value in done.items():
                total[name] += value
            bar.update()
    synthesis.join_alignments(speakers, root=output, work=work)
    voices = [f"{s.number}\t{s.split}\t{s.voice}\t{s.rate}\t{s.pitch}\t{s.tract:.3f}\n" for s in speakers]
    header = "speaker\tsplit\tvoice\twords_per_minute\tpitch\ttract\n"
    (output / "speakers.tsv").write_text(header + "".join(voices))
    shutil.rmtree(work)
    for total in totals.values():
        total["seconds"] = round(total["seconds"], 3)  # they were added in order of arrival
    _write(output / COMPLETE, {**settings, "splits": totals})
    (output / INCOMPLETE).unlink()
    for split, total in totals.items():
        sys.stdout.write(
            f"{split}: {total['seconds'] / 60:.1f} minutes, {total['speakers']} speakers, {total['utterances']} "
            f"utterances, {total['words']} words\n"
        )


def _write_speaker(task: tuple) -> dict:
    from tf_rnnt_kd.speech import synthesis

    speaker, root, work, seed = task
    return synthesis.write_speaker(speaker, root=root, work=work, seed=seed)


def _same_settings(path: Path, settings: dict) -> None:
    found = json.loads(path.read_text())
    if any(found.get(name) != value for name, value in settings.items()):
        made = " ".join(f"--{name}={found.get(name)}" for name in ("hours", "seed"))
        raise ValueError(f"{path.parent} holds a corpus of {made} or of another version: choose another --output")


def _write(path: Path, content: dict) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_synthesize, define_flags, errors=(ValueError, OSError))


if __name__ == "__main__":
    main()
