"""Between batches and losses: which stored artifacts give what losses ask of a teacher, and a batch as LossInputs.

| losses need | artifacts that give it, of which the first that the records have is read |
|---|---|
| `teacher` (nodes) | collapsed, factored, dense |
| `teacher_joint` | factored, dense |
| `teacher_top_k` | top_k |
| `teacher_log_prob` | hard |
| `teacher_log_probs`, of hypotheses | nbest |
| `teacher_hidden` | hidden |
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_rnnt_kd import lattice

GIVEN_BY = {
    "teacher": ("collapsed", "factored", "dense"),
    "teacher_joint": ("factored", "dense"),
    "teacher_top_k": ("top_k",),
    "teacher_log_prob": ("hard",),
    "teacher_log_probs": ("nbest",),
    "teacher_hidden": ("hidden",),
}
ON_THE_TIME_AXIS = frozenset(("collapsed", "factored", "dense", "top_k", "hidden"))
"""Artifacts that belong to frames."""

ON_THE_FRAMES = frozenset(("teacher", "teacher_joint", "teacher_top_k", "teacher_hidden"))
"""Needs that do."""

EXISTS = lattice.NEGATIVE_INFINITY / 2
"""Log-probabilities at or below this stand for what is not there, or cannot be."""


class TeacherJoint(NamedTuple):
    """What all utterances of a teacher share: kernel [H, V], bias [V], and `lattice.joint_settings` of its joint."""

    kernel: np.ndarray
    bias: np.ndarray
    settings: Mapping[str, Any] = {}


def choose_artifacts(needs: Collection[str], *, stored: Collection[str]) -> list[str]:
    """The artifacts to read for losses with these `Objective.needs`, of those that the records have; sorted.

    Raises:
      ValueError: the records have none of the artifacts that would give one of the needs.
    """
    chosen = set()
    for need, givers in GIVEN_BY.items():
        if need not in needs:
            continue
        found = [artifact for artifact in givers if artifact in stored]
        if not found:
            raise ValueError(
                f"the losses need {need}, which the artifacts {' or '.join(givers)} give; the records have "
                f"{', '.join(sorted(stored)) or 'none'}: label with python -m beam_pipelines.pseudo_label "
                f"--artifacts=hard,{givers[0]}"
            )
        chosen.add(found[0])
    return sorted(chosen)


def teacher_inputs(
    batch: Mapping[str, tf.Tensor], *, needs: Collection[str], student: lattice.NodeLogProbs, lengths, joint=None
) -> dict[str, Any]:
    """The teacher's part of LossInputs from a batch of `reader.training_batches`; nothing where that has none.

    Args:
      batch: with `tokens`, and what the artifacts gave.
      needs: of the objective.
      student: NodeLogProbs [B, T, U+1].
      lengths: {"logit_lengths": [B], "label_lengths": [B]}.
      joint: TeacherJoint of the teacher whose projections the batch holds, or None.

    Returns:
      Keyword arguments of LossInputs: those of GIVEN_BY that the batch gives but hidden layers (see hidden_layers.py),
      and has_teacher, node_weights, hypothesis_mask and hypothesis_lengths where they go with them.
    """
    if "has_teacher" not in batch:
        return {}
    exists = tf.ones_like(student.blank)
    given = {"has_teacher": batch["has_teacher"]}
    if "teacher_encoder" in batch:
        shared = (tf.constant(x, tf.float32) for x in joint[:2])
        given["teacher_joint"] = lattice.Joint(
            batch["teacher_encoder"], batch["teacher_predictor"], *shared, **joint.settings
        )
    if "teacher_dense" in batch:
        given["teacher_joint"] = batch["teacher_dense"]
    if "teacher_nodes" in batch:
        given["teacher"] = lattice.NodeLogProbs(*tf.unstack(batch["teacher_nodes"], axis=-1))
    elif "teacher" in needs:
        given["teacher"] = _nodes(given["teacher_joint"], batch["tokens"], lengths)
    if "teacher_log_prob" in batch:
        given["teacher_log_prob"] = batch["teacher_log_prob"]
    if "teacher_top_k_rest" in batch:
        top_k = lattice.TopK(*(batch[f"teacher_top_k_{name}"] for name in lattice.TopK._fields))
        given["teacher_top_k"] = top_k
        # Losses over K symbols do not see by themselves which nodes are missing: their best symbol has no mass.
        exists = tf.where(top_k.log_probs[..., 0] > EXISTS, exists, 0)
    if "nbest_log_prob" in batch:
        given["teacher_log_probs"] = batch["nbest_log_prob"]
        given["hypothesis_mask"] = batch["nbest_log_prob"] > EXISTS
        given["hypothesis_lengths"] = batch["nbest_num_tokens"]
    return given | {"node_weights": exists * batch["has_teacher"][:, None, None]}


def _nodes(joint, labels, lengths):
    if isinstance(joint, lattice.Joint):
        return lattice.node_log_probs(**joint._asdict(), labels=labels, **lengths)
    return lattice.node_log_probs_from_logits(joint, labels=labels, **lengths)
