"""A corpus of noise with a few words as transcripts, and training batches of it."""

import math

import numpy as np

from tf_rnnt_kd.records import dataset, reader, schema
from tf_rnnt_kd.speech.frontend import LogMelFrontend

FRONTEND = LogMelFrontend(num_mel_bins=20)
WORDS = ["ONE", "TWO", "THREE", "FOUR"]


def utterance(index):
    rng = np.random.default_rng(index)
    waveform = np.round(rng.normal(size=int(rng.integers(6000, 20000))) * 3000) / 32768
    text = " ".join(rng.choice(WORDS, size=rng.integers(1, 5)))
    return schema.Utterance(f"u-{index:03d}", waveform.astype(np.float32), text, "speaker", "train")


def num_encoder_frames(utterance):
    return math.ceil(math.ceil(len(utterance.waveform) / 160) / 4)


def write(directory, records, *, split="train", teacher=None, artifacts=()):
    """Two shards of records and their dataset.json; `artifacts` are names."""
    shards = []
    for index in range(2):
        file = dataset.shard_file(split, index=index, num_shards=2)
        shards.append(dataset.write_shard(directory, file=file, records=records[index::2]))
    splits = {split: dataset.Split(tuple(shards), len(records), 1.0, True)}
    info = dataset.DatasetInfo(
        kind="utterances", splits=splits, counts={}, rejected={}, teacher=teacher,
        artifacts={name: {"bytes": 1, "bytes_per_hour": 1} for name in artifacts} or None,
    )  # fmt: skip
    info.save(directory)
    return reader.Source(str(directory), split)


def batches(source, tokenizer, **changes):
    """(buckets, dataset of training batches)."""
    read = {name: changes[name] for name in ("artifacts", "num_hypotheses") if name in changes}
    inventory = reader.take_inventory([source], tokenizer=tokenizer, frontend=FRONTEND, subsampling=4, **read)
    buckets = reader.plan_buckets(inventory, num_buckets=2, frames_per_batch=500, multiple=8)
    settings = {"seed": 1, "shuffle_buffer": 8, "subsampling": 4, "buckets": buckets, **changes}
    return buckets, reader.training_batches([source], tokenizer=tokenizer, frontend=FRONTEND, **settings)
