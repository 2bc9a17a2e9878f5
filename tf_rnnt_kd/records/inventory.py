"""A first look at the records to train on: how long they are, who has to be refused, and the buckets that follow."""

import collections
import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records.parsing import REJECT_REASONS, make_parser
from tf_rnnt_kd.records.sources import Source
from tf_rnnt_kd.records.stored import open_artifacts


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


def take_inventory(
    sources: Sequence[Source], *, tokenizer, frontend, subsampling: int, artifacts: Collection[str] = (),
    num_hypotheses: int = 4,
) -> Inventory:
    """Reads all records once, without features: lengths for the buckets, and who has to be refused and why.

    Args:
      artifacts, num_hypotheses: as for `training_batches`; hypotheses of "nbest" may be longer than the labels.
    """
    stored = open_artifacts({"nbest"} & set(artifacts), sources=sources, num_hypotheses=num_hypotheses)
    parse = make_parser(tokenizer=tokenizer, frontend=frontend, subsampling=subsampling, stored=stored)
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
            labels.append(element["num_labels"])
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
