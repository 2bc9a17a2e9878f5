"""Records to training batches: parsing, checking, bucketing by length, with tf.data.

Everything random is drawn from stateless seeds that count elements, and every stage keeps its order, so the same
settings give the same batches; the iterator can be saved in a checkpoint.
"""

import collections
import dataclasses
import io
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records import codecs
from tf_rnnt_kd.records.dataset import DatasetInfo
from tf_rnnt_kd.records.schema import from_pcm16_tf
from tf_rnnt_kd.speech.augment import speed_perturb

UNKNOWN_CHARACTERS = "unknown_characters"
TRANSCRIPT_TOO_LONG = "transcript_longer_than_frames"
NO_TRANSCRIPT = "no_transcript"
ARTIFACTS = ("collapsed", "factored")
# The order is that of the codes in the element's `reject`, after 0 for "fine".
REJECT_REASONS = (UNKNOWN_CHARACTERS, TRANSCRIPT_TOO_LONG, NO_TRANSCRIPT)


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of one dataset. `parse` reads `DIR:split`."""

    directory: str
    split: str

    @classmethod
    def parse(cls, text: str) -> "Source":
        directory, colon, split = text.rpartition(":")
        if not (colon and directory and split):
            raise ValueError(f"{text!r} does not name records: write DIR:split, for example demo_run/records:dev")
        return cls(directory, split)

    def paths(self) -> list[str]:
        """The split's shards, checked to be there."""
        return DatasetInfo.load(self.directory).shard_paths(self.directory, self.split)


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Batches of one static shape: up to `num_frames` feature frames and `num_labels` labels, `batch_size` of them."""

    num_frames: int
    num_labels: int
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Inventory:
    """What a pass over the records found: arrays over the usable utterances, and the refused ones."""

    num_frames: np.ndarray
    num_labels: np.ndarray
    hours: float
    rejected: list[dict[str, str]]

    def counts(self) -> dict[str, int]:
        """Refusals by reason."""
        return dict(collections.Counter(entry["reason"] for entry in self.rejected))


def check_teacher(sources: Sequence[Source], *, tokenizer_hash: str, frame_seconds: float, node_level: bool) -> None:
    """Refuses stored teacher knowledge that the student cannot use.

    Args:
      node_level: whether a loss compares lattice nodes, which needs equal frame rates.

    Raises:
      ValueError: naming both sides and the way out.
    """
    for source in sources:
        teacher = DatasetInfo.load(source.directory).teacher
        if teacher is None:
            continue
        if teacher["tokenizer_hash"] != tokenizer_hash:
            raise ValueError(
                f"{source.directory} was labelled with tokenizer {teacher['tokenizer_hash']}, this model has "
                f"{tokenizer_hash}: train with the teacher's --tokenizer, or label again"
            )
        if node_level and abs(teacher["frame_seconds"] - frame_seconds) > 1e-9:
            raise ValueError(
                f"{source.directory}: the teacher has {teacher['frame_seconds'] * 1000:g} ms frames, this model "
                f"{frame_seconds * 1000:g} ms; losses on lattice nodes need equal ones: use hard or full-sum "
                "distillation, or change the model's subsampling"
            )


def teacher_joint(sources: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [H, V] and bias [V] of the one teacher whose factored lattices the sources hold.

    Raises:
      ValueError: no source has a teacher, or they have different ones.
    """
    folders = {DatasetInfo.load(source.directory).teacher["model_id"]: source.directory for source in _taught(sources)}
    if len(folders) != 1:
        found = ", ".join(sorted(folders.values())) or "none"
        raise ValueError(
            f"losses on whole distributions need factored lattices of one teacher, found {found}: label again with "
            "beam_pipelines.pseudo_label --artifacts=hard,factored and one --teacher"
        )
    (folder,) = folders.values()
    with tf.io.gfile.GFile(f"{folder}/joint.npz", "rb") as file:
        arrays = np.load(io.BytesIO(file.read()))
    return arrays["kernel"], arrays["bias"]


