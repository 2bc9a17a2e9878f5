"""Where records come from: splits of datasets, and what their teachers have in common with a student."""

import dataclasses
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.records.dataset import DatasetInfo

JOINT_FILE = "joint.npz"


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of one dataset, and its share of a mixture (see `mixture`)."""

    directory: str
    split: str
    weight: float | None = None

    @classmethod
    def parse(cls, text: str, *, weighted: bool = False) -> "Source":
        """Reads `DIR:split`, and `DIR:split@WEIGHT` where sources are mixed.

        Raises:
          ValueError: another form, or a weight that nothing would heed.
        """
        directory, colon, rest = text.rpartition(":")
        split, at, weight = rest.partition("@")
        if not (colon and directory and split):
            raise ValueError(f"{text!r} does not name records: write DIR:split, for example demo_run/records:dev")
        if at and not weighted:
            raise ValueError(f"{text!r} has a weight, which only --train and data.mixture heed: leave out @{weight}")
        return cls(directory, split, _weight(weight, of=text) if at else None)

    @property
    def name(self) -> str:
        """`DIR:split`."""
        return f"{self.directory}:{self.split}"

    def __str__(self) -> str:
        return self.name if self.weight is None else f"{self.name}@{self.weight:g}"

    def info(self) -> DatasetInfo:
        """What the dataset's dataset.json says."""
        return DatasetInfo.load(self.directory)

    def paths(self) -> list[str]:
        """The split's shards, checked to be there."""
        return self.info().shard_paths(self.directory, self.split)


def check_teacher(sources: Sequence[Source], *, tokenizer_hash: str, frame_seconds: float, node_level: bool) -> None:
    """Refuses stored teacher knowledge that the student cannot use.

    Args:
      node_level: whether a loss compares lattice nodes or frames, which needs equal frame rates.

    Raises:
      ValueError: naming both sides and the way out.
    """
    for source in sources:
        teacher = source.info().teacher
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


def stored_artifacts(sources: Sequence[Source]) -> set[str]:
    """Names of the artifacts that some source has."""
    return {name for source in sources for name in source.info().artifacts or ()}


def mixture(sources: Sequence[Source], weights: Sequence[tuple[str, float]] = ()) -> list[Source]:
    """The sources with the weights by which training draws from them.

    Args:
      sources: with weights of their own (`DIR:split@WEIGHT`), or none.
      weights: `data.mixture`: (DIR:split or split, weight) for each source; empty to take the sources' own.

    Returns:
      The sources. Either none has a weight: every record is seen once before any is seen twice. Or all have: each
      utterance is drawn from a source with the probability of its weight; one that gave no weight has 1.

    Raises:
      ValueError: weights in both places, one that is not a positive number, or names that do not fit the sources.
    """
    own = [source.weight is not None for source in sources]
    if not len(weights):
        shares = {source: 1.0 if source.weight is None else source.weight for source in sources} if any(own) else {}
        return [dataclasses.replace(source, weight=shares.get(source)) for source in sources]
    if any(own):
        raise ValueError("weights stand both in data.mixture and in --train=DIR:split@WEIGHT: take one of them away")
    given = {name: _weight(weight, of=name) for name, weight in weights}
    used, mixed = set(), []
    for source in sources:
        matches = [name for name in (source.name, source.split) if name in given]
        if not matches:
            raise ValueError(f"data.mixture has no weight for {source.name}, it has: {', '.join(given)}")
        used.add(matches[0])
        mixed.append(dataclasses.replace(source, weight=given[matches[0]]))
    if set(given) - used:
        found = ", ".join(source.name for source in sources)
        raise ValueError(f"data.mixture names {', '.join(sorted(set(given) - used))}, but --train has {found}")
    return mixed


def _weight(value, *, of):
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise ValueError(f"the weight of {of} must be a positive number, as in DIR:split@9, not {value!r}")
    return weight


def teacher_joint(sources: Sequence[Source]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Kernel [H, V], bias [V] and `lattice.joint_settings` of the one teacher whose factored lattices the sources hold.

    Raises:
      ValueError: no source has a teacher, or they have different ones.
    """
    taught = {source.directory: source.info().teacher for source in sources}
    folders = {teacher["model_id"]: folder for folder, teacher in taught.items() if teacher is not None}
    if len(folders) != 1:
        found = ", ".join(sorted(folders.values())) or "none"
        raise ValueError(
            f"losses on whole distributions need factored lattices of one teacher, found {found}: label again with "
            "beam_pipelines.pseudo_label --artifacts=hard,factored and one --teacher; collapsed lattices, n-best lists "
            "and scores may be of several"
        )
    (folder,) = folders.values()
    with tf.io.gfile.GFile(f"{folder}/{JOINT_FILE}", "rb") as file:
        arrays = np.load(io.BytesIO(file.read()))
    settings = {name: arrays[name].item() for name in arrays.files if name not in ("kernel", "bias")}
    return arrays["kernel"], arrays["bias"], lattice.joint_settings(settings)
