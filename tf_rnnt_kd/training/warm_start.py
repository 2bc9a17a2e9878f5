"""Starting from the weights of another training."""

import pathlib
import re
from typing import NamedTuple

import keras
import tensorflow as tf

from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import workdir as workdir_lib


class WarmStart(NamedTuple):
    """What came of it, by the variables' paths.

    source: the weights that were read. matched: those that were taken over. shape_mismatch: path -> the two shapes,
    {"here", "there"}; kept as initialised. missing: those that the source has not. left_out: those that both have and
    `only` does not choose. unused: those that only the source has.
    """

    source: str
    matched: list[str]
    shape_mismatch: dict[str, dict[str, list[int]]]
    missing: list[str]
    left_out: list[str]
    unused: list[str]

    def summary(self) -> str:
        """One line for people, with some names of each kind that did not match."""
        kinds = ("shape_mismatch", "missing", "left_out", "unused")
        parts = [f"{len(self.matched)} variables taken over"]
        for kind in kinds:
            names = list(getattr(self, kind))
            if names:
                some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                parts.append(f"{len(names)} {kind.replace('_', ' ')} ({some})")
        return f"warm start from {self.source}: " + "; ".join(parts)


def warm_start(model, path, *, only=()) -> WarmStart:
    """Sets a model's weights to those of an earlier training, where paths and shapes are equal.

    Statistics of the features are weights too: an encoder that is taken over sees the features as it learnt them.

    Args:
      model: a built Transducer.
      path: a training's folder (its best weights by dev WER, averaged), weights in it (best/*.weights.h5), or a
        checkpoint in it (checkpoints/ckpt-N; the weights as trained, not averaged).
      only: patterns (re.search) of the paths to take over; none: all.

    Raises:
      ValueError: there are no weights at `path`, a pattern fits nothing, or no variable matches.
    """
    source, weights = _read(pathlib.Path(path))
    there = {variable.path: variable for variable in weights}
    here = {variable.path: variable for variable in model.weights}
    for pattern in only:
        if not any(re.search(pattern, name) for name in here):
            raise ValueError(f"train.warm_start_only: {pattern!r} fits none of the variables: {', '.join(here)}")
    result = WarmStart(source, [], {}, [], [], [name for name in there if name not in here])
    for name, variable in here.items():
        if name not in there:
            result.missing.append(name)
        elif only and not any(re.search(pattern, name) for pattern in only):
            result.left_out.append(name)
        elif variable.shape != there[name].shape:
            result.shape_mismatch[name] = {"here": list(variable.shape), "there": list(there[name].shape)}
        else:
            variable.assign(there[name].value)
            result.matched.append(name)
    if not result.matched:
        raise ValueError(f"nothing matches: {result.summary()}; is train.warm_start the right training?")
    return result


def _read(path) -> tuple[str, list[keras.Variable]]:
    """(what was read, the weights of a model of that training)."""
    if (path / "best" / "best.json").exists():
        folder, weights = path, path / "best" / workdir_lib.read_json(path / "best" / "best.json")["weights"]
    else:
        folder, weights = path.parent.parent, path
    is_checkpoint = pathlib.Path(f"{weights}.index").exists()
    settings = workdir_lib.read_json(folder / "config.json")
    if settings is None or not (is_checkpoint or weights.is_file()):
        raise ValueError(
            f"train.warm_start={path}: no weights; name a training's folder that holds best/best.json, or in it "
            "best/*.weights.h5 or checkpoints/ckpt-N"
        )
    config = settings["config"]
    model = build_transducer(
        config["model"], vocab_size=Tokenizer.load(folder / "tokenizer").vocab_size,
        num_features=LogMelFrontend(**config["frontend"]).num_mel_bins,
    )
    if is_checkpoint:
        _read_checkpoint(model, weights)
    else:
        model.load_weights(weights)
    return str(weights), model.weights


def _read_checkpoint(model, path):
    """Session lists the model's variables first."""
    stored = tf.train.load_checkpoint(str(path))
    for index, variable in enumerate(model.variables):
        key = f"variables/{index}/.ATTRIBUTES/VARIABLE_VALUE"
        if not stored.has_tensor(key) or stored.get_tensor(key).shape != variable.shape:
            raise ValueError(
                f"train.warm_start={path} does not hold {variable.path} where this version keeps it: "
                "name the training's folder, whose best/*.weights.h5 is read by names"
            )
        variable.assign(stored.get_tensor(key))
