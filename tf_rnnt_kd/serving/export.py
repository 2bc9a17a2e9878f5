"""Writes a model as one SavedModel directory, whole or not at all."""

import json
import pathlib
import shutil
from typing import NamedTuple

from tf_rnnt_kd.decoding import BeamSearch, GreedySearch
from tf_rnnt_kd.serving.metadata import METADATA_PATH, describe_model, read_metadata
from tf_rnnt_kd.serving.parity import check_parity
from tf_rnnt_kd.serving.recognizer import Recognizer
from tf_rnnt_kd.serving.signatures import save_module


class Export(NamedTuple):
    """metadata: content of metadata.json. differences: of check_parity, None where the export was there already."""

    metadata: dict
    differences: dict | None


def export_saved_model(model, *, tokenizer, frontend, config, output_dir, search=GreedySearch(), n_best=4):
    """Exports a model with all signatures and metadata, and compares it with the Python model.

    Args:
      model: a Transducer. tokenizer: its Tokenizer. frontend: its LogMelFrontend.
      config: the training's settings, anything JSON takes; kept in metadata.json.
      output_dir: made here. Nothing exists under this name until the export is complete and checked.
      search: a GreedySearch; the beam search of the n-best signature has its settings too.
      n_best: hypotheses of that signature.

    Returns:
      An Export. If output_dir holds the export of the same model already, nothing is written.

    Raises:
      ValueError: output_dir exists and is something else, the SavedModel differs from the Python model, or the model
        is less sparse than its config promises.
    """
    n_best_search = BeamSearch(n_best, search.max_symbols_per_frame, search.blank_penalty)
    recognizer = Recognizer(
        model, tokenizer=tokenizer, frontend=frontend, search=search, n_best_search=n_best_search
    )
    metadata = describe_model(recognizer, config=config)
    output = pathlib.Path(output_dir).absolute()
    if output.exists():
        _require_same_model(output, model_id=metadata["model_id"])
        return Export(metadata, None)
    output.parent.mkdir(parents=True, exist_ok=True)
    # One fixed name, so that what a killed export left is found and cleared.
    incomplete = output.with_name(f".{output.name}.incomplete")
    shutil.rmtree(incomplete, ignore_errors=True)
    save_module(recognizer, path=incomplete)
    path = incomplete / METADATA_PATH
    path.parent.mkdir()
    path.write_text(json.dumps(metadata, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    differences = check_parity(incomplete, recognizer=recognizer)
    incomplete.rename(output)
    return Export(metadata, differences)


def _require_same_model(output, *, model_id):
    try:
        existing = read_metadata(output)["model_id"]
    except (ValueError, KeyError):
        raise ValueError(f"{output} exists and is no export of ours: choose another --output") from None
    if existing != model_id:
        raise ValueError(
            f"{output} holds another model ({existing}, this one is {model_id}): choose another --output, or remove it"
        )