def joint_width(sources: Sequence[Source]) -> int:
    """Width H of the teacher's joint."""
    return teacher_joint(sources)[0].shape[0]


def _taught(sources):
    return [source for source in sources if DatasetInfo.load(source.directory).teacher is not None]


def take_inventory(sources: Sequence[Source], *, tokenizer, frontend, subsampling: int) -> Inventory:
    """Reads all records once, without features: lengths for the buckets, and who has to be refused and why."""
    parse = _parser(tokenizer=tokenizer, frontend=frontend, subsampling=subsampling, artifacts=())
    frames, labels, samples, rejected = [], [], 0, []

    def without_audio(record):
        return {name: value for name, value in parse(record).items() if name != "waveform"}

    for source in sources:
        dataset = tf.data.TFRecordDataset(source.paths()).map(without_audio, num_parallel_calls=2)
        for element in dataset.as_numpy_iterator():
            if element["reject"]:
                reason = REJECT_REASONS[element["reject"] - 1]
                rejected.append(
                    {
                        "id": element["utterance_id"].decode(),
                        "split": source.split,
                        "source": source.directory,
                        "reason": reason,
                        "error": f"text {element['text'].decode()!r}, {element['num_tokens']} tokens, "
                        f"{element['num_encoder_frames']} encoder frames",
                    }
                )
                continue
            frames.append(element["num_frames"])
            labels.append(element["num_tokens"])
            samples += int(element["num_samples"])
    hours = samples / frontend.sample_rate / 3600
    return Inventory(np.asarray(frames, np.int64), np.asarray(labels, np.int64), hours, rejected)


