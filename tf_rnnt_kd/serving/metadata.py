"""metadata.json of a SavedModel: what a user of its signatures must know, and which model it is."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_rnnt_kd.serving.device import DeviceRecognizer
from tf_rnnt_kd.serving.provenance import git_revision
from tf_rnnt_kd.serving.recognizer import Recognizer
from tf_rnnt_kd.serving.streaming import StreamingRecognizer
from tf_rnnt_kd.training.true_sparsity import true_sparsity

METADATA_PATH = pathlib.PurePath("assets.extra", "metadata.json")

FORMAT_VERSION = 3
"""Of the signatures and of this file; part of the model id."""


def describe_model(
    recognizer: Recognizer, *, config: Mapping[str, Any], card: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of metadata.json.

    Args:
      recognizer: a Recognizer.
      config: the training's settings, anything JSON takes.
      card: what is known of the model's quality, see provenance.training_card; None: nothing.

    Returns:
      A dictionary:
        model_id: 16 hex digits of a SHA-256 over weights, tokenizer, features, search and config.
        tokenizer {hash, kind}, pieces (V strings, the blank first), blank_index.
        sample_rate in Hz, frame_seconds of an encoder frame, search {max_symbols_per_frame, blank_penalty}.
        n_best: settings of the beam search, and what its scorers say of themselves. phrase_bonus: of nbest_biased.
        calibration {scale, offset} of word_confidence, see Calibration; null where it is the model's own.
        hidden_layers {name: width}, of the signature hidden.
        streaming; chunk_samples, of which stream_step takes a multiple, and look_ahead_seconds, of audio after the end
          of a frame that the frame needs: both null for a model that needs the whole utterance.
        joint {width, vocab_size, activation, combination, factorised_blank}: see lattice.Joint; what exports from
          before a setting lack has the default of lattice.joint_settings.
        num_parameters, features (settings of the frontend), config, format_version.
        device {chunk_samples, flush_chunks, hop_samples, state {name: {shape, dtype, initial}}} of the signature
          stream_ids, see DeviceRecognizer; null for a model that does not stream.
        card {dev_wer, step, train_records, dev_records}, or null; git_revision of the code that exported, or null.
          Neither is part of the model id.
        sparsity {zero_share, target, block, pruned, pruned_share}: the zeros counted, see `true_sparsity`.

    Raises:
      ValueError: the weights have fewer zeros than the config's `sparsity` promises.
    """
    model, tokenizer, frontend = recognizer.model, recognizer.tokenizer, recognizer.frontend
    streaming = model.is_streaming
    description = {
        "format_version": FORMAT_VERSION,
        "tokenizer": {"hash": tokenizer.hash, "kind": tokenizer.kind},
        "pieces": list(tokenizer.pieces),
        "blank_index": 0,
        "sample_rate": frontend.sample_rate,
        "frame_seconds": recognizer.frame_seconds,
        "search": dataclasses.asdict(recognizer.search_settings),
        "n_best": recognizer.n_best_search.describe(),
        "phrase_bonus": recognizer.phrase_bonus,
        "calibration": dataclasses.asdict(recognizer.calibration) if recognizer.calibration else None,
        "hidden_layers": model.layer_widths,
        "streaming": streaming,
        "chunk_samples": StreamingRecognizer(recognizer).chunk_samples if streaming else None,
        # Features end with the frame that they describe; encoders may look further.
        "look_ahead_seconds": model.look_ahead_frames * frontend.hop / frontend.sample_rate if streaming else None,
        "joint": {
            "width": model.joint_width,
            "vocab_size": model.vocab_size,
            "activation": "tanh",
            "combination": model.combination,
            "factorised_blank": model.factorised_blank,
        },
        "num_parameters": int(model.count_params()),
        "sparsity": true_sparsity(model, config=config.get("sparsity") if isinstance(config, Mapping) else None),
        "features": frontend.to_config(),
        "config": config,
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return {
        "model_id": digest.hexdigest()[:16],
        **description,
        # Follows from weights and settings, and may differ in the last digit from machine to machine.
        "device": DeviceRecognizer(recognizer).describe() if streaming else None,
        "card": card,
        "git_revision": git_revision(),
    }



def read_metadata(saved_model: str | os.PathLike) -> dict[str, Any]:
    """metadata.json of an export as a dictionary.

    Raises:
      ValueError: the folder is no export of ours.
    """
    path = pathlib.Path(saved_model) / METADATA_PATH
    if not path.exists() or not (pathlib.Path(saved_model) / "saved_model.pb").exists():
        raise ValueError(f"{saved_model} is no exported model: make one with python -m tf_rnnt_kd.export")
    return json.loads(path.read_text(encoding="utf-8"))
