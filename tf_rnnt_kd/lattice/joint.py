"""What a joint network is: its inputs, its weights, and how they make a distribution at each node."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tf_rnnt_kd.lattice.factorised import factorised_log_probs
from tf_rnnt_kd.lattice.joint_rows import ACTIVATIONS, COMBINATIONS
from tf_rnnt_kd.lattice.logits import resolve_blank
from tf_rnnt_kd.lattice.nodes import dimension, lattice_float


class Joint(NamedTuple):
    """One model's joint network on one batch: logits(t, u) = activation(encoder_t + predictor_u) @ kernel + bias.

    `lattice.node_log_probs(**joint._asdict(), labels=..., ...)` are its nodes.

    encoder: [B, T, H] any float dtype, encoder output in joint space; padding may hold anything.
    predictor: [B, U+1, H], prediction network output in joint space, the start position first; same about padding.
    kernel: [H, V].
    bias: [V].
    activation: 'tanh', 'relu', 'sigmoid' or 'linear'.
    combination: 'add', or 'multiply' for activation(encoder_t * predictor_u), element by element.
    factorised_blank: False for a softmax over the logits. True: P(blank) is the sigmoid of its logit, and the labels
      share the rest by a softmax over theirs, see factorised.py.
    blank_index: int in [-V, V), which logit the factorised blank's is.
    """

    encoder: tf.Tensor
    predictor: tf.Tensor
    kernel: tf.Tensor
    bias: tf.Tensor
    activation: str = "tanh"
    combination: str = "add"
    factorised_blank: bool = False
    blank_index: int = 0


def joint_settings(description: Mapping[str, Any]) -> dict[str, Any]:
    """What a Joint needs beside its tensors, from an export's description of its joint.

    Args:
      description: mapping, `joint` of metadata.json; what exports from before a setting lack has its default.

    Returns:
      {'activation', 'combination', 'factorised_blank'}: keyword arguments of Joint and of node_log_probs.

    Raises:
      ValueError: an activation or combination that is not known here.
    """
    defaults = Joint._field_defaults
    names = ("activation", "combination", "factorised_blank")
    settings = {name: description.get(name, defaults[name]) for name in names}
    _check_settings(**settings)
    return settings


def dense_log_probs(joint: Joint) -> tf.Tensor:
    """Natural log-probabilities [B, T, U+1, V] of a Joint, all at once: for tiny vocabularies and single nodes."""
    joint = prepare(joint)
    combine, (activation, _) = COMBINATIONS[joint.combination], ACTIVATIONS[joint.activation]
    hidden = activation(combine(joint.encoder[:, :, None], joint.predictor[:, None]))
    logits = tf.tensordot(hidden, joint.kernel, 1) + joint.bias
    if joint.factorised_blank:
        return factorised_log_probs(logits, blank_index=joint.blank_index)
    return tf.nn.log_softmax(logits)


def prepare(joint):
    """The Joint with checked shapes, in one float32 or float64 precision; its padding may hold anything."""
    encoder, predictor, kernel, bias = (tf.convert_to_tensor(x) for x in joint[:4])
    _check_shapes(encoder, predictor, kernel, bias)
    _check_settings(*joint[4:7])
    blank_index = resolve_blank(joint.blank_index, kernel.shape[1]) if joint.factorised_blank else joint.blank_index
    encoder = lattice_float(encoder)
    predictor, kernel, bias = (tf.cast(x, encoder.dtype) for x in (predictor, kernel, bias))
    return Joint(encoder, predictor, kernel, bias, *joint[4:7], blank_index)


def is_broken(joint, *, logit_lengths, label_lengths):
    """[B] bool: the utterance's part of a prepared Joint holds a NaN."""
    num_existing = logit_lengths, tf.cast(label_lengths, tf.int32) + 1
    sequences = [
        tf.reduce_any(tf.reduce_any(tf.math.is_nan(x), axis=2) & tf.sequence_mask(n, dimension(x, 1)), axis=1)
        for x, n in zip(joint[:2], num_existing, strict=True)
    ]
    shared = [tf.reduce_any(tf.math.is_nan(x)) for x in joint[2:4]]
    return sequences[0] | sequences[1] | shared[0] | shared[1]


def _check_settings(activation, combination, factorised_blank):
    for name, given, known in (("activation", activation, ACTIVATIONS), ("combination", combination, COMBINATIONS)):
        if given not in known:
            raise ValueError(f"{name}={given!r} is not one of {', '.join(sorted(known))}")
    if not isinstance(factorised_blank, bool):
        raise ValueError(f"factorised_blank={factorised_blank!r} must be True or False")


def _check_shapes(encoder, predictor, kernel, bias):
    ranks = tuple(x.shape.rank for x in (encoder, predictor, kernel, bias))
    width = {x for x in (encoder.shape[-1], predictor.shape[-1], kernel.shape[0]) if x is not None}
    if ranks != (3, 3, 2, 1) or len(width) > 1 or not kernel.shape[1:].is_compatible_with(bias.shape):
        raise ValueError(
            "expected encoder [B, T, H], predictor [B, U+1, H], kernel [H, V], bias [V], got "
            f"{encoder.shape}, {predictor.shape}, {kernel.shape}, {bias.shape}"
        )
