"""A first look at the records to train on: how long they are, and who has to be refused."""

import collections
import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records.parsing import REJECT_REASONS, make_summary
from tf_rnnt_kd.records.plain import plain
from tf_rnnt_kd.records.sources import Source


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

    Raises:
      ValueError: a source has a weight and nothing to draw.
    """
    hypotheses = num_hypotheses if "nbest" in artifacts else 0
    summary = make_summary(
        tokenizer=tokenizer, frontend=frontend, subsampling=subsampling, num_hypotheses=hypotheses
    )
    frames: list[int] = []
    labels: list[int] = []
    rejected: list[dict[str, str]] = []
    samples = 0

    @plain
    def without_record(record):
        return {name: value for name, value in summary(record).items() if name != "record"}

    for source in sources:
        usable = len(frames)
        dataset = tf.data.TFRecordDataset(source.paths()).map(without_record, num_parallel_calls=2)
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
        if source.weight is not None and len(frames) == usable:
            raise ValueError(
                f"{source.name} has weight {source.weight:g} in the mixture and no usable utterance: "
                f"leave it out (refused: {dict(collections.Counter(entry['reason'] for entry in rejected))})"
            )
    hours = samples / frontend.sample_rate / 3600
    return Inventory(np.asarray(frames, np.int64), np.asarray(labels, np.int64), hours, rejected)
