"""What a training leaves in its folder, and how to read it.

    WORKDIR/config.json           the settings, complete, and the records they were used on
    WORKDIR/tokenizer/
    WORKDIR/dead_letter.jsonl     records that could not be trained on, and why
    WORKDIR/warm_start.json       what was taken over from train.warm_start, and what was not
    WORKDIR/checkpoints/          to resume from, see checkpoints.py
    WORKDIR/best/                 weights of the best dev WER, and best.json that names them
    WORKDIR/train_log.jsonl       one line per logged step or evaluation
    WORKDIR/tensorboard/          the same as curves
    WORKDIR/done.json             written last
"""

import dataclasses
import json
import os
import pathlib

import keras
import numpy as np

from tf_rnnt_kd.decoding import GreedySearch
from tf_rnnt_kd.models import Transducer, build_transducer
from tf_rnnt_kd.records.dataset import write_atomically
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model with what belongs to it. `config` is the settings as a nested dictionary, `step` the weights' step."""

    model: Transducer
    tokenizer: Tokenizer
    frontend: LogMelFrontend
    config: dict
    step: int
    dev_wer: float

    @property
    def search(self) -> GreedySearch:
        """The search that its dev WER was measured with."""
        return GreedySearch(**self.config["search"])


def load_model(workdir: str | os.PathLike) -> TrainedModel:
    """The best model of a training.

    Raises:
      ValueError: the folder holds no training, or none that was evaluated yet.
    """
    workdir = pathlib.Path(workdir)
    best = read_json(workdir / "best" / "best.json")
    settings = read_json(workdir / "config.json")
    if best is None or settings is None:
        raise ValueError(f"{workdir} holds no trained model (no best/best.json): train one with tf_rnnt_kd.train")
    tokenizer = Tokenizer.load(workdir / "tokenizer")
    config = settings["config"]
    frontend = LogMelFrontend(**config["frontend"])
    model = build_transducer(config["model"], vocab_size=tokenizer.vocab_size, num_features=frontend.num_mel_bins)
    model.load_weights(workdir / "best" / best["weights"])
    return TrainedModel(model, tokenizer, frontend, config, best["step"], best["dev_wer"])


def save_best(workdir, *, model: keras.Model, step: int, dev_wer: float) -> None:
    """Stores weights as the best so far. The pointer is written after them, so a kill leaves the old or the new."""
    folder = pathlib.Path(workdir) / "best"
    folder.mkdir(parents=True, exist_ok=True)
    weights = f"step-{step:07d}.weights.h5"
    temporary = folder / f"incomplete-{weights}"
    try:
        model.save_weights(temporary)
        temporary.replace(folder / weights)
    except BaseException:
        temporary.unlink(missing_ok=True)  # on a full disk it is in the way
        raise
    write_json(folder / "best.json", {"step": step, "dev_wer": dev_wer, "weights": weights})
    for other in folder.glob("*.weights.h5"):
        if other.name != weights:
            other.unlink()


def read_json(path):
    """The content of a JSON file, None where there is no such file."""
    path = pathlib.Path(path)
    return json.loads(path.read_text()) if path.exists() else None


def write_json(path, content) -> None:
    """Writes JSON in one step."""
    write_atomically(str(path), content=json.dumps(content, indent=2, sort_keys=True, default=_plain) + "\n")


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


class TrainLog:
    """`train_log.jsonl`: one JSON object a line, each with a `step`.

    Opening it for a resumed run drops the lines after the resumed step, which will be written again, and that step's
    evaluation where it is pending.
    """

    def __init__(self, workdir, *, resumed_step: int, evaluation_pending: bool = False):
        self._path = pathlib.Path(workdir) / "train_log.jsonl"
        kept = []
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # a line cut short by a kill
                is_again = evaluation_pending and entry["step"] == resumed_step and "dev_wer" in entry
                if entry["step"] <= resumed_step and not is_again:
                    kept.append(line)
        write_atomically(str(self._path), content="".join(line + "\n" for line in kept))

    def write(self, **entry) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(entry, default=_plain) + "\n")
