"""Where records come from: splits of datasets, and what their teachers have in common with a student."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records.dataset import DatasetInfo

JOINT_FILE = "joint.npz"


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


def teacher_joint(sources: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [H, V] and bias [V] of the one teacher whose factored lattices the sources hold.

    Raises:
      ValueError: no source has a teacher, or they have different ones.
    """
    taught = {source.directory: source.info().teacher for source in sources}
    folders = {teacher["model_id"]: folder for folder, teacher in taught.items() if teacher is not None}
    if len(folders) != 1:
        found = ", ".join(sorted(folders.values())) or "none"
        raise ValueError(
            f"losses on whole distributions need factored lattices of one teacher, found {found}: label again with "
            "beam_pipelines.pseudo_label --artifacts=hard,factored and one --teacher"
        )
    (folder,) = folders.values()
    with tf.io.gfile.GFile(f"{folder}/{JOINT_FILE}", "rb") as file:
        arrays = np.load(io.BytesIO(file.read()))
    return arrays["kernel"], arrays["bias"]
