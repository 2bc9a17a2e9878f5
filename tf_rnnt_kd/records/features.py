"""Artifacts as features of a record, NumPy to `tf.train.Feature`; `stored` is the way back, into batches.

| feature | type | meaning |
|---|---|---|
| `nbest/tokens`, `nbest/num_tokens` | int64, int64 [N] | tokens of N hypotheses one after the other, and lengths |
| `nbest/log_prob`, `nbest/text` | float, bytes [N] | log P over all alignments, descending, and texts |
| `collapsed` | bytes | `codecs.encode_collapsed`: blank, label and rest at each node |
| `factored/encoder`, `factored/encoder_shape` | bytes, int64 [2] | joint-space projections [T, H] |
| `factored/predictor`, `factored/predictor_shape` | bytes, int64 [2] | the same of label positions [U+1, H] |
| `factored/encoder_scale`, `factored/predictor_scale` | float [T], [U+1] | there: int8 with this scale; else bfloat16 |
| `top_k` | bytes | `codecs.encode_top_k`: K symbols, their log-probs and the rest's at each node |
| `hidden/<layer>`, `hidden/<layer>_shape` | bytes, int64 [2] | bfloat16 [T, D], the output of an encoder layer |
| `dense` | bytes | `codecs.encode_dense`: all log-probs [T, U+1, V] |

All functions raise ValueError for numbers that cannot be stored: NaN, infinity, a node without mass.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.records import codecs
from tf_rnnt_kd.records.schema import bytes_feature, float_feature, int64_feature

BFLOAT16, INT8 = "bfloat16", "int8"
FACTORED_TYPES = (BFLOAT16, INT8)
PROJECTIONS = ("encoder", "predictor")

Features = dict[str, tf.train.Feature]


class NBest(NamedTuple):
    """N hypotheses of one utterance, the best first: N token arrays, float [N] natural logs, N texts."""

    tokens: tuple[np.ndarray, ...]
    log_prob: np.ndarray
    text: tuple[str, ...]


def nbest_features(nbest: NBest) -> Features:
    """Hypotheses in the order given."""
    lengths = {len(nbest.tokens), len(nbest.log_prob), len(nbest.text)}
    if len(lengths) != 1 or not np.isfinite(nbest.log_prob).all() or (np.diff(nbest.log_prob) > 0).any():
        found = f"{len(nbest.text)} texts and log-probs {np.asarray(nbest.log_prob).tolist()}"
        raise ValueError(f"{len(nbest.tokens)} hypotheses need as many texts and finite log-probs, best first: {found}")
    tokens = np.concatenate([np.zeros([0], np.int64), *(np.asarray(one, np.int64) for one in nbest.tokens)])
    return {
        "nbest/tokens": int64_feature(tokens),
        "nbest/num_tokens": int64_feature([len(one) for one in nbest.tokens]),
        "nbest/log_prob": float_feature(nbest.log_prob),
        "nbest/text": bytes_feature(nbest.text),
    }


def decode_nbest(features: Mapping[str, tf.train.Feature]) -> NBest | None:
    """The hypotheses of a parsed record (`schema.parse_example`), None where it has none."""
    if "nbest/num_tokens" not in features:
        return None
    lengths = list(features["nbest/num_tokens"].int64_list.value)
    tokens = np.asarray(features["nbest/tokens"].int64_list.value, np.int64)
    if sum(lengths) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens of hypotheses, num_tokens says {lengths}")
    return NBest(
        tokens=tuple(np.split(tokens, np.cumsum(lengths)[:-1])) if lengths else (),
        log_prob=np.asarray(features["nbest/log_prob"].float_list.value, np.float32),
        text=tuple(text.decode() for text in features["nbest/text"].bytes_list.value),
    )


def collapsed_features(nodes: np.ndarray, *, bits: int, band: codecs.StoredBand | None = None) -> Features:
    """Log-probs [T, U+1, 3] of blank, label and rest."""
    blank, label, rest = np.moveaxis(nodes, -1, 0)
    return {"collapsed": bytes_feature(codecs.encode_collapsed(blank, label=label, rest=rest, bits=bits, band=band))}


def factored_features(encoder: np.ndarray, predictor: np.ndarray, *, factored_type: str = BFLOAT16) -> Features:
    """Projections [T, H] and [U+1, H] as "bfloat16" or "int8"."""
    features = {}
    for name, array in zip(PROJECTIONS, (encoder, predictor), strict=True):
        if factored_type == INT8:
            encoded, scale = codecs.encode_int8(array)
            features[f"factored/{name}_scale"] = float_feature(scale)
        else:
            encoded = codecs.encode_bfloat16(array)
        features[f"factored/{name}"] = bytes_feature(encoded)
        features[f"factored/{name}_shape"] = int64_feature(array.shape)
    return features


def decode_factored(features: Mapping[str, tf.train.Feature]) -> tuple[np.ndarray, np.ndarray]:
    """Projections float32 [T, H] and [U+1, H] of a parsed record."""
    arrays = []
    for name in PROJECTIONS:
        encoded = features[f"factored/{name}"].bytes_list.value[0]
        shape = tuple(features[f"factored/{name}_shape"].int64_list.value)
        if f"factored/{name}_scale" in features:
            scale = np.asarray(features[f"factored/{name}_scale"].float_list.value, np.float32)
            arrays.append(codecs.decode_int8(encoded, scale=scale, shape=shape))
        else:
            arrays.append(codecs.decode_bfloat16(encoded, shape=shape))
    encoder, predictor = arrays
    return encoder, predictor


def hidden_features(hidden: Mapping[str, np.ndarray]) -> Features:
    """{layer name: [T, D]}."""
    features = {}
    for name, array in hidden.items():
        features[f"hidden/{name}"] = bytes_feature(codecs.encode_bfloat16(array))
        features[f"hidden/{name}_shape"] = int64_feature(array.shape)
    return features