def plan_buckets(
    inventory: Inventory, *, num_buckets: int, frames_per_batch: int, multiple: int, stretch: float = 1.0
) -> list[Bucket]:
    """Buckets that hold about equally much audio each.

    Args:
      frames_per_batch: feature frames in a full batch; the batch size of a bucket follows from its length.
      multiple: bucket lengths are multiples of this many feature frames.
      stretch: how much longer speed perturbation may make an utterance.

    Raises:
      ValueError: nothing to train on, or the longest utterance does not fit into a batch.
    """
    if not len(inventory.num_frames):
        raise ValueError("no usable utterance in the training records: see dead_letter.jsonl for the reasons")
    frames = np.ceil(inventory.num_frames * stretch).astype(np.int64) + 1
    frames = -(-frames // multiple) * multiple
    order = np.argsort(frames, kind="stable")
    share = np.cumsum(frames[order]) / frames.sum()
    cuts = np.searchsorted(share, np.arange(1, num_buckets + 1) / num_buckets - 1e-9)
    edges = sorted({int(edge) for edge in frames[order][cuts]})
    buckets, shortest = [], 0
    for edge in edges:
        inside = (frames > shortest) & (frames <= edge)
        batch_size = frames_per_batch // edge
        if batch_size < 1:
            raise ValueError(
                f"the longest utterance has {edge} feature frames: raise data.frames_per_batch, {frames_per_batch}"
            )
        buckets.append(Bucket(edge, max(1, int(inventory.num_labels[inside].max())), batch_size))
        shortest = edge
    return buckets


def training_batches(
    sources: Sequence[Source], *, tokenizer, frontend, subsampling: int, buckets: Sequence[Bucket], seed: int,
    shuffle_buffer: int, speed_factors: Sequence[float] = (), artifacts: Collection[str] = (),
) -> tf.data.Dataset:
    """An endless dataset of batches, each of one bucket's static shape.

    Args:
      sources: splits whose shards are mixed.
      speed_factors: each utterance is played at one of these speeds; refused together with stored lattices, which
        belong to the original time axis.
      artifacts: what is also read of the teacher's knowledge, of ARTIFACTS.

    Returns:
      Elements are dictionaries: `features` [B, N, F] float32, `num_frames` [B], `tokens` [B, U], `num_tokens` [B]
      int32, `utterance_id` [B] strings; with "collapsed" `teacher_nodes` [B, T, U+1, 3] float32 (blank, label, rest
      log-probs); with "factored" `teacher_encoder` [B, T, H] and `teacher_predictor` [B, U+1, H] float32; with either
      `has_teacher` [B] float32, 0 for an utterance without one of them, whose numbers are zeros.

    Raises:
      ValueError: speed perturbation together with stored lattices.
    """
    if artifacts and len(speed_factors):
        raise ValueError(
            "augment.speed_factors change the time axis, on which the stored lattices of the teacher lie: "
            "leave speed_factors empty with losses on lattice nodes"
        )
    parse = _parser(tokenizer=tokenizer, frontend=frontend, subsampling=subsampling, artifacts=artifacts)
    width = joint_width(sources) if "factored" in artifacts else 0
    paths = [path for source in sources for path in source.paths()]
    limits = tf.constant([bucket.num_frames for bucket in buckets], tf.int64)
    batch_sizes = tf.constant([bucket.batch_size for bucket in buckets], tf.int64)
    label_limits = tf.constant([bucket.num_labels for bucket in buckets], tf.int64)

    def featurise(index, element):
        waveform = element.pop("waveform")
        if len(speed_factors):
            choice = tf.random.stateless_uniform([], [seed, tf.cast(index, tf.int32)], 0, len(speed_factors), tf.int32)
            waveform = speed_perturb(waveform, tf.gather(tf.constant(speed_factors, tf.float32), choice))
        features, num_frames = frontend(waveform[None], tf.shape(waveform))
        kept = {name: element[name] for name in ("tokens", "num_tokens", "utterance_id")}
        kept |= {name: element[name] for name in element if name.startswith("teacher_") or name == "has_teacher"}
        return {"features": features[0], "num_frames": num_frames[0], **kept}

    def bucket_of(element):
        return tf.searchsorted(limits, [tf.cast(element["num_frames"], tf.int64)])[0]

    def fits(element):
        bucket = tf.cast(bucket_of(element), tf.int64)
        return (bucket < len(buckets)) and (
            tf.cast(element["num_tokens"], tf.int64) <= tf.gather(label_limits, bucket)
        )

    def assemble(key, window):
        frames, labels = tf.gather(limits, key), tf.gather(label_limits, key)
        shapes = {
            "features": tf.stack([frames, frontend.num_mel_bins]), "num_frames": [], "tokens": labels[None],
            "num_tokens": [], "utterance_id": [],
        }
        encoder_frames = -(-frames // subsampling)
        if artifacts:
            shapes["has_teacher"] = []
        if "collapsed" in artifacts:
            shapes["teacher_nodes"] = tf.stack([encoder_frames, labels + 1, 3])
        if "factored" in artifacts:
            shapes["teacher_encoder"] = tf.stack([encoder_frames, width])
            shapes["teacher_predictor"] = tf.stack([labels + 1, width])
        return window.padded_batch(tf.gather(batch_sizes, key), shapes, drop_remainder=True)

    dataset = tf.data.Dataset.from_tensor_slices(paths)
    dataset = dataset.interleave(tf.data.TFRecordDataset, cycle_length=len(paths), block_length=1)
    dataset = dataset.shuffle(shuffle_buffer, seed=seed, reshuffle_each_iteration=True).repeat()
    dataset = dataset.map(parse, num_parallel_calls=2).filter(lambda element: element["reject"] == 0)
    dataset = dataset.enumerate().map(featurise, num_parallel_calls=2).filter(fits)
    dataset = dataset.group_by_window(
        lambda element: tf.cast(bucket_of(element), tf.int64),
        assemble,
        window_size_func=lambda key: tf.gather(batch_sizes, key),
    )
    # The tokenizer op counts as stateful, though it only holds the model; without this the iterator cannot be saved.
    options = tf.data.Options()
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return dataset.prefetch(2).with_options(options)


def evaluation_batches(source: Source, *, tokenizer, frontend, batch_size: int) -> tf.data.Dataset:
    """All utterances of a split once, in order, padded: `features`, `num_frames`, `text`, `utterance_id`."""
    parse = _parser(tokenizer=tokenizer, frontend=frontend, subsampling=1, artifacts=())

    def featurise(element):
        waveform = element["waveform"]
        features, num_frames = frontend(waveform[None], tf.shape(waveform))
        return {
            "features": features[0], "num_frames": num_frames[0], "text": element["text"],
            "utterance_id": element["utterance_id"],
        }

    dataset = tf.data.TFRecordDataset(source.paths()).map(parse, num_parallel_calls=2)
    return dataset.map(featurise, num_parallel_calls=2).padded_batch(batch_size).prefetch(1)


def _parser(*, tokenizer, frontend, subsampling, artifacts):
    """A function from a serialised record to an element with `reject`, the code of the reason not to train on it."""
    spec = {
        "utterance_id": tf.io.FixedLenFeature([], tf.string),
        "audio": tf.io.FixedLenFeature([], tf.string),
        "num_samples": tf.io.FixedLenFeature([], tf.int64),
        "text": tf.io.FixedLenFeature([], tf.string, default_value=""),
        "teacher/tokens": tf.io.RaggedFeature(tf.int64),
        "teacher/num_frames": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
        "collapsed": tf.io.FixedLenFeature([], tf.string, default_value=""),
    }
    for part in ("encoder", "predictor"):
        spec[f"factored/{part}"] = tf.io.FixedLenFeature([], tf.string, default_value="")
        spec[f"factored/{part}_shape"] = tf.io.FixedLenFeature([2], tf.int64, default_value=[0, 0])

    def parse(record):
        parsed = tf.io.parse_single_example(record, spec)
        from_teacher = parsed["teacher/num_frames"] >= 0
        tokens = tf.cond(
            from_teacher,
            lambda: tf.cast(parsed["teacher/tokens"], tf.int32),
            lambda: tokenizer.encode_tf(parsed["text"][None])[0],
        )
        num_tokens = tf.size(tokens)
        num_frames = -(-tf.cast(parsed["num_samples"], tf.int32) // frontend.hop)
        num_encoder_frames = -(-num_frames // subsampling)
        reject = tf.case(
            [
                (tf.logical_not(from_teacher) & (parsed["text"] == ""), lambda: 3),
                (tf.reduce_any(tokens == 0), lambda: 1),
                (num_tokens > num_encoder_frames, lambda: 2),
            ],
            default=lambda: 0,
        )
        element = {
            "utterance_id": parsed["utterance_id"],
            "waveform": from_pcm16_tf(parsed["audio"]),
            "num_samples": parsed["num_samples"],
            "num_frames": num_frames,
            "num_encoder_frames": num_encoder_frames,
            "text": parsed["text"],
            "tokens": tokens,
            "num_tokens": num_tokens,
            "reject": reject,
        }
        stored = {"collapsed": parsed["collapsed"], "factored": parsed["factored/encoder"]}
        has_teacher = tf.reduce_all([stored[name] != "" for name in artifacts]) if artifacts else False
        if artifacts:
            element["has_teacher"] = tf.cast(has_teacher, tf.float32)
        if "collapsed" in artifacts:
            element["teacher_nodes"] = tf.cond(
                has_teacher,
                lambda: codecs.decode_collapsed_tf(
                    parsed["collapsed"], num_frames=parsed["teacher/num_frames"], num_labels=num_tokens
                ),
                lambda: tf.zeros([1, 1, 3]),
            )
        if "factored" in artifacts:
            for part in ("encoder", "predictor"):
                values = codecs.decode_bfloat16_tf(parsed[f"factored/{part}"], shape=parsed[f"factored/{part}_shape"])
                element[f"teacher_{part}"] = values
        return element

    return parse
