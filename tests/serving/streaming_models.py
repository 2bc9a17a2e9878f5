"""A small model of each kind that streams, run from Python by the functions that the signatures export."""

import functools
import types

import keras
import numpy as np
import tensorflow as tf
from serving_models import MEL_BINS, awaken

from tf_rnnt_kd.decoding import GreedySearch
from tf_rnnt_kd.models import PRESETS, build_transducer, preset
from tf_rnnt_kd.serving import Recognizer, StreamingRecognizer, describe_model
from tf_rnnt_kd.serving.recognizer import AUDIO
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer

STREAMING_PRESETS = [
    name
    for name, config in PRESETS.items()
    if config["encoder"]["type"] == "lstm" or config["encoder"].get("left_context") is not None
]

CONFORMER = {"width": 16, "num_layers": 2, "num_heads": 2, "kernel_size": 3, "channels": 3}

OTHERS = {
    "chunks and right context": {
        "encoder": {
            **CONFORMER, "subsampling": 4, "left_context": 4, "chunk_size": 2, "right_context": 2,
            "position_encoding": "relative", "time_reduction_after": (0,),
        },
        "predictor": {"type": "lstm", "width": 8},
        "joint": {"width": 12, "combination": "multiply"},
    },
    "right context alone": {
        "encoder": {
            **CONFORMER, "subsampling": 2, "left_context": 6, "right_context": 3, "position_encoding": "none",
            "convolution_norm": "batch",
        },
        "predictor": {"width": 8, "context_size": 2},
        "joint": {"width": 12, "factorised_blank": True},
    },
}

KINDS = [*STREAMING_PRESETS, *OTHERS]


def shrunken(name):
    """The preset with its kinds of layers, chunks and contexts, but thin, shallow and with little past."""
    config = preset(name)
    encoder, predictor = config["encoder"], config["predictor"]
    layers = max([0, *encoder.get("time_reduction_after", ())]) + 2
    encoder |= {"width": 16, "num_layers": layers, "channels": 3}
    if encoder["type"] == "conformer":
        encoder |= {"num_heads": 2, "kernel_size": 3, "left_context": min(encoder["left_context"], 8)}
    for part, projection in ((encoder, 10), (predictor, 6)):
        part |= {"projection": projection} if part.get("projection") else {}
    predictor["width"] = 8
    config["joint"]["width"] = 12
    return config


@functools.cache
def served(kind):
    """The model with its traced functions: whole, start, step, finalize."""
    tokenizer = Tokenizer.train_characters(["GO STOP ÉTÉ"])
    frontend = LogMelFrontend(num_mel_bins=MEL_BINS)
    keras.utils.set_random_seed(5)
    config = shrunken(kind) if kind in PRESETS else OTHERS[kind]
    model = build_transducer(config, vocab_size=tokenizer.vocab_size, num_features=MEL_BINS)
    # As wide as a trained model's: rounding errors grow with it.
    awaken(model, blank_bias=-1.0, spread=3.0)
    search = GreedySearch(max_symbols_per_frame=2)
    recognizer = Recognizer(model, tokenizer=tokenizer, frontend=frontend, search=search)
    streaming = StreamingRecognizer(recognizer)
    state = streaming.state_spec()

    def trace(function, **takes):
        concrete = tf.function(function, autograph=False).get_concrete_function(**takes)
        return lambda **given: concrete(**tf.nest.map_structure(tf.convert_to_tensor, given))

    return types.SimpleNamespace(
        model=model,
        frontend=frontend,
        metadata=describe_model(recognizer, config={}),
        chunk=streaming.chunk_samples,
        start=streaming.start,
        whole=trace(recognizer.recognise, **AUDIO),
        step=trace(streaming.step, waveforms=AUDIO["waveforms"], **state),
        finalize=trace(streaming.finalize, **AUDIO, **state),
    )


def stream(served, waveforms, num_samples, *, sizes):
    """Steps of `sizes` samples, then what is left of each stream.

    Returns (finalize's outputs, [(samples given so far, outputs)] of the steps).
    """
    state, start, steps = served.start(len(waveforms)), 0, []
    for size in sizes:
        outputs = served.step(waveforms=waveforms[:, start : start + size], **state)
        state = {name: value for name, value in outputs.items() if name.startswith("state_")}
        start += size
        steps.append((start, outputs))
    rest = {"waveforms": waveforms[:, start:], "num_samples": np.asarray(num_samples - start, np.int32)}
    return served.finalize(**rest, **state), steps
