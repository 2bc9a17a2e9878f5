"""Fits a Calibration of word confidences on words whose truth is known (a dev set, never the test set)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tf_rnnt_kd.decoding import Calibration
from tf_rnnt_kd.decoding.confidence import SMALLEST

PLATT, TEMPERATURE = METHODS = ("platt", "temperature")
_STEPS = 100


def fit(confidence: Sequence[float] | np.ndarray, *, correct: Sequence[bool] | np.ndarray, method: str = PLATT):
    """The Calibration of highest likelihood of which words are right.

    Args:
      confidence: [N], 0..1, as the model gives them.
      correct: [N], whether the word is right.
      method: "platt" fits scale and offset, "temperature" the scale alone.

    Returns:
      A Calibration.

    Raises:
      ValueError: an unknown method, no words, or surer words are less often right.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    if method not in METHODS:
        raise ValueError(f"the method is {method!r}: choose of {', '.join(METHODS)}")
    if not confidence.size or confidence.shape != correct.shape:
        raise ValueError(f"{confidence.shape} confidences for {correct.shape} words: give as many, and at least one")
    clipped = np.clip(confidence, SMALLEST, 1.0 - SMALLEST)
    logit = np.log(clipped) - np.log1p(-clipped)
    inputs = np.stack([logit, np.ones_like(logit)] if method == PLATT else [logit], axis=1)
    # Platt's targets: as if one more word of each kind had been seen, so that there is always a best curve.
    right = int(correct.sum())
    wrong = correct.size - right
    targets = np.where(correct, (right + 1) / (right + 2), 1 / (wrong + 2))
    weights = _logistic_regression(inputs, targets)
    if not weights[0] > 0:
        raise ValueError(
            f"of {correct.size} words ({right} right) the surer are not more often right (scale {weights[0]:.3g}): "
            "calibrate on more words, or serve the confidences as they are"
        )
    return Calibration(scale=float(weights[0]), offset=float(weights[1]) if method == PLATT else 0.0)


def _logistic_regression(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Weights [K] of least cross entropy of sigmoid(inputs [N, K] @ weights) to targets [N]: Newton, damped.

    The first weight is drawn to 1, with a force of about one word's: where all words are right nothing is known of it,
    and at 0 all confidences would be the same.
    """
    start = np.zeros([inputs.shape[1]])
    start[0] = 1.0
    prior = np.diag(start)

    def loss(weights):
        scores = inputs @ weights
        return np.sum(np.logaddexp(0.0, scores) - targets * scores) + 0.5 * (weights[0] - 1.0) ** 2

    weights = start
    for _ in range(_STEPS):
        probability = 1.0 / (1.0 + np.exp(-np.clip(inputs @ weights, -500, 500)))
        gradient = inputs.T @ (probability - targets) + prior @ (weights - start)
        curvature = (inputs.T * (probability * (1.0 - probability))) @ inputs
        step = np.linalg.solve(curvature + prior, gradient)
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-12:
            step /= 2.0
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    return weights
