"""The kinds and precisions of artifacts that `artifact_errors` compares, and how a loss is computed from each.

A `Case` is one utterance of a live teacher and a student near it. A `Variant` writes an artifact of a case as the
pipeline does, as features of a record, and reads it back into the inputs of losses.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.losses import LossInputs, Objective
from tf_rnnt_kd.records import (
    TeacherLabels,
    bytes_feature,
    codecs,
    decode_teacher,
    encode_distillation,
    features,
    parse_example,
)

LOSSES = {  # name in tables: terms of an Objective
    "collapsed": {},
    "occupancy_weighted": {},
    "best_path": {},
    "alignment_kl": {},
    "full_sum": {},
    "soft": {},
    "soft, weighted": {"loss": "soft", "weigh_by": "posterior"},
    "top_k": {},
    "sequence_posterior": {},
    "hidden": {},
}
NODE_LOSSES = ("collapsed", "occupancy_weighted", "best_path", "alignment_kl", "full_sum")


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One utterance: tokens int [U], projections [T, H] and [U+1, H], the joint's kernel and bias, seconds of audio.

    `hard` is what every record holds; `nbest` and `hidden` are None where the teacher gives none. The student has the
    teacher's joint, its projections, scores and layers with Gaussian noise of `noise` times their standard deviation.
    """

    tokens: np.ndarray
    encoder: np.ndarray
    predictor: np.ndarray
    joint: Mapping[str, np.ndarray]
    seconds: float
    hard: TeacherLabels | None = None
    nbest: features.NBest | None = None
    hidden: Mapping[str, np.ndarray] | None = None
    noise: float = 0.3
    seed: int = 0

    @property
    def lengths(self) -> dict[str, list[int]]:
        return {"logit_lengths": [len(self.encoder)], "label_lengths": [len(self.tokens)]}

    @property
    def num_nodes(self) -> int:
        return len(self.encoder) * len(self.predictor)

    @property
    def sizes(self) -> dict[str, int]:
        return {"num_frames": len(self.encoder), "num_labels": len(self.tokens)}

    def as_joint(self, encoder: Any, predictor: Any) -> lattice.Joint:
        """With a batch of one in front, and the teacher's kernel and bias."""
        return lattice.Joint(encoder[None], predictor[None], self.joint["kernel"], self.joint["bias"])

    def nodes_of(self, joint: lattice.Joint) -> lattice.NodeLogProbs:
        return lattice.node_log_probs(*joint[:4], labels=self.tokens[None], **self.lengths)

    @functools.cached_property
    def teacher(self) -> lattice.Joint:
        return self.as_joint(self.encoder, self.predictor)

    @functools.cached_property
    def nodes(self) -> lattice.NodeLogProbs:
        return self.nodes_of(self.teacher)

    @functools.cached_property
    def stacked(self) -> np.ndarray:
        """The nodes as the pipeline has them, [T, U+1, 3]."""
        return np.stack([array[0] for array in self.nodes], axis=-1)

    def band(self, width: int) -> codecs.StoredBand | None:
        """Round the teacher's best alignment; None for the whole lattice."""
        if not width:
            return None
        frames = lattice.viterbi(self.nodes, **self.lengths).token_frames[0].numpy()
        return codecs.band_around(frames, width=width, num_frames=len(self.encoder))

    def near(self, array: np.ndarray) -> np.ndarray:
        """`array` as the student has it."""
        random = np.random.default_rng(self.seed)
        return (array + self.noise * np.std(array) * random.normal(size=array.shape)).astype(np.float32)


class Variant(NamedTuple):
    """One row of the tables.

    artifact, name: what it is. losses: of LOSSES, that read it.
    write: Case -> features. raw: Case -> bytes that its numbers would take without compression.
    read: (Case, features) -> what it gives of LossInputs.
    live: Case -> the same from the live teacher.
    """

    artifact: str
    name: str
    losses: tuple[str, ...]
    write: Callable[[Case], features.Features]
    raw: Callable[[Case], float]
    read: Callable[[Case, features.Features], dict[str, Any]]
    live: Callable[[Case], dict[str, Any]]


