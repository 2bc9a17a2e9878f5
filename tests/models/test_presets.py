"""Numbers of parameters as published, counted without allocating; every small preset builds and runs."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.models import PRESETS, build_transducer, count_parameters, preset
from tf_rnnt_kd.training.config import default_config

WORD_PIECES = {"vocab_size": 1025, "num_features": 80}


@functools.cache
def counts_of(name):
    return count_parameters(PRESETS[name], **WORD_PIECES)


@pytest.mark.parametrize(
    "name, part, millions, tolerance",
    [
        # Gulati et al. 2020, table 1.
        ("conformer_s", "total", 10.3, 0.02),
        ("conformer_m", "total", 30.7, 0.06),
        ("conformer_l", "total", 118.8, 0.02),
        # Zhang et al. 2020, who give one decimal of a billion.
        ("conformer_xl", "total", 600, 0.02),
        ("conformer_xxl", "total", 1000, 0.02),
    ],
)
def test_published_numbers_of_parameters(name, part, millions, tolerance):
    count = counts_of(name)[part]
    assert count == pytest.approx(millions * 1e6, rel=tolerance)


def test_structure_as_published():
    rows = {"conformer_s": (16, 144, 4, 320), "conformer_m": (16, 256, 4, 640), "conformer_l": (17, 512, 8, 640)}
    for name, (layers, width, heads, lstm) in rows.items():
        encoder, predictor = PRESETS[name]["encoder"], PRESETS[name]["predictor"]
        assert (encoder["num_layers"], encoder["width"], encoder["num_heads"]) == (layers, width, heads)
        assert (predictor["type"], predictor["num_layers"], predictor["width"]) == ("lstm", 1, lstm)
    for name, layers in {"conformer_xl": 24, "conformer_xxl": 42}.items():
        encoder, predictor = PRESETS[name]["encoder"], PRESETS[name]["predictor"]
        assert (encoder["num_layers"], encoder["width"], encoder["num_heads"]) == (layers, 1024, 8)
        assert (predictor["num_layers"], predictor["width"]) == (2, 640)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("digits")])
def test_counts_are_those_of_the_built_model(name):
    config = preset(name)
    model = build_transducer(config, vocab_size=14, num_features=80)
    counts = count_parameters(config, vocab_size=14, num_features=80)
    assert counts["total"] == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert counts["encoder"] == model.encoder.count_params()
    assert counts["predictor"] == model.predictor.count_params()
    encoded, lengths, predicted = model([tf.ones([1, 32, 80]), tf.constant([32]), tf.constant([[1, 2]])])
    assert lengths[0] == encoded.shape[1] == 32 // model.subsampling and predicted.shape == [1, 3, 128]


@pytest.mark.parametrize("name", ["streaming_small", "streaming_cifg"])
def test_streaming_presets_stream(name):
    with keras.StatelessScope(initialize_variables=False):
        model = build_transducer(preset(name), **WORD_PIECES)
    # 40 ms of latency or a chunk of 160 ms; sizes of a device.
    assert model.is_streaming and model.look_ahead_frames <= 12 and model.frames_per_step <= 16
    assert 5e6 < count_parameters(PRESETS[name], **WORD_PIECES)["total"] < 20e6


def test_a_preset_is_a_copy_and_a_default_config_builds():
    changed = preset("conformer_s")
    changed["encoder"]["width"] = 8
    assert PRESETS["conformer_s"]["encoder"]["width"] == 144
    with pytest.raises(ValueError, match="conformer_s"):
        preset("conformer")
    counts = count_parameters(default_config().model.to_dict(), vocab_size=14, num_features=80)
    assert counts["total"] > 1e6
