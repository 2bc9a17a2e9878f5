"""A student of a preset's size with random weights that says a few words a second, and its exports."""

import pathlib

import numpy as np

_SECONDS = 8.0
MEL_BINS, VOCAB_SIZE = 80, 1025


def speech_like(seconds, *, seed=0, rows=1):
    """Noise in bursts, float32 [rows, S] at 16 kHz."""
    random = np.random.default_rng(seed)
    loudness = np.repeat(random.uniform(0.001, 0.3, size=[rows, int(np.ceil(seconds * 20))]), 800, axis=1)
    noise = loudness * random.standard_normal(loudness.shape).clip(-3, 3)
    return noise[:, : round(seconds * 16000)].astype(np.float32)


def save(folder, *, preset, tokens_per_second):
    """Writes FOLDER/saved_model/1 and FOLDER/lite; returns the tokens per second that it says.

    Args:
      preset: name of a model preset. tokens_per_second: what to come near to.
    """
    import keras
    import tensorflow as tf

    from tf_rnnt_kd.models import build_transducer
    from tf_rnnt_kd.models.presets import preset as preset_config
    from tf_rnnt_kd.serving import Recognizer, export_saved_model
    from tf_rnnt_kd.serving.lite import export_lite
    from tf_rnnt_kd.speech.frontend import LogMelFrontend
    from tf_rnnt_kd.text import Tokenizer

    keras.utils.set_random_seed(0)
    # Every second piece begins a word.
    pieces = ["<blank>", *(f"{'' if i % 2 else chr(0x2581)}p{i}" for i in range(1, VOCAB_SIZE))]
    tokenizer, frontend = Tokenizer(kind="characters", pieces=pieces), LogMelFrontend(num_mel_bins=MEL_BINS)
    model = build_transducer(preset_config(preset), vocab_size=VOCAB_SIZE, num_features=MEL_BINS)
    model.set_feature_statistics(np.full(MEL_BINS, -5.0, np.float32), np.full(MEL_BINS, 3.0, np.float32))
    audio = tf.constant(speech_like(_SECONDS))
    # Traced: run operation by operation the twelve searches below take minutes.
    encode = tf.function(lambda: model.encode(*frontend(audio, tf.constant([audio.shape[1]]))), autograph=False)
    encoded, _ = encode()
    # Fresh weights decide for one symbol everywhere.
    frames, random = encoded[0].numpy(), np.random.default_rng(1)
    scale = 6.0 / frames.std(axis=0)
    model.encoder_projection.kernel.assign(model.encoder_projection.kernel * scale)
    model.encoder_projection.bias.assign(-frames.mean(axis=0) * scale)
    model.joint_kernel.assign(0.5 * random.normal(size=model.joint_kernel.shape))
    recognizer = Recognizer(model, tokenizer=tokenizer, frontend=frontend)
    encoded, lengths = encode()
    search = tf.function(lambda: recognizer.search(encoded, lengths, state=None).num_tokens[0], autograph=False)
    low, high = 0.0, 40.0
    for _ in range(12):
        middle = 0.5 * (low + high)
        model.joint_bias.assign([middle] + [0.0] * (VOCAB_SIZE - 1))
        rate = int(search()) / _SECONDS
        low, high = (middle, high) if rate > tokens_per_second else (low, middle)
    folder = pathlib.Path(folder)
    export_saved_model(
        model, tokenizer=tokenizer, frontend=frontend, config={"preset": preset}, output_dir=folder / "saved_model"
    )
    export_lite(folder / "saved_model", output_dir=folder / "lite")
    return rate
