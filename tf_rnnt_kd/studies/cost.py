"""What a study at the papers' sizes takes: audio, operations, device-hours, bytes.

Operations are counted from the shapes of the weights: two for each weight and place where it is applied, three passes
for a training step (forward, and backward for weights and inputs), and a joint at every node of the lattice. The
joint's backward pass leaves most nodes out, so the count is an upper one, by a little.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.studies.check import Shapes, vocabulary, weight_shapes
from tf_rnnt_kd.studies.jobs import Job
from tf_rnnt_kd.studies.plan import Study

# Of read English in word pieces: 12.3 s an utterance, 5.5 frames of 40 ms a piece.
UTTERANCES_PER_HOUR = 293
TOKENS_PER_HOUR = 16_364
_SECONDS = 3600
_FEATURES_PER_HOUR = 100 * _SECONDS
_AUDIO_BYTES_PER_HOUR = 2 * 16_000 * _SECONDS
_PASSES = 3
_LATTICE = {"collapsed", "top_k", "dense"}


class Cost(NamedTuple):
    """Of a job. audio_hours: that it reads. operations: floating-point. stored: bytes by what they are."""

    parameters: int
    audio_hours: float
    operations: float
    stored: Mapping[str, float] = {}


def costs(study: Study, *, devices: int = 1) -> dict[str, Cost]:
    """Of each job of a kind that takes long, by key.

    Args:
      study: as declared, of a corpus whose hours are known.
      devices: replicas of each training, whose batches it multiplies.
    """
    configs = {job.flags["workdir"]: job.config for job in study.jobs.values() if job.kind == "training"}
    exported = {job.flags["output"]: job.flags["workdir"] for job in study.jobs.values() if job.kind == "export"}
    found = {}
    for job in study.jobs.values():
        if job.kind == "training":
            found[job.key] = _training(job, vocab_size=vocabulary(study), devices=devices)
        elif job.kind == "labelling":
            teacher = configs[exported[job.flags["teacher"]]]
            found[job.key] = _labelling(job, teacher, vocab_size=vocabulary(study), hours=_hours(study, job))
        elif job.key.startswith("records"):
            hours = sum(study.definition.corpus.hours.values())
            found[job.key] = Cost(0, hours, 0.0, {"audio": hours * _AUDIO_BYTES_PER_HOUR})
    return found


def operations_per_hour(
    model: Mapping[str, Any], shapes: Shapes, *, vocab_size: int, num_features: int
) -> tuple[float, float]:
    """Of one forward pass over an hour of audio: (encoder and predictor, joint over the whole lattice)."""
    encoder = model["encoder"]
    frames = _FEATURES_PER_HOUR / encoder["subsampling"]
    per_utterance = frames / UTTERANCES_PER_HOUR
    total, convolutions = 0.0, 0
    for shape in shapes.encoder:
        if len(shape) == 4:  # of the subsampling, each halves time and frequency
            convolutions += 1
            places = _FEATURES_PER_HOUR * num_features / 4**convolutions
        else:
            places = frames if len(shape) > 1 else 0
        total += 2 * math.prod(shape) * places
    if encoder["type"] == "conformer":
        left = encoder.get("left_context")
        seen = per_utterance if left is None else left + encoder.get("chunk_size", 1) + encoder.get("right_context", 0)
        total += 4 * encoder["num_layers"] * encoder["width"] * min(seen, per_utterance) * frames
    total += 2 * TOKENS_PER_HOUR * sum(math.prod(shape) for shape in shapes.predictor if len(shape) > 1)
    nodes = frames * (TOKENS_PER_HOUR / UTTERANCES_PER_HOUR + 1)
    return total, 2 * nodes * joint_width(model) * vocab_size


def joint_width(model: Mapping[str, Any]) -> int:
    """Of a `model` section, which names it in one of two ways."""
    return model["joint_width"] if "joint_width" in model else model["joint"]["width"]


def sustained(config: Mapping[str, Any], *, vocab_size: int) -> float:
    """Operations per second that this machine's device reaches in forward and backward passes of an encoder.

    Args:
      config: all settings of a training.
    """
    import tensorflow as tf

    from tf_rnnt_kd.models import build_transducer

    features, seconds = config["frontend"]["num_mel_bins"], 10
    model = build_transducer(config["model"], vocab_size=vocab_size, num_features=features)
    shapes = weight_shapes(config["model"], vocab_size=vocab_size, num_features=features)
    operations, _ = operations_per_hour(config["model"], shapes, vocab_size=vocab_size, num_features=features)
    weights = [variable.value for variable in model.encoder.trainable_variables]
    batch, lengths = tf.random.stateless_normal([2, 100 * seconds, features], [1, 2]), tf.constant([100 * seconds] * 2)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model.encoder(batch, lengths, training=True)[0] ** 2)
        gradients = tape.gradient(loss, weights)
        return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients if gradient is not None])

    step().numpy()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        step().numpy()
        times.append(time.perf_counter() - start)
    return _PASSES * operations * 2 * seconds / _SECONDS / min(times)


def _training(job: Job, *, vocab_size, devices):
    config = job.settings
    features = config["frontend"]["num_mel_bins"]
    shapes = weight_shapes(config["model"], vocab_size=vocab_size, num_features=features)
    encoder, joint = operations_per_hour(config["model"], shapes, vocab_size=vocab_size, num_features=features)
    frames = config["train"]["steps"] * config["data"]["frames_per_batch"] * config["train"]["accumulate_steps"]
    hours = devices * frames / _FEATURES_PER_HOUR
    # Losses over whole distributions go through the teacher's joint once, and once more through the student's.
    k_way = "teacher_joint" in Objective(config["losses"]).needs
    return Cost(shapes.parameters, hours, hours * (_PASSES * encoder + (_PASSES + k_way * (_PASSES + 1)) * joint))


def _labelling(job: Job, teacher, *, vocab_size, hours):
    flags, model = job.flags, teacher["model"]
    features = teacher["frontend"]["num_mel_bins"]
    shapes = weight_shapes(model, vocab_size=vocab_size, num_features=features)
    encoder, joint = operations_per_hour(model, shapes, vocab_size=vocab_size, num_features=features)
    artifacts = flags["artifacts"].split(",")
    operations = encoder + (joint if _LATTICE & set(artifacts) else 0.0)
    sizes = {name: hours * _bytes_per_hour(name, model, flags, vocab_size=vocab_size) for name in artifacts}
    return Cost(shapes.parameters, hours, hours * operations, sizes)


def _bytes_per_hour(artifact, model, flags, *, vocab_size):
    """Before compression, which takes a quarter to two thirds of lattices."""
    frames = _FEATURES_PER_HOUR / model["encoder"]["subsampling"]
    positions = TOKENS_PER_HOUR / UTTERANCES_PER_HOUR + 1
    nodes = frames * min(positions, int(flags.get("band", 0)) or positions)
    if artifact == "hard":
        return 60 * UTTERANCES_PER_HOUR + 10 * TOKENS_PER_HOUR
    if artifact == "nbest":
        return int(flags.get("n_best", 4)) * (8 * UTTERANCES_PER_HOUR + 6 * TOKENS_PER_HOUR)
    if artifact == "collapsed":
        return nodes * 2 * int(flags.get("collapsed_bits", 8)) / 8
    if artifact == "top_k":
        return nodes * int(flags.get("top_k", 8)) * (3 if vocab_size > 256 else 2)
    if artifact == "factored":
        size = 1 if flags.get("factored_type") == "int8" else 2
        return (frames + TOKENS_PER_HOUR + UTTERANCES_PER_HOUR) * joint_width(model) * size
    if artifact == "hidden":
        layers = len([name for name in flags.get("hidden_layers", "").split(",") if name])
        return frames * model["encoder"]["width"] * 2 * max(layers, 1)
    return nodes * vocab_size * 2


def _hours(study, job):
    """Of the splits that a labelling reads; 0 where they are not known, as of other audio than the corpus."""
    hours = study.definition.corpus.hours
    return sum(hours.get(split, 0.0) for split in job.flags["split"].split(","))
