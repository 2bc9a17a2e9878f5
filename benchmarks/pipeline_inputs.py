"""A teacher of a real one's cost and utterances for it, made here: random weights, noise bursts, fixed seeds."""

import functools

import numpy as np

from tf_rnnt_kd.records import SAMPLE_RATE, DatasetInfo, Split, Utterance, encode_utterance, shard_file, write_shard

SPLIT = "pool"
# Conformer S of the paper is (144, 16, 4); the light one is for what does not depend on the teacher.
MODELS = {"conformer_s": (144, 16, 4), "light": (16, 1, 2)}
_MEL_BINS = 40
_SECONDS = (4.0, 6.5, 9.0, 11.5)


def save_teacher(folder, *, model):
    """Writes a SavedModel with all signatures; `model` is a name in MODELS."""
    import keras
    import tensorflow as tf

    from tf_rnnt_kd.decoding import GreedySearch
    from tf_rnnt_kd.models import build_transducer
    from tf_rnnt_kd.serving import export_saved_model
    from tf_rnnt_kd.speech.frontend import LogMelFrontend
    from tf_rnnt_kd.text import Tokenizer

    width, num_layers, num_heads = MODELS[model]
    keras.utils.set_random_seed(0)
    tokenizer = Tokenizer.train_characters(["ABCDEFGHIJKLMNOPQRSTUVWXYZ"])
    frontend = LogMelFrontend(num_mel_bins=_MEL_BINS)
    config = {
        "encoder": {"width": width, "num_layers": num_layers, "num_heads": num_heads, "kernel_size": 31},
        "predictor": {"width": width, "context_size": 2},
        "joint_width": max(width, 64),
    }
    transducer = build_transducer(config, vocab_size=tokenizer.vocab_size, num_features=_MEL_BINS)
    transducer.set_feature_statistics(np.full(_MEL_BINS, -5.0, np.float32), np.full(_MEL_BINS, 3.0, np.float32))
    # Fresh weights say one symbol everywhere: spread out, they say a few, at some of the frames.
    waveform = tf.constant(_bursts(0, seconds=_SECONDS[0])[None])
    encoded, _ = transducer.encode(*frontend(waveform, tf.constant([waveform.shape[1]])))
    frames = encoded[0].numpy()
    scale = 3.0 / frames.std(axis=0)
    transducer.encoder_projection.kernel.assign(transducer.encoder_projection.kernel * scale)
    transducer.encoder_projection.bias.assign(-frames.mean(axis=0) * scale)
    bias = np.zeros(tokenizer.vocab_size, np.float32)
    bias[0] = 3.0
    transducer.joint_bias.assign(bias)
    export_saved_model(
        transducer, tokenizer=tokenizer, frontend=frontend, config={"model": model}, output_dir=folder,
        search=GreedySearch(max_symbols_per_frame=1),
    )  # fmt: skip


def save_records(folder, *, utterances, num_shards=8):
    """Utterance records of `SPLIT` in shards that hold the same lengths each; returns seconds of audio.

    Args:
        utterances: a multiple of num_shards times the four lengths there are.
    """
    if utterances % (num_shards * len(_SECONDS)):
        raise ValueError(f"utterances must be a multiple of {num_shards * len(_SECONDS)}, got {utterances}")
    shards, seconds = [], 0.0
    for index in range(num_shards):
        numbers = range(index, utterances, num_shards)
        lengths = [_SECONDS[position % len(_SECONDS)] for position in range(len(numbers))]
        seconds += sum(lengths)
        records = (_record(number, length) for number, length in zip(numbers, lengths, strict=True))
        file = shard_file(SPLIT, index=index, num_shards=num_shards)
        shards.append(write_shard(folder, file=file, records=records))
    split = Split(shards=tuple(shards), utterances=utterances, hours=seconds / 3600, labelled=False)
    counts = {"input": utterances, "written": utterances, "rejected": 0}
    DatasetInfo(kind="utterances", splits={SPLIT: split}, counts=counts, rejected={}).save(folder)
    return seconds


def _record(number, seconds):
    return encode_utterance(
        Utterance(
            utterance_id=f"utterance-{number:06d}", waveform=_bursts(number % 16, seconds=seconds), text=None,
            speaker="x", split=SPLIT,
        )
    )  # fmt: skip


@functools.lru_cache(maxsize=64)  # noise costs more to make than a light teacher to hear
def _bursts(seed, *, seconds):
    random = np.random.default_rng(seed)
    loudness = np.repeat(random.uniform(0.001, 0.3, size=int(seconds * 20)), SAMPLE_RATE // 20)
    return (loudness * random.standard_normal(len(loudness)).clip(-3, 3)).astype(np.float32)
