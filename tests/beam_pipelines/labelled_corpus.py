"""A small corpus with all kinds of bad records, and how to label it with the fake teacher and read the result.

Records are read back with plain TensorFlow.
"""

import collections
import functools
import hashlib
import json
import pathlib

import numpy as np
import tensorflow as tf

from beam_pipelines.job import LabellingOptions
from beam_pipelines.labelling import pseudo_label
from beam_pipelines.transforms.artifacts import Encoding
from tf_rnnt_kd.records import DatasetInfo, Split, Utterance, encode_utterance, shard_file, write_shard

NUM_SHARDS = 3
FRAME = 1280  # samples of the fake teacher's frames


def options(*artifacts, encoding=None, **changed):
    """LabellingOptions with these artifacts, and `encoding` for more options of Encoding."""
    given = Encoding(artifacts=("hard", *artifacts), **(encoding or {}))
    return LabellingOptions(encoding=given, **{"batch_size": 4, "max_seconds": 5.0, **changed})


def label(root, output, *, options, **kwargs):
    """Labels ROOT/records with ROOT/teacher; the DatasetInfo."""
    records = str(kwargs.pop("records", root / "records"))
    arguments = {"splits": ["pool"], "teacher": str(root / "teacher"), "output": str(output), **kwargs}
    return pseudo_label(records, options=options, **arguments)


def speech(seed, *, words=3, frames=20):
    """Bursts of noise of various loudness with silence between, float32; never as loud as what upsets the teacher."""
    random = np.random.default_rng(seed)
    waveform = np.zeros(frames * FRAME + int(random.integers(0, FRAME)), np.float32)
    for start in np.arange(words) * (frames // words):
        burst = random.uniform(0.2, 0.8) * random.uniform(-1, 1, 2 * FRAME)
        waveform[start * FRAME + 7 : start * FRAME + 7 + 2 * FRAME] = burst
    return waveform


def utterance(name, waveform, *, text=None):
    return encode_utterance(Utterance(name, waveform, text, "speaker", "pool"))


def corpus(directory, *, labelled=False):
    """{utterance id: waveform} of the good records, and the reasons to refuse the others, written in `directory`."""
    good = {f"good-{i}": speech(i, words=1 + i % 4, frames=8 + 3 * i) for i in range(14)}
    crashing, nan = speech(100), speech(101)
    crashing[5], nan[5] = -1.0, 0.95
    bad = {
        "silent": (np.zeros(9000, np.float32), "empty_hypothesis"),
        "crashing": (crashing, "inference_failed"),
        "nan": (nan, "non_finite_score"),
        "long": (speech(102, frames=80), "too_long"),
        "empty": (np.zeros(0, np.float32), "empty_audio"),
    }
    texts = {name: "ONE TWO" if labelled else None for name in [*good, *bad]}
    records = [utterance(name, waveform, text=texts[name]) for name, waveform in good.items()]
    records += [utterance(name, waveform, text=texts[name]) for name, (waveform, _) in bad.items()]
    records += [b"no example at all", tf.train.Example().SerializeToString()]
    rejected = collections.Counter(reason for _, reason in bad.values()) + collections.Counter(corrupt_record=2)
    shards = [
        write_shard(directory, file=shard_file("pool", index=i, num_shards=NUM_SHARDS), records=records[i::NUM_SHARDS])
        for i in range(NUM_SHARDS)
    ]
    split = Split(shards=tuple(shards), utterances=len(records), hours=0.01, labelled=labelled)
    counts = {"input": len(records), "written": len(records), "rejected": 0}
    DatasetInfo(kind="utterances", splits={"pool": split}, counts=counts, rejected={}).save(directory)
    return good, dict(rejected)


def tree(directory):
    """{relative path: SHA-256} of all files."""
    files = sorted(path for path in pathlib.Path(directory).rglob("*") if path.is_file())
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read(directory, shards="*"):
    """{utterance id: {feature: list of values}}, with TensorFlow's own reader, in order; what has no id is left out."""
    found = {}
    for path in sorted(pathlib.Path(directory, "pool").glob(f"pool-{shards}-of-*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            if b"utterance_id" not in record.numpy():
                continue
            features = tf.train.Example.FromString(record.numpy()).features.feature
            values = {name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in features.items()}
            found[values["utterance_id"][0].decode()] = values
    return found


def dead_letter(directory):
    return [json.loads(line) for line in pathlib.Path(directory, "dead_letter.jsonl").read_text().splitlines()]


def naive_nodes(encoder, predictor, tokens, kernel, bias):
    """[T, U+1, 3] float64 by the definition; the label at u = U is -inf."""
    logits = np.tanh(encoder[:, None].astype(np.float64) + predictor[None]) @ kernel + bias
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nodes = np.full([*logits.shape[:2], 3], -np.inf)
    nodes[..., 0] = log_probs[..., 0]
    for u in range(len(tokens) + 1):
        others = set(range(1, len(bias))) - set(tokens[u : u + 1])
        nodes[:, u, 2] = np.log(np.exp(log_probs[:, u, sorted(others)]).sum(-1))
        if u < len(tokens):
            nodes[:, u, 1] = log_probs[:, u, tokens[u]]
    return nodes


def direct(root, waveform):
    """The teacher's own answer to one utterance, alone and without padding: {signature: {name: array}}."""
    pcm = np.rint(waveform * 32768.0).clip(-32768, 32767) / 32768.0
    signatures = _loaded(root / "teacher").signatures
    audio = {"waveforms": tf.constant(pcm[None], tf.float32), "num_samples": tf.constant([len(pcm)])}
    found = {}
    for name in ("teacher", "nbest", "hidden"):
        found[name] = {key: value.numpy()[0] for key, value in signatures[name](**audio).items()}
    return found


@functools.cache
def _loaded(saved_model):
    return tf.saved_model.load(str(saved_model))


def best_path(nodes):
    """(log-prob, emission frames) of the best alignment of nodes [T, U+1, 3], by plain dynamic programming."""
    num_frames, num_labels = nodes.shape[0], nodes.shape[1] - 1
    best = np.full([num_frames, num_labels + 1], -np.inf)
    back = {}
    for t in range(num_frames):
        for u in range(num_labels + 1):
            choices = [(0.0, None)] if t == u == 0 else []
            choices += [(best[t - 1, u] + nodes[t - 1, u, 0], "blank")] if t else []
            choices += [(best[t, u - 1] + nodes[t, u - 1, 1], "label")] if u else []
            best[t, u], back[t, u] = max(choices, key=lambda choice: choice[0])
    t, u, frames = num_frames - 1, num_labels, []
    while back[t, u]:
        if back[t, u] == "label":
            u -= 1
            frames.append(t)
        else:
            t -= 1
    return best[-1, -1] + nodes[-1, -1, 0], frames[::-1]
