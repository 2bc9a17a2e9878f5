"""A study of toys, an execution that only leaves what its jobs would leave, and a corpus of tones."""

import dataclasses
import json
import pathlib

import numpy as np
import soundfile

from tf_rnnt_kd.evaluation.results import Result
from tf_rnnt_kd.studies import Point
from tf_rnnt_kd.training.config import default_config

WORDS = [3, 4, 5, 2]
"""Of each utterance of the toy test set."""

_HERTZ = {"GO": 300, "STOP": 500, "LEFT": 900, "RIGHT": 1600, "UP": 2800}


def toy_config(variant):
    config = default_config()
    config.train.steps = {"teacher": 40, "student": 20, "other": 30}[variant]
    return config


def toy_study(study):
    teacher = study.train("teacher", variant="teacher", data=[study.records("train-labeled")], seeds=1)
    labels = study.label(teacher, artifacts="hard,collapsed")
    data = [study.records("train-labeled"), labels]
    few = study.train("few", variant="student", data=data)
    many = study.train("many", variant="student", data=data, settings={"train.steps": 25})
    best = study.best_on_dev([few, many])
    last = study.train("from the best", variant="other", data=data, warm_start=best)
    study.claim("a warm start helps", better=last, worse=best)
    study.curve("By steps", x_label="steps", lines={"alone": [Point(20, few), Point(25, many)]}, steeper=[("a", "b")])
    study.curve("By bytes", x_label="bytes", lines={"warm": [Point(labels, last, against=best)]}, logarithmic=True)
    study.measure("test")


def result(name, errors):
    """An evaluation with so many substitutions in each utterance."""
    rows = [
        {"id": f"u{i}", "words": words, "substitutions": wrong, "insertions": 0, "deletions": 0, "reference": f"r{i}",
         "hypothesis": ""}
        for i, (words, wrong) in enumerate(zip(WORDS, errors, strict=True))
    ]  # fmt: skip
    values = {field.name: 0 for field in dataclasses.fields(Result)} | {
        "name": name, "system": name, "corpus": "toy", "split": "test", "utterances": len(rows), "found": len(rows),
        "words": sum(WORDS), "wer": sum(errors) / sum(WORDS), "interval": (0.0, 1.0), "parameters": 7, "refused": {},
        "refused_utterances": [], "per_utterance": rows, "improvement": {}, "delay": None, "latency": None,
        "real_time_factor": None, "real_time_factor_method": "", "result_version": 1,
    }  # fmt: skip
    return Result(**values)


class Execution:
    """Leaves done.json of a training (dev rate by the number of jobs before it), dataset.json of a labelling and
    result.json of an evaluation."""

    def __init__(self, *, fail_at=None):
        self.names, self.fail_at = [], fail_at

    def __call__(self, arguments, *, name):
        if len(self.names) == self.fail_at:
            raise KeyboardInterrupt
        self.names.append(name)
        flags = dict(argument.lstrip("-").split("=", 1) for argument in arguments[1:])
        if arguments[0] == "tf_rnnt_kd.train":
            folder = pathlib.Path(flags["workdir"])
            folder.mkdir(parents=True)
            (folder / "done.json").write_text(json.dumps({"best_dev_wer": 0.5 - 0.01 * len(self.names)}))
        if arguments[0] == "beam_pipelines.pseudo_label":
            folder = pathlib.Path(flags["output"])
            folder.mkdir(parents=True)
            artifacts = {artifact: {"bytes_per_hour": 1000.0} for artifact in flags["artifacts"].split(",")}
            (folder / "dataset.json").write_text(json.dumps({"artifacts": artifacts}))
        if arguments[0] == "tf_rnnt_kd.evaluate":
            warm = "other" in flags["name"]
            result(flags["name"], [0, 1, 0, 0] if warm else [2, 1, 3, 1]).save(flags["json"])
        return 2.0


def write_tones(root, *, sizes, seed=0):
    """A corpus in LibriSpeech layout whose words are tones: {split: utterances}, eight of each speaker."""
    random, hertz, speaker = np.random.default_rng(seed), _HERTZ, 0
    for split, size in sizes.items():
        alignments = ["utt\tword\tstart_s\tend_s"]
        for index in range(size):
            if index % 8 == 0:
                speaker, lines = speaker + 1, []
            chapter = pathlib.Path(root, split, str(speaker), "1")
            chapter.mkdir(parents=True, exist_ok=True)
            name, words = f"{speaker}-1-{index:04d}", random.choice(list(hertz), 2)
            tones = [np.sin(2 * np.pi * hertz[word] * np.arange(6400) / 16000) for word in words]
            waveform = 0.2 * np.concatenate([part for tone in tones for part in (np.zeros(1600), tone)])
            waveform += 0.01 * random.normal(size=len(waveform))
            soundfile.write(chapter / f"{name}.flac", waveform.astype(np.float32), 16000)
            lines.append(f"{name} {' '.join(words)}")
            alignments += [f"{name}\t{w}\t{0.1 + 0.5 * i:.3f}\t{0.5 * i + 0.5:.3f}" for i, w in enumerate(words)]
            if split != "train-unlabeled":
                (chapter / f"{speaker}-1.trans.txt").write_text("\n".join(lines) + "\n")
        if split != "train-unlabeled":
            pathlib.Path(root, split, "alignments.tsv").write_text("\n".join(alignments) + "\n")