def value_and_gradient(loss: str, case: Case, given: Mapping[str, Any]) -> tuple[float, np.ndarray]:
    """A loss of one utterance with these parts of LossInputs, and its gradient to what the student computes."""
    encoder = tf.constant(case.near(case.encoder))
    scores = hidden = None
    if "teacher_log_probs" in given:
        scores = tf.constant(case.near(case.nbest.log_prob)[None])
    if "teacher_hidden" in given:
        hidden = tf.constant(case.near(next(iter(case.hidden.values())))[None])
    with tf.GradientTape() as tape:
        tape.watch([x for x in (encoder, scores, hidden) if x is not None])
        joint = case.as_joint(encoder, case.near(case.predictor))
        inputs = LossInputs(
            case.nodes_of(joint), student_joint=joint, student_log_probs=scores, student_hidden=hidden,
            **case.lengths, **given,
        )  # fmt: skip
        value = Objective({loss: LOSSES[loss]})(inputs)[0][0]
    read = [x for x in (scores, hidden, encoder) if x is not None][0]
    return float(value), tape.gradient(value, read).numpy()


@functools.cache
def live_value_and_gradient(loss: str, case: Case, live: Callable[[Case], dict[str, Any]]) -> tuple[float, np.ndarray]:
    """The same of the live teacher; computed once for all variants that share `live`."""
    return value_and_gradient(loss, case, live(case))


def _bytes(found, name):
    return found[name].bytes_list.value[0]


def _live_nodes(case):
    return {"teacher": case.nodes}


def _live_joint(case):
    return {"teacher": case.nodes, "teacher_joint": case.teacher}


@functools.cache
def _live_top_k(k):
    return functools.cache(lambda case: {"teacher_top_k": lattice.top_k(case.teacher, k=k, **case.lengths)})


def collapsed(bits: int, width: int) -> Variant:
    """Three masses per node, of all or of a band."""

    def read(case, found):
        nodes = codecs.decode_collapsed(_bytes(found, "collapsed"), **case.sizes)
        return {"teacher": lattice.NodeLogProbs(*(tf.constant(x[None]) for x in np.moveaxis(nodes, -1, 0)))}

    def raw(case):
        band = case.band(width)
        return 2 * bits / 8 * (case.num_nodes if band is None else len(case.encoder) * band.width)

    return Variant(
        "collapsed", f"{bits} bit, " + (f"band of {width}" if width else "all nodes"), NODE_LOSSES,
        lambda case: features.collapsed_features(case.stacked, bits=bits, band=case.band(width)),
        raw, read, _live_nodes,
    )  # fmt: skip


def factored(kind: str) -> Variant:
    """Projections, from which everything follows."""

    def read(case, found):
        joint = case.as_joint(*features.decode_factored(found))
        return {"teacher": case.nodes_of(joint), "teacher_joint": joint}

    def raw(case):
        rows = len(case.encoder) + len(case.predictor)
        return rows * (2 * case.encoder.shape[1] if kind == features.BFLOAT16 else case.encoder.shape[1] + 4)

    return Variant(
        "factored", kind, ("soft", "soft, weighted", *NODE_LOSSES),
        lambda case: features.factored_features(case.encoder, case.predictor, factored_type=kind),
        raw, read, _live_joint,
    )  # fmt: skip


