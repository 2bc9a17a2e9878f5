"""Random ragged batches for the lattice tests."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    logits: np.ndarray  # [B, T, U+1, V]
    labels: np.ndarray  # [B, U]
    logit_lengths: np.ndarray  # [B]
    label_lengths: np.ndarray  # [B]

    @property
    def arguments(self):
        return self._asdict() | {"logits": None}

    @property
    def lengths(self):
        return {"logit_lengths": self.logit_lengths, "label_lengths": self.label_lengths}

    def utterance(self, i):
        """Logits [T_b, U_b+1, V] and labels [U_b] without padding."""
        t, u = self.logit_lengths[i], self.label_lengths[i]
        return self.logits[i, :t, : u + 1], self.labels[i, :u]


SIZES = [(1, 0), (1, 2), (2, 0), (2, 1), (3, 2), (4, 3), (4, 0), (3, 3)]  # (T_b, U_b)


def ragged_batch(seed=0, *, num_symbols=4, sizes=tuple(SIZES), scale=2.0, blank_index=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    frames, labels = np.array(sizes, np.int32).T
    shape = (len(sizes), frames.max(), labels.max() + 1, num_symbols)
    logits = (scale * rng.normal(size=shape)).astype(dtype)
    symbols = [k for k in range(num_symbols) if k != blank_index % num_symbols]
    return Batch(logits, rng.choice(symbols, size=(len(sizes), labels.max())).astype(np.int32), frames, labels)


def joint_batch(seed=0, *, batch=3, frames=7, labels=4, width=6, num_symbols=5, scale=1.0, dtype=np.float32):
    """(encoder, predictor, kernel, bias), labels, lengths of a random ragged batch."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s) for s in ((batch, frames, width), (batch, labels + 1, width), (width, num_symbols))]
    arrays[2] *= scale
    arrays.append(scale * rng.normal(size=num_symbols))
    logit_lengths = rng.integers(1, frames + 1, size=batch).astype(np.int32)
    label_lengths = rng.integers(0, labels + 1, size=batch).astype(np.int32)
    logit_lengths[0], label_lengths[0] = frames, labels
    logit_lengths[1], label_lengths[-1] = (frames + 1) // 2, 0
    symbols = rng.integers(1, num_symbols, size=(batch, labels)).astype(np.int32)
    lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
    return [a.astype(dtype) for a in arrays], symbols, lengths
