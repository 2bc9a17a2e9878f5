"""What the input of a training costs, stage by stage, against what the training step consumes:

    python -m benchmarks.input_pipeline --seconds=10 --batch_size=8 --steps=3

Records of noise with transcripts, with and without stored lattices, are made in a temporary folder. For each stage it
prints CPU time per utterance (of all threads, the stages before it taken off) and for whole pipelines utterances per
second of wall time. Then it trains a model of --preset on the same batches. The pipeline without lattices must give at
least 5 times as many utterances per second as the step takes. Ends with status 1 if it does not.
"""

import os
import sys
import tempfile
import time

import numpy as np
from absl import flags

from benchmarks import measure
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS

BAR = 5.0
_WORDS = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "ZERO", "OH"]
_JOINT_WIDTH, _SUBSAMPLING = 320, 4


def make_records(folder, *, utterances, seconds, tokenizer):
    """{"plain", "collapsed", "factored": Source} of the same utterances, a word per 0.7 s."""
    from tf_rnnt_kd.records import DatasetInfo, Split, reader, schema, shard_file, write_shard

    random = np.random.default_rng(0)
    records = {name: [] for name in ("plain", "collapsed", "factored")}
    for index in range(utterances):
        waveform = (random.normal(size=round(16000 * seconds)) * 0.1).astype(np.float32).clip(-1, 1)
        text = " ".join(random.choice(_WORDS, size=max(1, int(seconds / 0.7))))
        plain = schema.encode_utterance(schema.Utterance(f"u{index}", waveform, text, "s", "train"))
        records["plain"].append(plain)
        for name in ("collapsed", "factored"):
            records[name].append(_taught(plain, tokenizer.encode(text), seconds, name, random))
    sources = {}
    for name, made in records.items():
        files = [shard_file("train", index=index, num_shards=4) for index in range(4)]
        shards = tuple(
            write_shard(f"{folder}/{name}", file=file, records=made[index::4]) for index, file in enumerate(files)
        )
        sizes = {artifact: {"bytes": 1, "bytes_per_hour": 1} for artifact in ("hard", name)}
        DatasetInfo(
            kind="utterances", splits={"train": Split(shards, len(made), 1.0, True)}, counts={}, rejected={},
            artifacts=None if name == "plain" else sizes,
        ).save(f"{folder}/{name}")
        sources[name] = reader.Source(f"{folder}/{name}", "train")
    return sources


