"""What records store of a teacher: the choice, whether a teacher can give it, and labels as features of a record."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from beam_pipelines.transforms.labels import Labels
from tf_rnnt_kd.records import bytes_feature
from tf_rnnt_kd.records.codecs import LARGEST_VOCABULARY
from tf_rnnt_kd.records.features import (
    BFLOAT16,
    FACTORED_TYPES,
    Features,
    collapsed_features,
    factored_features,
    hidden_features,
    nbest_features,
)

HARD, NBEST, COLLAPSED, FACTORED = "hard", "nbest", "collapsed", "factored"
TOP_K, HIDDEN, DENSE = "top_k", "hidden", "dense"
ARTIFACTS = (HARD, NBEST, COLLAPSED, FACTORED, TOP_K, HIDDEN, DENSE)
_NEEDS_SIGNATURE = {NBEST: "nbest", HIDDEN: "hidden"}
IMPOSSIBLE = -1e20  # log-probs below mean that there is no path: teachers say -1e30


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What is stored of each label, and how.

    Attributes:
        artifacts: of ARTIFACTS; "hard" is always stored.
        collapsed_bits: of each number of the collapsed artifact: 8 or 16.
        band: label positions per frame that collapsed and top_k keep, centred on the teacher's best alignment: 2 or
            more; 0 for all.
        factored_type: "bfloat16" or "int8".
        top_k: K, 1 or more.
        hidden_layers: names of the teacher's layers; none means all that it offers.
        n_best: hypotheses, 1 or more; the teacher may find fewer.
    """

    artifacts: tuple[str, ...] = (HARD,)
    collapsed_bits: int = 8
    band: int = 0
    factored_type: str = BFLOAT16
    top_k: int = 8
    hidden_layers: tuple[str, ...] = ()
    n_best: int = 4

    def __post_init__(self):
        unknown = sorted(set(self.artifacts) - set(ARTIFACTS))
        for wrong, problem in (
            (unknown, f"no artifact {', '.join(unknown)}: choose of {', '.join(ARTIFACTS)}"),
            (self.collapsed_bits not in (8, 16), f"collapsed_bits must be 8 or 16, got {self.collapsed_bits}"),
            (self.band < 0 or self.band == 1, f"band must be 0 (all) or 2 or more, got {self.band}"),
            (
                self.factored_type not in FACTORED_TYPES,
                f"factored_type must be one of {', '.join(FACTORED_TYPES)}, got {self.factored_type!r}",
            ),
            (self.top_k < 1, f"top_k must be 1 or more, got {self.top_k}"),
            (self.n_best < 1, f"n_best must be 1 or more, got {self.n_best}"),
        ):
            if wrong:
                raise ValueError(problem)


def check_artifacts(metadata: Mapping[str, Any], *, encoding: Encoding) -> None:
    """Refuses what a teacher cannot give, before any work.

    Args:
        metadata: of `infer.load_metadata`.
        encoding: what is wanted.

    Raises:
        ValueError: naming the artifact, what the teacher lacks, and the way out.
    """
    teacher, vocab_size = metadata["model_id"], metadata["joint"]["vocab_size"]
    for artifact, signature in _NEEDS_SIGNATURE.items():
        if artifact in encoding.artifacts and signature not in metadata["signatures"]:
            raise ValueError(
                f"--artifacts={artifact} needs a teacher with the signature {signature}, {teacher} has "
                f"{', '.join(metadata['signatures'])}: export it again with python -m tf_rnnt_kd.export, or leave "
                f"{artifact} out"
            )
    offered = metadata.get("hidden_layers", {})
    missing = [layer for layer in encoding.hidden_layers if layer not in offered]
    if HIDDEN in encoding.artifacts and (missing or not offered):
        wanted = f"--hidden_layers={','.join(missing)}" if missing else "--artifacts=hidden"
        raise ValueError(f"{wanted}: {teacher} offers the layers {', '.join(offered) or 'none'}")
    if TOP_K in encoding.artifacts and not encoding.top_k <= vocab_size <= LARGEST_VOCABULARY:
        raise ValueError(
            f"--artifacts=top_k with --top_k={encoding.top_k} is for {encoding.top_k} to {LARGEST_VOCABULARY} symbols, "
            f"{teacher} has {vocab_size}: choose another --top_k, or factored"
        )


def encode_labels(labels: Labels, encoding: Encoding) -> dict[str, tf.train.Feature]:
    """The features of the chosen artifacts, beside the hard one, which every record has.

    Raises:
        ValueError: numbers that cannot be stored: NaN, infinity, a node without mass.
    """
    # Nothing chosen is None: the teacher was asked for it.
    features: Features = {}
    if NBEST in encoding.artifacts:
        assert labels.nbest is not None
        features |= nbest_features(labels.nbest)
    if COLLAPSED in encoding.artifacts:
        assert labels.nodes is not None
        features |= collapsed_features(labels.nodes, bits=encoding.collapsed_bits, band=labels.band)
    if FACTORED in encoding.artifacts:
        features |= factored_features(labels.encoder, labels.predictor, factored_type=encoding.factored_type)
    if HIDDEN in encoding.artifacts:
        assert labels.hidden is not None
        features |= hidden_features(labels.hidden)
    for name, encoded in ((TOP_K, labels.top_k), (DENSE, labels.dense)):
        if name in encoding.artifacts:
            assert encoded is not None
            features[name] = bytes_feature(encoded)
    return features


def refusal(labels: Labels) -> tuple[str, str] | None:
    """(reason, error) where labels are of no use to any student, else None."""
    num_tokens = len(labels.tokens)
    if num_tokens == 0:
        return "empty_hypothesis", "the teacher heard nothing"
    if num_tokens > labels.num_frames:
        return "tokens_longer_than_frames", f"{num_tokens} tokens on {labels.num_frames} encoder frames"
    if not IMPOSSIBLE < labels.log_prob < float("inf") or not np.isfinite(labels.token_confidence).all():
        return "non_finite_score", f"log_prob {labels.log_prob}, token confidence {list(labels.token_confidence)[:8]}"
    return None
