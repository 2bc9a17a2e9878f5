"""Writes a model as a numbered version of a folder that TensorFlow Serving watches, whole or not at all."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tf_rnnt_kd.decoding import BeamSearch, Calibration, GreedySearch, Scorer
from tf_rnnt_kd.model_versions import is_saved_model, versions
from tf_rnnt_kd.models import Transducer
from tf_rnnt_kd.serving.metadata import METADATA_PATH, describe_model, read_metadata
from tf_rnnt_kd.serving.parity import check_parity
from tf_rnnt_kd.serving.recognizer import Recognizer
from tf_rnnt_kd.serving.signatures import save_module
from tf_rnnt_kd.serving.warmup import warmup_requests, write_warmup
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer


class Export(NamedTuple):
    """path: the version's folder. metadata: content of metadata.json. differences: of check_parity, None where the
    export was there already."""

    path: str
    metadata: dict
    differences: dict | None


def export_saved_model(
    model: Transducer, *, tokenizer: Tokenizer, frontend: LogMelFrontend, config: Mapping[str, Any],
    output_dir: str | os.PathLike, search: GreedySearch = GreedySearch(), n_best: int = 4,
    scorers: Sequence[Scorer] = (), phrase_bonus: float = 1.0, calibration: Calibration | None = None,
    version: int | None = None, card: Mapping[str, Any] | None = None,
) -> Export:
    """Exports a model with all signatures, metadata and warm-up requests, and compares it with the Python model.

    Args:
      model: a Transducer. tokenizer: its Tokenizer. frontend: its LogMelFrontend.
      config: the training's settings, anything JSON takes; kept in metadata.json.
      output_dir: folder of the versions, made where it is missing. The version's own folder has its name only when the
        export is complete and checked, so a server that watches sees it whole.
      search: a GreedySearch; the beam search of the n-best signature has its settings too.
      n_best: hypotheses of that signature. scorers: language models and phrases that it favours, see BeamSearch.
      phrase_bonus, calibration: see Recognizer.
      version: its number, at least 1; None: one more than the highest number there.
      card: what is known of the model's quality, for the metadata.

    Returns:
      An Export. Where output_dir has this model already (as `version`, if that is given), nothing is written.

    Raises:
      ValueError: `version` is there and is another model, output_dir is a model or a file, another process exports to
        it, the SavedModel differs from the Python model, or the model is less sparse than its config promises.
    """
    recognizer = Recognizer(
        model,
        tokenizer=tokenizer,
        frontend=frontend,
        search=search,
        n_best_search=BeamSearch(
            n_best, search.max_symbols_per_frame, search.blank_penalty, scorers=tuple(scorers)
        ),
        phrase_bonus=phrase_bonus,
        calibration=calibration,
    )
    metadata = describe_model(recognizer, config=config, card=card)
    base = pathlib.Path(output_dir).absolute()
    _check_base(base, version)
    base.mkdir(parents=True, exist_ok=True)
    with _only_exporter(base):
        path = _there_already(base, version, model_id=metadata["model_id"])
        if path is not None:
            return Export(str(path), read_metadata(path), None)
        number = version or 1 + max((int(name) for name in _numbers(base)), default=0)
        # One fixed name, so that what a killed export left is found and cleared; to servers it is no version.
        incomplete = base / ".incomplete"
        shutil.rmtree(incomplete, ignore_errors=True)
        save_module(recognizer, path=incomplete)
        (incomplete / METADATA_PATH).parent.mkdir()
        content = json.dumps(metadata, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        (incomplete / METADATA_PATH).write_text(content, encoding="utf-8")
        differences = check_parity(incomplete, recognizer=recognizer)
        write_warmup(incomplete, requests=warmup_requests(recognizer))
        path = incomplete.rename(base / str(number))
    return Export(str(path), metadata, differences)


def _check_base(base, version):
    if version is not None and version < 1:
        raise ValueError(f"--version is a number from 1, not {version}")
    if base.exists() and not base.is_dir():
        raise ValueError(f"{base} is a file: --output is a folder, in which each version has one of its own")
    if is_saved_model(base):
        raise ValueError(f"{base} is a model itself: --output is the folder in which the versions lie as 1, 2, ...")


@contextlib.contextmanager
def _only_exporter(base):
    """Two at once would take the same number."""
    descriptor = os.open(base, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process exports to {base} at this moment: wait for it") from None
        yield
    finally:
        os.close(descriptor)


def _there_already(base, version, *, model_id):
    """The folder that holds this model, None where there is none.

    Raises:
      ValueError: the version that is asked for is something else.
    """
    if version is None:
        return next((base / str(n) for n in reversed(versions(base)) if _model_id(base / str(n)) == model_id), None)
    path = base / str(version)
    if not path.exists():
        return None
    existing = _model_id(path)
    if existing is None:
        raise ValueError(f"{path} exists and is no export of ours: choose another --version or --output")
    if existing != model_id:
        raise ValueError(
            f"{path} holds another model ({existing}, this one is {model_id}): leave --version out for the next free "
            "number, or remove it"
        )
    return path


def _model_id(path):
    """None for what is no export of ours."""
    try:
        return read_metadata(path)["model_id"]
    except (ValueError, KeyError):
        return None


def _numbers(base):
    """Names that are numbers, whatever they hold: none of them is free."""
    return [path.name for path in base.iterdir() if path.name.isascii() and path.name.isdecimal()]
