"""Lattices of whole distributions from a teacher's projections, encoded one utterance at a time.

[T, U+1, V] numbers are too many to keep, so these functions give bytes: the K best of each node are found slice by
slice, and only `dense`, which is for tiny vocabularies, ever holds the whole of one utterance.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.records import codecs


def top_k(
    encoder: np.ndarray,
    predictor: np.ndarray,
    joint: Mapping[str, np.ndarray],
    *,
    k: int,
    band: codecs.StoredBand | None = None,
) -> bytes:
    """Projections [T, H] and [U+1, H], kernel [H, V] and bias [V] -> `codecs.encode_top_k` of the nodes in the band."""
    best = lattice.top_k(
        lattice.Joint(encoder[None], predictor[None], joint["kernel"], joint["bias"]),
        k=k,
        logit_lengths=[len(encoder)],
        label_lengths=[len(predictor) - 1],
    )
    symbols, log_probs, rest = (array[0].numpy() for array in best)
    return codecs.encode_top_k(
        symbols, log_probs=log_probs, rest=rest, vocab_size=joint["kernel"].shape[1], band=band
    )


def dense(encoder: np.ndarray, predictor: np.ndarray, joint: Mapping[str, np.ndarray]) -> bytes:
    """Projections [T, H] and [U+1, H], kernel [H, V] and bias [V] -> `codecs.encode_dense`."""
    hidden = tf.tanh(encoder[:, None] + predictor[None])
    logits = tf.tensordot(hidden, joint["kernel"], 1) + joint["bias"]
    return codecs.encode_dense(tf.nn.log_softmax(logits).numpy())
