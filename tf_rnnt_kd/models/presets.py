"""Models by name: the `model` section of a config, for V = 1025 (1024 word pieces and the blank) and 80 mel bins.

    config.model = ml_collections.ConfigDict(preset("conformer_s"))

Sizes of Conformer S, M, L are those of Gulati et al. 2020, table 1; XL and XXL those of Zhang et al. 2020 (arXiv
2010.10504), which have no position encoding and a convolution of 5 frames. What the papers leave open (joint width; of
XL and XXL also the channels of the subsampling, the labels' embedding and the form of the LSTM) is chosen here so that
the published numbers of parameters come out: the 42 blocks of XXL alone have 1.014 billion of its 1.0.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

import keras

from tf_rnnt_kd.models.build import build_transducer


def _conformer(width, num_layers, num_heads, *, lstm, lstm_layers=1, joint, **changes):
    """A full-context Conformer transducer as published."""
    encoder = {
        "type": "conformer", "width": width, "num_layers": num_layers, "num_heads": num_heads, "kernel_size": 31,
        "subsampling": 4, "channels": width, "left_context": None, "dropout": 0.1, "position_encoding": "relative",
        "convolution_norm": "batch",
    }
    return {
        "encoder": {**encoder, **changes},
        "predictor": {"type": "lstm", "width": lstm, "num_layers": lstm_layers, "dropout": 0.1},
        "joint": {"width": joint},
    }


def _billion(num_layers, *, channels, joint, **predictor):
    """Of Zhang et al.; `predictor`: changes of its settings."""
    config = _conformer(
        1024, num_layers, 8, lstm=640, lstm_layers=2, joint=joint, kernel_size=5, position_encoding="none",
        channels=channels,
    )
    return {**config, "predictor": {**config["predictor"], **predictor}}


def _digits(encoder, joint=128):
    predictor = {"type": "stateless", "width": 64, "context_size": 2, "dropout": 0.1}
    return {"encoder": {"dropout": 0.1, **encoder}, "predictor": predictor, "joint": {"width": joint}}


_SMALL = {"type": "conformer", "num_heads": 4, "kernel_size": 9, "subsampling": 8, "channels": 16}

PRESETS = {
    "conformer_s": _conformer(144, 16, 4, lstm=320, joint=320),
    "conformer_m": _conformer(256, 16, 4, lstm=640, joint=320),
    "conformer_l": _conformer(512, 17, 8, lstm=640, joint=640),
    "conformer_xl": _billion(24, channels=128, joint=640),
    "conformer_xxl": _billion(42, channels=16, joint=320, embedding_width=128, coupled_gates=True),
    # A student for devices: chunks of 160 ms, 2.56 s of the past, no look-ahead beyond the chunk.
    "streaming_small": {
        "encoder": {
            "type": "conformer", "width": 144, "num_layers": 12, "num_heads": 4, "kernel_size": 15, "subsampling": 4,
            "channels": 32, "left_context": 64, "chunk_size": 4, "dropout": 0.1,
        },
        "predictor": {"type": "stateless", "width": 320, "context_size": 2, "dropout": 0.1},
        "joint": {"width": 320},
    },
    # The recurrent student of He et al. 2019 (streaming RNN-T for mobile devices), with coupled gates.
    "streaming_cifg": {
        "encoder": {
            "type": "lstm", "width": 1024, "num_layers": 6, "projection": 320, "layer_norm": True,
            "coupled_gates": True, "subsampling": 4, "channels": 32, "time_reduction_after": (1,), "dropout": 0.1,
        },
        "predictor": {
            "type": "lstm", "width": 512, "num_layers": 1, "projection": 320, "layer_norm": True,
            "coupled_gates": True, "dropout": 0.1,
        },
        "joint": {"width": 320},
    },
    # The models of `make demo`, and the recurrent teacher: an hour of digits, a vocabulary of some fifteen words.
    "digits_teacher": _digits({**_SMALL, "width": 128, "num_layers": 4, "left_context": None}),
    "digits_student": _digits({**_SMALL, "width": 96, "num_layers": 3, "left_context": 16}),
    "digits_bilstm": _digits(
        {"type": "bilstm", "width": 128, "num_layers": 2, "subsampling": 4, "channels": 16}
    ),
}


def preset(name: str) -> dict[str, Any]:
    """A copy of the `model` section of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"no model preset {name!r}: choose of {', '.join(PRESETS)}")
    return copy.deepcopy(PRESETS[name])


def count_parameters(config: Mapping[str, Any], *, vocab_size: int, num_features: int) -> dict[str, int]:
    """Numbers of trainable weights of a `model` section, without allocating them.

    Returns:
      {"encoder", "predictor", "joint", "total"}.
    """
    with keras.StatelessScope(initialize_variables=False):
        model = build_transducer(config, vocab_size=vocab_size, num_features=num_features)
    counts = {
        part: sum(math.prod(weight.shape) for weight in layer.trainable_weights)
        for part, layer in (("encoder", model.encoder), ("predictor", model.predictor))
    }
    total = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return {**counts, "joint": total - sum(counts.values()), "total": total}
