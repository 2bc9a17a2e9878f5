"""Log-odds as 8 or 16 bit codes: companded by asinh, clipped at +-`MAX_LOG_ODDS`, rounded.

Log-odds rather than log-probs: what is read back sums to one by construction, both tails keep their relative
precision, and no mass is ever found as 1 - p. asinh: steps are even round 0, where an error costs most (its KL is
p (1 - p) error^2 / 2), and grow with |s|, so that a mass of 1e-9 is still one of about 1e-9. The scale 1 minimises that
cost for log-odds spread evenly.
"""

import numpy as np
import tensorflow as tf

MAX_LOG_ODDS = 32.0
RANGE = float(np.arcsinh(MAX_LOG_ODDS))


def compand(log_odds: np.ndarray, *, steps: int) -> np.ndarray:
    """Floats -> integers (as float64) in -steps..steps; infinities become the ends."""
    return np.rint(np.arcsinh(np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)) * (steps / RANGE))


def expand(codes: np.ndarray, *, steps: int) -> np.ndarray:
    """Integers -> the float64 log-odds that they stand for."""
    return np.sinh(np.asarray(codes, np.float64) * (RANGE / steps))


def expand_tf(codes: tf.Tensor, *, steps: int) -> tf.Tensor:
    """The same in graph, float32."""
    return tf.sinh(tf.cast(codes, tf.float32) * (RANGE / steps))
