"""Small models with random weights that find a few tokens in noise, and their exports."""

import pathlib
import types

import keras
import numpy as np
import tensorflow as tf

from tf_rnnt_kd.decoding import BeamSearch, GreedySearch
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.serving import Recognizer, export_saved_model
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer

MEL_BINS = 20


def make_audio():
    """Waveforms [3, S] float32 with NaN behind their ends, and num_samples [3]; none is a multiple of a frame."""
    random = np.random.default_rng(3)
    num_samples = np.array([24_000, 11_111, 17_500], np.int32)
    loudness = np.repeat(random.uniform(0.001, 0.3, size=(3, 30)), 800, axis=1)
    waveforms = (loudness * random.normal(size=loudness.shape)).astype(np.float32)
    waveforms[np.arange(24_000)[None, :] >= num_samples[:, None]] = np.nan
    return waveforms, num_samples


def make_model(*, tokenizer, left_context, seed=0, blank_bias=2.0, encoder=None, **sections):
    """`encoder` adds to the encoder's settings, `sections` replace those of the model."""
    keras.utils.set_random_seed(seed)
    config = {
        "encoder": {
            "width": 16, "num_layers": 2, "num_heads": 2, "kernel_size": 3, "left_context": left_context,
            **(encoder or {}),
        },
        "predictor": {"width": 8, "context_size": 2},
        "joint": {"width": 12},
        **sections,
    }
    model = build_transducer(config, vocab_size=tokenizer.vocab_size, num_features=MEL_BINS)
    return awaken(model, blank_bias=blank_bias)


def awaken(model, *, blank_bias=2.0, spread=6.0):
    """The model with random weights that find tokens in noise; `spread` of the encoder's projection over the frames."""
    model.set_feature_statistics(np.full(MEL_BINS, -5.0, np.float32), np.full(MEL_BINS, 3.0, np.float32))
    # Fresh weights decide for one symbol everywhere. These mind the context, and frames that differ much decide
    # differently, whatever the encoder is.
    random = np.random.default_rng(1)
    for variable, scale in (
        (model.predictor_projection.kernel, 3.0),
        (model.encoder_projection.kernel, 1.0),
        (model.predictor.embedding.embeddings, 1.0),
        (model.joint_kernel, 1.5),
    ):
        variable.assign(scale * random.normal(size=variable.shape))
    waveforms, num_samples = make_audio()
    encoded, lengths = model.encode(*LogMelFrontend(num_mel_bins=MEL_BINS)(waveforms, num_samples))
    frames = tf.boolean_mask(encoded, tf.sequence_mask(lengths, encoded.shape[1])).numpy()
    scale = spread / frames.std(axis=0)
    model.encoder_projection.kernel.assign(model.encoder_projection.kernel * scale)
    model.encoder_projection.bias.assign(-frames.mean(axis=0) * scale)
    model.joint_bias.assign([blank_bias] + [0.0] * (model.vocab_size - 1))
    return model


def export_model(tmp_path_factory, name, left_context, **changes):
    """A model with `make_model`'s changes and its export."""
    tokenizer = Tokenizer.train_characters(["GO STOP ÉTÉ"])
    frontend = LogMelFrontend(num_mel_bins=MEL_BINS)
    model = make_model(tokenizer=tokenizer, left_context=left_context, **changes)
    path = tmp_path_factory.mktemp(name) / "model"
    search = GreedySearch(max_symbols_per_frame=2)
    export = export_saved_model(
        model, tokenizer=tokenizer, frontend=frontend, config={"name": name}, output_dir=path, search=search
    )
    loaded = tf.saved_model.load(export.path)
    return types.SimpleNamespace(
        path=pathlib.Path(export.path),
        export=export,
        model=model,
        tokenizer=tokenizer,
        frontend=frontend,
        recognizer=Recognizer(
            model, tokenizer=tokenizer, frontend=frontend, search=search, n_best_search=BeamSearch(4, 2)
        ),
        loaded=loaded,
        signatures=loaded.signatures,
    )
