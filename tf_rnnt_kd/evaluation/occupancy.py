"""Where a system is in its lattice, seen through the signatures of its SavedModel alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.model_versions import version_folder
from tf_rnnt_kd.serving.metadata import read_metadata


@dataclasses.dataclass(frozen=True)
class LatticeView:
    """The posterior of one utterance's lattice.

    Attributes:
      name: of the system.
      occupancy: float32 [T, U+1], probability that the alignment passes node (t, u), given audio and tokens.
      tokens: the U pieces.
      frame_seconds: duration of one of the T frames.
      log_prob: natural log P(tokens given audio), full sum.
    """

    name: str
    occupancy: np.ndarray
    tokens: tuple[str, ...]
    frame_seconds: float
    log_prob: float


class LatticeViewer:
    """A SavedModel with the signatures `serving_default`, `teacher_forced` and `joint` (DESIGN section 5).

    Raises:
      ValueError: one of them is missing.
    """

    def __init__(self, directory: str | Path, *, name: str):
        self.name = name
        directory = version_folder(directory)
        self.metadata = read_metadata(directory)
        self._model = tf.saved_model.load(directory)
        missing = {"serving_default", "teacher_forced", "joint"} - set(self._model.signatures)
        if missing:
            raise ValueError(f"{directory} lacks the signatures {', '.join(sorted(missing))}: export it again")
        self.tokenizer_hash = self.metadata["tokenizer"]["hash"]

    def hypothesis(self, waveform: np.ndarray) -> tuple[str, list[int]]:
        """What the system writes for one waveform [S]: (text, tokens)."""
        outputs = self._model.signatures["serving_default"](**_one(waveform))
        count = int(outputs["num_tokens"][0])
        return outputs["text"][0].numpy().decode(), outputs["tokens"][0, :count].numpy().tolist()

    def view(self, waveform: np.ndarray, *, tokens: Sequence[int]) -> LatticeView:
        """The lattice of one waveform [S] float32 and these tokens."""
        labels = tf.constant([list(tokens)], tf.int32, shape=[1, len(tokens)])
        num_tokens = tf.constant([len(tokens)], tf.int32)
        forced = self._model.signatures["teacher_forced"](**_one(waveform), tokens=labels, num_tokens=num_tokens)
        joint = self._model.signatures["joint"]()
        lengths = {"logit_lengths": forced["num_frames"], "label_lengths": num_tokens}
        nodes = lattice.node_log_probs(
            forced["encoder_projection"],
            forced["predictor_projection"],
            joint["kernel"],
            joint["bias"],
            labels=labels,
            **lattice.joint_settings(self.metadata["joint"]),
            **lengths,
        )
        # Each path leaves a node by one arc, so the two arcs' posteriors add up to the node's.
        blank, label = lattice.occupancies(nodes, **lengths)
        occupancy = (blank + label).numpy()[0, : int(forced["num_frames"][0])]
        return LatticeView(
            name=self.name,
            occupancy=occupancy,
            tokens=tuple(self.metadata["pieces"][token] for token in tokens),
            frame_seconds=float(self.metadata["frame_seconds"]),
            log_prob=float(lattice.full_sum(nodes, **lengths)[0]),
        )


def _one(waveform: np.ndarray) -> dict[str, tf.Tensor]:
    return {
        "waveforms": tf.constant(waveform[np.newaxis], tf.float32),
        "num_samples": tf.constant([len(waveform)], tf.int32),
    }
