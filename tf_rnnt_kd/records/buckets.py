"""Buckets: the few static shapes that batches have, chosen by the lengths of the utterances."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tf_rnnt_kd.records.inventory import Inventory

MAX_BUCKETS = 64


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Batches of one static shape: up to `num_frames` feature frames and `num_labels` labels, `batch_size` of them."""

    num_frames: int
    num_labels: int
    batch_size: int


def plan_buckets(
    inventory: Inventory, *, num_buckets: int, frames_per_batch: int, multiple: int,
    speed_factors: Sequence[float] = (), max_padding: float | None = None,
) -> list[Bucket]:
    """Buckets that hold about equally much audio each.

    Args:
      num_buckets: how many; fewer where lengths are equal. Each is a shape for which an XLA step is compiled.
      frames_per_batch: feature frames in a full batch; the batch size of a bucket follows from its length.
      multiple: bucket lengths are multiples of this many feature frames.
      speed_factors: an utterance may have any of these speeds, and has room in the bucket of each.
      max_padding: greatest `padding_share`: there will be so many more buckets as it takes. None for no bound.

    Raises:
      ValueError: nothing to train on, the longest utterance does not fit into a batch, or MAX_BUCKETS have more
        padding than allowed.
    """
    if not len(inventory.num_frames):
        raise ValueError("no usable utterance in the training records: see dead_letter.jsonl for the reasons")
    stretches = [1.0 / factor for factor in speed_factors] or [1.0]
    longest, shortest = (_rounded(inventory.num_frames * pick(stretches), multiple) for pick in (max, min))
    for count in range(num_buckets, num_buckets + 1 if max_padding is None else MAX_BUCKETS + 1):
        buckets = _plan(longest, shortest, inventory.num_labels, count, frames_per_batch)
        if max_padding is None or padding_share(inventory, buckets) <= max_padding:
            return buckets
    raise ValueError(
        f"{len(buckets)} buckets, of lengths that are multiples of {multiple} frames, have "
        f"{100 * padding_share(inventory, buckets):.1f} % padding: raise data.max_padding, {max_padding}"
    )


def padding_share(inventory: Inventory, buckets: Sequence[Bucket]) -> float:
    """Which share of the feature frames in all batches of an epoch is padding, at speed 1."""
    limits = np.array([bucket.num_frames for bucket in buckets])
    fitting = inventory.num_frames[inventory.num_frames <= limits[-1]]
    return 1.0 - float(fitting.sum() / limits[np.searchsorted(limits, fitting)].sum())


def _rounded(frames, multiple):
    return -(-(np.ceil(frames).astype(np.int64) + 1) // multiple) * multiple


def _plan(longest, shortest, num_labels, num_buckets, frames_per_batch):
    order = np.argsort(longest, kind="stable")
    share = np.cumsum(longest[order]) / longest.sum()
    cuts = np.searchsorted(share, np.arange(1, num_buckets + 1) / num_buckets - 1e-9)
    edges = sorted({int(edge) for edge in longest[order][cuts]})
    buckets, last = [], 0
    for edge in edges:
        may_be_inside = (longest > last) & (shortest <= edge)
        batch_size = frames_per_batch // edge
        if batch_size < 1:
            raise ValueError(
                f"the longest utterance has {edge} feature frames: raise data.frames_per_batch, {frames_per_batch}"
            )
        buckets.append(Bucket(edge, max(1, int(num_labels[may_be_inside].max())), batch_size))
        last = edge
    return buckets
