"""Confidences that mean what they say: a curve fitted on words whose truth is known, applied in graph."""

import dataclasses
import json
import math
import os
import pathlib
from typing import Any

import tensorflow as tf

SMALLEST = 1e-6
"""Confidences are taken as no nearer to 0 and 1 than this, in fitting as in use."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """sigmoid(scale * logit(confidence) + offset) (Platt 1999); with offset 0, scale is 1 / temperature.

    The default changes nothing. Fit one with tf_rnnt_kd.evaluation.calibration, or python -m tf_rnnt_kd.calibrate.

    Raises:
      ValueError: scale is not positive, or a number is not finite.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self):
        if not (self.scale > 0 and math.isfinite(self.scale) and math.isfinite(self.offset)):
            raise ValueError(f"a calibration needs a positive scale and a finite offset, got {self}")

    def __call__(self, confidence: tf.Tensor) -> tf.Tensor:
        """Confidences in 0..1, float32 of any shape, to such that are right as often as they say."""
        clipped = tf.clip_by_value(confidence, SMALLEST, 1.0 - SMALLEST)
        return tf.sigmoid(self.scale * (tf.math.log(clipped) - tf.math.log1p(-clipped)) + self.offset)

    def save(self, path: str | os.PathLike, **more: Any) -> None:
        """Writes JSON; `more` is kept beside the two numbers, for the reader."""
        content = {**dataclasses.asdict(self), **more}
        pathlib.Path(path).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Calibration":
        """Reads what `save` wrote.

        Raises:
          ValueError: the file is missing or is something else.
        """
        try:
            content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
            return cls(scale=float(content["scale"]), offset=float(content["offset"]))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no calibration ({error}): make it with python -m tf_rnnt_kd.calibrate"
            ) from error