def _taught(record, tokens, seconds, artifact, random):
    from tf_rnnt_kd.records import TeacherLabels, encode_distillation, features

    num_frames = -(-round(100 * seconds) // _SUBSAMPLING)
    labels = TeacherLabels(tokens, "", -1.0, num_frames, [0] * len(tokens), [0.5] * len(tokens), [0.5])
    if artifact == "collapsed":
        logits = random.normal(size=[num_frames, len(tokens) + 1, 3])
        nodes = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        nodes[:, -1, 1] = -np.inf
        made = features.collapsed_features(nodes, bits=8, band=None)
    else:
        sizes = (num_frames, len(tokens) + 1)
        projections = [random.normal(size=[size, _JOINT_WIDTH]).astype(np.float32) for size in sizes]
        made = features.factored_features(*projections, factored_type="int8")
    return encode_distillation(record, teacher=labels, artifacts=made)


def time_stages(sources, *, tokenizer, frontend, buckets, count):
    """[(stage, CPU seconds per utterance, utterances per second)], each stage with all that come before it."""
    import tensorflow as tf

    from tf_rnnt_kd.records import reader
    from tf_rnnt_kd.records.parsing import make_content, make_summary
    from tf_rnnt_kd.records.streams import endless_records

    summary, content = make_summary(tokenizer=tokenizer, frontend=frontend, subsampling=_SUBSAMPLING), make_content()

    def batches(name="plain", **settings):
        return reader.training_batches(
            [sources[name]], tokenizer=tokenizer, frontend=frontend, subsampling=_SUBSAMPLING, buckets=buckets, seed=1,
            shuffle_buffer=32, **settings,
        )

    records = endless_records([sources["plain"]], seed=1, shuffle_buffer=32).map(lambda record, _: record)
    summaries = records.map(summary)
    audio = summaries.map(lambda element: content(element)["waveform"])
    features = audio.map(lambda waveform: frontend(waveform[None], tf.shape(waveform)))
    noise = reader.open_noise("white", probability=1.0, snr_db=(5.0, 20.0))
    stages = {
        "read and shuffle records": (records, 1), "labels and lengths": (summaries, 1), "audio": (audio, 1),
        "features": (features, 1), "batches: the whole": (batches(), None),
        "the whole, with speed": (batches(speed_factors=(0.9, 1.0)), None),
        "the whole, with noise": (batches(noise=noise), None),
        "the whole, with collapsed lattices": (batches("collapsed", artifacts=("collapsed",)), None),
        "the whole, with factored lattices": (batches("factored", artifacts=("factored",)), None),
    }
    return [(name, *_time(dataset, count, of=of)) for name, (dataset, of) in stages.items()]


def _time(dataset, count, *, of):
    """Medians of three: (CPU seconds per utterance, utterances per second); elements hold `of`, or are batches."""
    iterator = iter(dataset)

    def utterances():
        element = next(iterator)
        return of or len(element["num_frames"])

    for _ in range(count // 8 + 1):  # buffers are full then
        utterances()
    costs, rates = [], []
    for _ in range(3):
        done, cpu, wall = 0, time.process_time(), time.perf_counter()
        while done < count:
            done += utterances()
        costs.append((time.process_time() - cpu) / done)
        rates.append(done / (time.perf_counter() - wall))
    return measure.median(costs), measure.median(rates)


def time_step(source, *, tokenizer, frontend, preset, batch_frames, steps):
    """(utterances per second of training alone on batches that are there already, parameters in millions)."""
    import ml_collections

    from tf_rnnt_kd.models.presets import preset as model_of
    from tf_rnnt_kd.training.config import default_config
    from tf_rnnt_kd.training.session import Session

    config = default_config()
    config.model = ml_collections.ConfigDict(model_of(preset))
    config.data.update(frames_per_batch=batch_frames, num_buckets=1, shuffle_buffer=32)
    session = Session(config, sources=[source], tokenizer=tokenizer, frontend=frontend)
    session.start()
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        batch, _, _ = session.advance()
        seconds.append(time.perf_counter() - start)
    # The step waits for its batch too, but that was made while the one before was computed.
    return len(batch["num_frames"]) / measure.median(seconds[1:]), session.model.count_params() / 1e6


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tf_rnnt_kd.records import reader
    from tf_rnnt_kd.speech.frontend import LogMelFrontend
    from tf_rnnt_kd.text import Tokenizer

    tokenizer, frontend = Tokenizer.train_characters(_WORDS), LogMelFrontend()
    frames = round(100 * FLAGS.seconds)
    # A little longer than the utterances, and than these at a tenth less speed.
    lengths, labels = (frames + 16, round(frames * 1.2) + 16), 16 + round(10 * FLAGS.seconds)
    buckets = [reader.Bucket(length, labels, FLAGS.batch_size) for length in lengths]
    with tempfile.TemporaryDirectory(dir=FLAGS.workdir) as folder:
        sources = make_records(folder, utterances=FLAGS.utterances, seconds=FLAGS.seconds, tokenizer=tokenizer)
        stages = time_stages(sources, tokenizer=tokenizer, frontend=frontend, buckets=buckets, count=FLAGS.count)
        taken, parameters = time_step(
            sources["plain"], tokenizer=tokenizer, frontend=frontend, preset=FLAGS.preset,
            batch_frames=FLAGS.batch_size * (frames + 16), steps=FLAGS.steps,
        )
    lines, good = report(stages, taken, label=f"{FLAGS.preset} ({parameters:.1f} M parameters)")
    sys.stdout.write("\n".join([f"{measure.processor()}, {os.cpu_count()} cores", *lines]) + "\n")
    return int(not good)


def report(stages, taken, *, label):
    """(lines, whether the bar is met)."""
    lines, before = [f"{'stage':38s} {'CPU ms / utterance':>20s} {'utterances / s':>16s}"], 0.0
    for name, cost, rate in stages:
        if name.startswith(("the whole", "batches")):
            lines.append(f"{name:38s} {1000 * cost:17.2f} in all {rate:9.0f}")
        else:
            lines.append(f"{name:38s} {1000 * (cost - before):20.2f} {rate:16.0f}")
            before = cost
    ratio = next(rate for name, _, rate in stages if name.startswith("batches")) / taken
    good = ratio >= BAR
    lines.append(
        f"a step of {label} takes {taken:.1f} utterances / s: the input gives {ratio:.1f} times that "
        f"(at least {BAR:g})  {'PASS' if good else 'FAIL'}"
    )
    return lines, good


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_float("seconds", 10.0, "Length of an utterance.", lower_bound=0.5, **add)
    flags.DEFINE_integer("batch_size", 8, "Utterances in a batch.", lower_bound=1, **add)
    flags.DEFINE_integer("utterances", 64, "Different utterances.", lower_bound=8, **add)
    flags.DEFINE_integer("count", 200, "Utterances that each stage is timed with, three times.", lower_bound=1, **add)
    flags.DEFINE_integer("steps", 3, "Training steps that are timed.", lower_bound=1, **add)
    flags.DEFINE_string("preset", "conformer_s", "The model, see tf_rnnt_kd.models.presets.", **add)
    flags.DEFINE_string("workdir", None, "Where to write records; a temporary folder by default.", **add)


if __name__ == "__main__":
    command_line.start(main, define_flags)
