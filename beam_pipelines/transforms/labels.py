"""What a teacher said about one utterance, on its way from the model into a record."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from beam_pipelines.transforms.batch import Pending
from tf_rnnt_kd.records.codecs import StoredBand
from tf_rnnt_kd.records.features import NBest


class Labels(NamedTuple):
    """Labels of an utterance of T encoder frames and U tokens, with padding cut off.

    tokens, token_frames int32 [U], token_confidence float32 [U], word_confidence float32 [W]; `log_prob` is natural
    log P(tokens given audio), summed over alignments; encoder float32 [T, H], predictor float32 [U+1, H]. `model_id`
    names the teacher. `agreement` with other teachers lies in 0..1, None with one.

    The others are None where nobody asked for them: nodes float32 [T, U+1, 3], log-probs of blank, label, rest; band,
    the part of the lattice to store, None also for all of it; nbest, the hypotheses; top_k and dense, encoded at once
    (`codecs.encode_top_k`, `codecs.encode_dense`), for a batch of them as numbers would not fit into memory; hidden
    {layer: float32 [T, D]}.
    """

    tokens: np.ndarray
    text: str
    log_prob: float
    num_frames: int
    token_frames: np.ndarray
    token_confidence: np.ndarray
    word_confidence: np.ndarray
    encoder: np.ndarray
    predictor: np.ndarray
    model_id: str = ""
    agreement: float | None = None
    nodes: np.ndarray | None = None
    band: StoredBand | None = None
    nbest: NBest | None = None
    top_k: bytes | None = None
    hidden: Mapping[str, np.ndarray] | None = None
    dense: bytes | None = None


class Inference(NamedTuple):
    """Labels of an utterance (its waveform dropped), or the error that the teacher met with it."""

    utterance: Pending
    labels: Labels | None
    error: str = ""
