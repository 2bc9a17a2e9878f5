"""Artifacts on their way from records into batches: which features each has, and what tensors it becomes.

    stored = open_artifacts(("collapsed", "hidden"), sources=sources)       # looks at a record for the widths

An artifact here says how to parse and decode one record (`features`, `read`) and how its tensors are padded (`parts`);
`parsing` and `reader` do that for all alike.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice import NEGATIVE_INFINITY
from tf_rnnt_kd.records import codecs
from tf_rnnt_kd.records.dataset import read_shard
from tf_rnnt_kd.records.features import PROJECTIONS
from tf_rnnt_kd.records.schema import parse_example
from tf_rnnt_kd.records.sources import Source

FRAMES, LABELS, POSITIONS = "frames", "labels", "positions"  # dimensions T, U, U+1 of a bucket
_RECORDS_TO_LOOK_AT = 1000
_PREFIX = {"hard": "teacher"}  # of features, where it is not the artifact's name


class Part(NamedTuple):
    """One tensor of a batch: its dimensions after B, FRAMES, LABELS, POSITIONS or a number; dtype; what pads it."""

    shape: tuple[Any, ...]
    dtype: tf.DType = tf.float32
    padding: float = 0.0


class Sizes(NamedTuple):
    """Of one record: the teacher's frames T and the labels U, scalar integers."""

    num_frames: tf.Tensor
    num_labels: tf.Tensor


def _string():
    return tf.io.FixedLenFeature([], tf.string, default_value="")


def _shape():
    return tf.io.FixedLenFeature([2], tf.int64, default_value=[0, 0])


@dataclasses.dataclass(frozen=True)
class Hard:
    """The score of the labels: `teacher_log_prob`, exact, whatever is rounded in the other artifacts."""

    name, time_aligned, marker = "hard", False, "teacher/log_prob"
    features = {"teacher/log_prob": tf.io.RaggedFeature(tf.float32)}
    parts = {"teacher_log_prob": Part(())}

    def read(self, parsed, sizes):
        return {"teacher_log_prob": parsed["teacher/log_prob"][0]}


@dataclasses.dataclass(frozen=True)
class NBest:
    """The first `count` hypotheses: tokens, lengths, and log-probs, NEGATIVE_INFINITY for those that are missing."""

    count: int
    name, time_aligned, marker = "nbest", False, "nbest/num_tokens"
    features = {
        "nbest/tokens": tf.io.RaggedFeature(tf.int64),
        "nbest/num_tokens": tf.io.RaggedFeature(tf.int64),
        "nbest/log_prob": tf.io.RaggedFeature(tf.float32),
    }

    @property
    def parts(self):
        return {
            "nbest_tokens": Part((self.count, LABELS), tf.int32),
            "nbest_num_tokens": Part((self.count,), tf.int32),
            "nbest_log_prob": Part((self.count,), padding=NEGATIVE_INFINITY),
        }

    def read(self, parsed, sizes):
        lengths = parsed["nbest/num_tokens"]
        tokens = tf.RaggedTensor.from_row_lengths(tf.cast(parsed["nbest/tokens"], tf.int32), lengths)
        return {
            "nbest_tokens": tokens[: self.count].to_tensor(),
            "nbest_num_tokens": tf.cast(lengths[: self.count], tf.int32),
            "nbest_log_prob": parsed["nbest/log_prob"][: self.count],
        }


@dataclasses.dataclass(frozen=True)
class Collapsed:
    """`teacher_nodes`, NEGATIVE_INFINITY where there are none: log-probs of blank, label and rest."""

    name, time_aligned, marker = "collapsed", True, "collapsed"
    features = {"collapsed": _string()}
    parts = {"teacher_nodes": Part((FRAMES, POSITIONS, 3), padding=NEGATIVE_INFINITY)}

    def read(self, parsed, sizes):
        return {"teacher_nodes": codecs.decode_collapsed_tf(parsed["collapsed"], **sizes._asdict())}


@dataclasses.dataclass(frozen=True)
class Factored:
    """`teacher_encoder` and `teacher_predictor`, projections of the given width H."""

    width: int
    name, time_aligned, marker = "factored", True, "factored/encoder"
    features = {
        **{f"factored/{part}": _string() for part in PROJECTIONS},
        **{f"factored/{part}_shape": _shape() for part in PROJECTIONS},
        **{f"factored/{part}_scale": tf.io.RaggedFeature(tf.float32) for part in PROJECTIONS},
    }

    @property
    def parts(self):
        return {"teacher_encoder": Part((FRAMES, self.width)), "teacher_predictor": Part((POSITIONS, self.width))}

    def read(self, parsed, sizes):
        return {f"teacher_{part}": self._read_part(parsed, part) for part in PROJECTIONS}

    @staticmethod
    def _read_part(parsed, part):
        encoded, shape, scale = (parsed[f"factored/{part}{suffix}"] for suffix in ("", "_shape", "_scale"))
        return tf.cond(
            tf.size(scale) > 0,
            lambda: codecs.decode_int8_tf(encoded, scale=scale, shape=shape),
            lambda: codecs.decode_bfloat16_tf(encoded, shape=shape),
        )


