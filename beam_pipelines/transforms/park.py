"""Park's normalised score: how much better than usual, for its length, a teacher likes its own hypothesis.

The log-prob S of a hypothesis falls with its number of tokens l. On utterances of a dev split, S = mu l + beta is
fitted by least squares, and sigma is the standard deviation of the residual over sqrt(l). The score

    s(S, l) = (S - mu l - beta) / (sigma sqrt(l))

is then comparable between short and long utterances (Park et al. 2020, "Improved noisy student training for automatic
speech recognition", arXiv 2005.09629). A line belongs to one teacher: log-probs of another have another slope.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records import write_atomically

MIN_UTTERANCES = 10


@dataclasses.dataclass(frozen=True)
class ParkLine:
    """mu (nats per token), beta (nats) and sigma (nats per root of a token), fitted on so many `utterances`."""

    mu: float
    beta: float
    sigma: float
    utterances: int = 0

    def expected(self, num_tokens: np.ndarray | int) -> np.ndarray | float:
        """The line itself: the log-prob of a usual hypothesis of so many tokens."""
        return self.mu * num_tokens + self.beta

    def score(self, log_prob: float, *, num_tokens: int) -> float:
        """s(S, l) of one hypothesis of at least one token."""
        return (log_prob - float(self.expected(num_tokens))) / (self.sigma * math.sqrt(num_tokens))


def fit_line(log_probs: Sequence[float], *, num_tokens: Sequence[int]) -> ParkLine:
    """Least squares over N hypotheses of a teacher: their log-probs and numbers of tokens, each 1 or more.

    Raises:
        ValueError: too few hypotheses, all of one length, or all of them on a line, so that there is no spread.
    """
    scores, lengths = np.asarray(log_probs, np.float64), np.asarray(num_tokens, np.float64)
    if len(scores) < MIN_UTTERANCES:
        raise ValueError(f"{len(scores)} hypotheses are too few for a line: label at least {MIN_UTTERANCES} utterances")
    if not np.isfinite(scores).all() or lengths.min() < 1:
        raise ValueError("a line needs finite log-probs of hypotheses with at least one token each: label again")
    if lengths.min() == lengths.max():
        raise ValueError(f"all {len(scores)} hypotheses have {lengths[0]:g} tokens: take a split of various lengths")
    centred = lengths - lengths.mean()
    mu = float((centred * scores).sum() / (centred**2).sum())
    beta = float(scores.mean() - mu * lengths.mean())
    sigma = float(np.std((scores - mu * lengths - beta) / np.sqrt(lengths)))
    if sigma <= 1e-9 * max(1.0, float(np.abs(scores).max())):
        raise ValueError(f"all {len(scores)} hypotheses lie on one line: scores that do not vary cannot be normalised")
    return ParkLine(mu, beta, sigma, len(scores))


def save_lines(lines: Mapping[str, ParkLine], *, path: str, **about: str) -> None:
    """Writes {model id of the teacher: its line}, with what else is to be said `about` them, as JSON."""
    content = {**about, "lines": {model_id: dataclasses.asdict(line) for model_id, line in sorted(lines.items())}}
    write_atomically(path, content=json.dumps(content, indent=2) + "\n")


def load_lines(path: str) -> dict[str, ParkLine]:
    """{model id: line} of a file that `save_lines` wrote.

    Raises:
        ValueError: there is no such file, or it is another one.
    """
    if not tf.io.gfile.exists(path):
        raise ValueError(f"--park_line={path}: no such file; make one with python -m beam_pipelines.fit_filter")
    try:
        with tf.io.gfile.GFile(path) as file:
            lines = {name: ParkLine(**line) for name, line in json.loads(file.read())["lines"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"--park_line={path} was not made by beam_pipelines.fit_filter: {error!r}") from error
    return lines