def top_k(k: int, width: int = 0) -> Variant:
    """The K best symbols; the live loss has as many, of all nodes."""

    def write(case):
        symbols, log_probs, rest = (x[0].numpy() for x in _live_top_k(k)(case)["teacher_top_k"])
        encoded = codecs.encode_top_k(
            symbols, log_probs=log_probs, rest=rest, vocab_size=len(case.joint["bias"]), band=case.band(width)
        )
        return {"top_k": bytes_feature(encoded)}

    def read(case, found):
        stored = codecs.decode_top_k(_bytes(found, "top_k"), **case.sizes)
        there = stored.log_probs[..., 0] > lattice.NEGATIVE_INFINITY / 2
        return {
            "teacher_top_k": lattice.TopK(*(tf.constant(x[None]) for x in stored)),
            "node_weights": tf.constant(there[None], tf.float32),
        }

    def raw(case):
        band = case.band(width)
        nodes = case.num_nodes if band is None else len(case.encoder) * band.width
        return nodes * k * (2 if len(case.joint["bias"]) <= 256 else 3)

    name = f"K = {k}, " + (f"band of {width}" if width else "all nodes")
    return Variant("top_k", name, ("top_k",), write, raw, read, _live_top_k(k))


def dense() -> Variant:
    """All log-probs of all symbols."""

    def log_probs(case):
        logits = np.tanh(case.encoder[:, None] + case.predictor) @ case.joint["kernel"] + case.joint["bias"]
        return tf.nn.log_softmax(logits).numpy()

    def read(case, found):
        stored = tf.constant(codecs.decode_dense(_bytes(found, "dense"), **case.sizes)[None])
        nodes = lattice.node_log_probs_from_logits(stored, labels=case.tokens[None], **case.lengths)
        return {"teacher": nodes, "teacher_joint": stored}

    return Variant(
        "dense", "float16", ("soft", "soft, weighted", *NODE_LOSSES),
        lambda case: {"dense": bytes_feature(codecs.encode_dense(log_probs(case)))},
        lambda case: 2 * case.num_nodes * len(case.joint["bias"]), read, _live_joint,
    )  # fmt: skip


def hard() -> Variant:
    """Text, tokens, frames and scores, float32."""

    def raw(case):
        labels = case.hard
        return len(labels.text.encode()) + 8 + 16 * len(labels.tokens) + 4 * (
            len(labels.token_confidence) + len(labels.word_confidence)
        )

    def score(labels):
        return {"teacher_log_prob": tf.constant([labels.log_prob], tf.float32)}

    return Variant(
        "hard", "float32 scores", ("full_sum",),
        lambda case: parse_example(encode_distillation(b"", teacher=case.hard)), raw,
        lambda case, found: score(decode_teacher(serialised(found))),
        _live_score,
    )  # fmt: skip


def serialised(found: features.Features) -> bytes:
    """Features as a record."""
    return tf.train.Example(features=tf.train.Features(feature=found)).SerializeToString()


def _live_score(case):
    return {"teacher_log_prob": tf.constant([case.hard.log_prob], tf.float32)}


def nbest() -> Variant:
    """Scores of hypotheses, float32 as the teacher gives them."""

    def given(scores):
        return {"teacher_log_probs": tf.constant(np.asarray(scores, np.float32)[None])}

    return Variant(
        "nbest", "float32 scores", ("sequence_posterior",),
        lambda case: features.nbest_features(case.nbest),
        lambda case: sum(8 * len(tokens) + 12 + len(text.encode()) for tokens, text in
                         zip(case.nbest.tokens, case.nbest.text, strict=True)),
        lambda case, found: given(features.decode_nbest(found).log_prob),
        lambda case: given(case.nbest.log_prob),
    )  # fmt: skip


def hidden() -> Variant:
    """Encoder layers; the loss compares the first."""

    def read(case, found):
        name, shape = next((name, array.shape) for name, array in case.hidden.items())
        return {"teacher_hidden": codecs.decode_bfloat16(_bytes(found, f"hidden/{name}"), shape=shape)[None]}

    return Variant(
        "hidden", "bfloat16", ("hidden",),
        lambda case: features.hidden_features(case.hidden),
        lambda case: sum(2 * array.size for array in case.hidden.values()),
        read,
        lambda case: {"teacher_hidden": next(iter(case.hidden.values()))[None]},
    )  # fmt: skip