@dataclasses.dataclass(frozen=True)
class TopK:
    """`teacher_top_k_symbols`, `teacher_top_k_log_probs` [.., K] and `teacher_top_k_rest`, as lattice.TopK."""

    k: int
    name, time_aligned, marker = "top_k", True, "top_k"
    features = {"top_k": _string()}

    @property
    def parts(self):
        nodes = (FRAMES, POSITIONS)
        return {
            "teacher_top_k_symbols": Part((*nodes, self.k), tf.int32),
            "teacher_top_k_log_probs": Part((*nodes, self.k), padding=NEGATIVE_INFINITY),
            "teacher_top_k_rest": Part(nodes, padding=NEGATIVE_INFINITY),
        }

    def read(self, parsed, sizes):
        found = codecs.decode_top_k_tf(parsed["top_k"], **sizes._asdict())
        return {f"teacher_top_k_{name}": value for name, value in found._asdict().items()}


@dataclasses.dataclass(frozen=True)
class Hidden:
    """`teacher_hidden/<layer>` for each layer of the given width D."""

    widths: tuple[tuple[str, int], ...]
    name, time_aligned = "hidden", True

    @property
    def marker(self):
        return f"hidden/{self.widths[0][0]}"

    @property
    def features(self):
        spec = {}
        for layer, _ in self.widths:
            spec |= {f"hidden/{layer}": _string(), f"hidden/{layer}_shape": _shape()}
        return spec

    @property
    def parts(self):
        return {f"teacher_hidden/{layer}": Part((FRAMES, width)) for layer, width in self.widths}

    def read(self, parsed, sizes):
        return {
            f"teacher_hidden/{layer}": codecs.decode_bfloat16_tf(
                parsed[f"hidden/{layer}"], shape=parsed[f"hidden/{layer}_shape"]
            )
            for layer, _ in self.widths
        }


@dataclasses.dataclass(frozen=True)
class Dense:
    """`teacher_dense`, log-probs of all V symbols."""

    vocab_size: int
    name, time_aligned, marker = "dense", True, "dense"
    features = {"dense": _string()}

    @property
    def parts(self):
        return {"teacher_dense": Part((FRAMES, POSITIONS, self.vocab_size))}

    def read(self, parsed, sizes):
        return {"teacher_dense": codecs.decode_dense_tf(parsed["dense"], **sizes._asdict())}


ARTIFACTS = ("hard", "nbest", "collapsed", "factored", "top_k", "hidden", "dense")


def open_artifacts(names: Collection[str], *, sources: Sequence[Source], num_hypotheses: int = 4) -> list[Any]:
    """The artifacts of these names, in the order of ARTIFACTS, with the widths that the sources' records have.

    Args:
      num_hypotheses: of "nbest".

    Raises:
      ValueError: an unknown name, no record that has the artifact, or widths that differ between sources.
    """
    unknown = sorted(set(names) - set(ARTIFACTS))
    if unknown:
        raise ValueError(f"no artifact {', '.join(unknown)}: choose of {', '.join(ARTIFACTS)}")
    make = {
        "hard": lambda features: Hard(),
        "nbest": lambda features: NBest(num_hypotheses),
        "collapsed": lambda features: Collapsed(),
        "factored": _factored,
        "top_k": _top_k,
        "hidden": _hidden,
        "dense": _dense,
    }
    return [_open(name, make[name], sources) for name in ARTIFACTS if name in names]


def _open(name, make, sources):
    found = {}
    for source in sources:
        features = _first_with(name, source)
        if features is not None:
            found[make(features)] = source.directory
    if len(found) != 1:
        shown = ", ".join(f"{artifact} in {folder}" for artifact, folder in found.items()) or "none"
        raise ValueError(
            f"training on {name} needs records that have it, all of one kind; found {shown}: label again with "
            f"python -m beam_pipelines.pseudo_label --artifacts=hard,{name}"
        )
    return next(iter(found))


def _first_with(name: str, source: Source) -> Mapping[str, tf.train.Feature] | None:
    """The first record of a source that has the artifact; None where the dataset says that none has."""
    if name not in (source.info().artifacts or ()):
        return None
    looked_at = 0
    for path in source.paths():
        for record in read_shard(path):
            features = parse_example(record)
            if any(feature.partition("/")[0] == _PREFIX.get(name, name) for feature in features):
                return features
            looked_at += 1
            if looked_at >= _RECORDS_TO_LOOK_AT:
                return None
    return None


def _factored(features):
    return Factored(features["factored/encoder_shape"].int64_list.value[1])


def _top_k(features):
    return TopK(codecs.top_k_size(features["top_k"].bytes_list.value[0]))


def _hidden(features):
    shapes = {name: list(feature.int64_list.value) for name, feature in features.items() if name.endswith("_shape")}
    layers = sorted(name for name in features if name.startswith("hidden/") and f"{name}_shape" in shapes)
    return Hidden(tuple((name.partition("/")[2], shapes[f"{name}_shape"][1]) for name in layers))


def _dense(features):
    num_frames = features["teacher/num_frames"].int64_list.value[0]
    num_labels = len(features["teacher/tokens"].int64_list.value)
    nodes = codecs.decode_dense(features["dense"].bytes_list.value[0], num_frames=num_frames, num_labels=num_labels)
    return Dense(nodes.shape[-1])
