"""Corpora made here for the tests of prepare_corpus, and records read back with plain TensorFlow."""

import collections
import io
import json

import numpy as np
import soundfile
import tensorflow as tf

from beam_pipelines.corpus import prepare_corpus

RATE = 16000


def prepare(corpus, output, **settings):
    """prepare_corpus, decoding in this process: starting others takes longer than any test here."""
    paths = [str(path) for path in corpus] if isinstance(corpus, list) else str(corpus)
    return prepare_corpus(paths, output=str(output), **{"decoder_processes": 0, **settings})


def noise(seconds=0.5, *, rate=RATE, channels=1, seed=0):
    """Float [S, channels]; equal seeds give equal samples."""
    samples = np.random.default_rng(seed).standard_normal([int(seconds * rate), channels])
    return np.clip(0.1 * samples, -0.9, 0.9)


def encoded(samples, *, format="FLAC", rate=RATE, subtype=None):
    """The bytes of an audio file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def flac(path, seconds=0.5, *, seed=0):
    """A FLAC file of noise; returns its samples as soundfile reads them."""
    put(path, encoded(noise(seconds, seed=seed)))
    return soundfile.read(path)[0]


def chapter(corpus, split, speaker, texts, *, suffix="flac", format="FLAC"):
    """A LibriSpeech chapter: {utterance number: text, or None for no transcript}."""
    folder = corpus / split / speaker / "7"
    for number, text in texts.items():
        name = f"{speaker}-7-{number:04d}"
        put(folder / f"{name}.{suffix}", encoded(noise(seed=100 * int(speaker) + number), format=format))
        if text is not None:
            with (folder / f"{speaker}-7.trans.txt").open("a") as transcripts:
                transcripts.write(f"{name} {text}\n")


def manifest(path, entries):
    """Lines of JSON; strings and bytes as they are."""
    lines = [entry.encode() if isinstance(entry, str) else entry for entry in
             (entry if isinstance(entry, str | bytes) else json.dumps(entry) for entry in entries)]  # fmt: skip
    put(path, b"\n".join(lines) + b"\n")


def read(output):
    """{(split, id): features} of all shards."""
    parsed = {}
    text = tf.io.FixedLenFeature([], tf.string)
    seconds = tf.io.FixedLenFeature([], tf.float32, default_value=-1.0)
    for path in sorted(output.glob("*/*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            features = tf.io.parse_single_example(
                record,
                {
                    "utterance_id": text,
                    "speaker": text,
                    "split": text,
                    "audio": text,
                    "num_samples": tf.io.FixedLenFeature([], tf.int64),
                    "text": tf.io.FixedLenFeature([], tf.string, default_value="(none)"),
                    "domain": tf.io.FixedLenFeature([], tf.string, default_value=""),
                    "recording": tf.io.FixedLenFeature([], tf.string, default_value=""),
                    "start_seconds": seconds,
                    "end_seconds": seconds,
                    "words/text": tf.io.VarLenFeature(tf.string),
                    "words/start_seconds": tf.io.VarLenFeature(tf.float32),
                    "words/end_seconds": tf.io.VarLenFeature(tf.float32),
                },
            )
            key = (features["split"].numpy().decode(), features["utterance_id"].numpy().decode())
            assert key not in parsed
            assert key[0] == path.parent.name
            parsed[key] = features
    return parsed


def texts(output):
    """{(split, id): text}."""
    return {key: string(features, "text") for key, features in read(output).items()}


def string(features, name):
    return features[name].numpy().decode()


def waveform(features):
    samples = tf.io.decode_raw(features["audio"], tf.int16).numpy()
    assert len(samples) == features["num_samples"].numpy()
    return samples / 32768.0


def contents(folder):
    """{relative path: bytes} of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def dead_letters(output):
    return [json.loads(line) for line in (output / "dead_letter.jsonl").read_text().splitlines()]


def reasons(output):
    """{id: reason}; ids that were refused more than once have several, sorted."""
    found = collections.defaultdict(list)
    for letter in dead_letters(output):
        found[letter["id"]].append(letter["reason"])
    return {name: ", ".join(sorted(of_one)) for name, of_one in found.items()}
