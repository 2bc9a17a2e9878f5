"""The lattices that the benchmarks of the lattice measure on. NumPy only, so that every framework gets the same."""

from typing import NamedTuple

import numpy as np


class Shape(NamedTuple):
    batch: int
    frames: int
    labels: int
    symbols: int
    width: int

    @property
    def nodes(self):
        """N = B T (U+1)."""
        return self.batch * self.frames * (self.labels + 1)

    @property
    def dense_bytes(self):
        """Size of float32 logits [B, T, U+1, V]."""
        return 4 * self.nodes * self.symbols

    def __str__(self):
        return f"B{self.batch} T{self.frames} U{self.labels} V{self.symbols} H{self.width}"


SHAPES = {
    "large": Shape(8, 400, 80, 1024, 640),
    "medium": Shape(8, 200, 40, 256, 512),
    "small": Shape(4, 100, 20, 128, 128),
    "tiny": Shape(3, 12, 6, 11, 8),
}


class Batch(NamedTuple):
    """A joint network's inputs and parameters, and what it is trained on.

    encoder [B, T, H], predictor [B, U+1, H], kernel [H, V], bias [V] float32; labels [B, U], logit_lengths [B],
    label_lengths [B] int32. Blank is symbol 0.
    """

    encoder: np.ndarray
    predictor: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    labels: np.ndarray
    logit_lengths: np.ndarray
    label_lengths: np.ndarray

    @property
    def joint(self):
        return self[:4]

    @property
    def lengths(self):
        return {"logit_lengths": self.logit_lengths, "label_lengths": self.label_lengths}

    @property
    def num_nodes(self):
        """Nodes that exist, the sum over utterances of T_b (U_b + 1)."""
        return int(np.sum(self.logit_lengths.astype(np.int64) * (self.label_lengths + 1)))


    def corner(self, shape):
        """The first utterances, frames and labels of a batch with full lengths; symbols and width stay."""
        b, t, u = shape[:3]
        return self._replace(
            encoder=self.encoder[:b, :t],
            predictor=self.predictor[:b, : u + 1],
            labels=self.labels[:b, :u],
            logit_lengths=np.full(b, t, np.int32),
            label_lengths=np.full(b, u, np.int32),
        )


PEAKED = 8.0
"""Logits multiplied by this are about as peaked as a trained model's."""


def batch(shape, *, peaked=False, ragged=False, seed=0):
    """A batch at random initialisation: projections N(0, 1), Glorot uniform kernel.

    Args:
      shape: Shape.
      peaked: multiplies the logits (kernel and bias) by PEAKED.
      ragged: lengths from 0.3 to 1 of the full ones, evenly spread, frames and labels paired at random.
      seed: int.
    """
    rng = np.random.default_rng(seed)
    b, t, u, v, h = shape
    limit = np.sqrt(6.0 / (h + v))
    scale = PEAKED if peaked else 1.0
    lengths = [np.full(b, t), np.full(b, u)]
    arrays = [_normal(rng, b, t, h), _normal(rng, b, u + 1, h)]
    arrays += [scale * rng.uniform(-limit, limit, (h, v)), scale * 0.1 * rng.standard_normal(v)]
    labels = rng.integers(1, v, (b, u))
    if ragged:
        lengths = [np.maximum(np.rint(rng.permutation(np.linspace(0.3, 1.0, b)) * n), 1) for n in (t, u)]
    return Batch(*(a.astype(np.float32) for a in arrays), *(a.astype(np.int32) for a in (labels, *lengths)))


def teacher_of(student, *, seed=1):
    """A teacher whose lattice resembles the student's, as after some distillation: noise on the projections."""
    rng = np.random.default_rng(seed)
    noisy = (x + 0.1 * _normal(rng, *x.shape) for x in (student.encoder, student.predictor))
    return student._replace(**dict(zip(("encoder", "predictor"), noisy, strict=True)))


def dense_logits(shape, *, peaked=False, seed=0):
    """[B, T, U+1, V] float32, of the spread that `batch` gives to a joint's logits."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((shape.batch, shape.frames, shape.labels + 1, shape.symbols), dtype=np.float32)
    # tanh of a sum of two N(0, 1) has variance 0.51; a Glorot weight 2 / (H + V).
    deviation = np.sqrt(0.51 * shape.width * 2.0 / (shape.width + shape.symbols))
    logits *= np.float32((PEAKED if peaked else 1.0) * deviation)
    return logits


def _normal(rng, *size):
    return rng.standard_normal(size, dtype=np.float32)
