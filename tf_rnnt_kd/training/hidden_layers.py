"""Which hidden layers of student and teacher a training compares, and the projections between their widths.

A `hidden` term of the config names one pair by its option `layer`, as "STUDENT'S:TEACHER'S":

    losses.hidden = {"weight": 1.0, "layer": "block_3:block_11"}
    losses.lower = {"loss": "hidden", "weight": 0.5, "layer": "block_1:block_5"}
"""

from collections.abc import Mapping
from typing import NamedTuple

import keras

_STORED = "teacher_hidden/"
"""What the names of stored layers begin with in a batch."""


class HiddenPair(NamedTuple):
    """Two layers that a loss compares. name: "STUDENT'S:TEACHER'S"."""

    name: str
    student: str
    teacher: str


def hidden_pairs(objective) -> list[HiddenPair]:
    """The pairs of an objective's `hidden` terms, each once.

    Raises:
      ValueError: a term names no pair.
    """
    pairs = {}
    for key, term in objective.terms.items():
        if term.loss.name != "hidden" or not term.weight.is_ever_nonzero:
            continue
        name = term.options.get("layer") or ""
        student, _, teacher = name.partition(":")
        if not (student and teacher):
            raise ValueError(
                f"losses.{key}.layer is {name!r}: name a layer of the student and one of the teacher, for example "
                "'block_2:block_5'"
            )
        pairs[name] = HiddenPair(name, student, teacher)
    return list(pairs.values())


def stored_widths(batch_spec) -> dict[str, int]:
    """{layer of the teacher: D} that batches with this element_spec hold."""
    return {
        name.removeprefix(_STORED): int(spec.shape[-1]) for name, spec in batch_spec.items() if name.startswith(_STORED)
    }


def build_hidden_layers(objective, *, model, teacher_widths: Mapping[str, int]) -> "HiddenLayers | None":
    """The HiddenLayers of an objective's terms for a student, None where there is no such term.

    Raises:
      ValueError: a term names no pair, or a layer that is not there.
    """
    pairs = hidden_pairs(objective)
    if not pairs:
        return None
    return HiddenLayers(pairs, student_widths=model.layer_widths, teacher_widths=teacher_widths)


class HiddenLayers(keras.layers.Layer):
    """The pairs of layers that are compared, with a trained projection where their widths differ.

    The projections belong to the training, not to the model: the optimizer changes them, checkpoints hold them, an
    export does not.

    Args:
      pairs: of `hidden_pairs`. student_widths: {layer: D_S}. teacher_widths: {layer: D_T}.

    Raises:
      ValueError: one of the models has no such layer.
    """

    def __init__(self, pairs, *, student_widths: Mapping[str, int], teacher_widths: Mapping[str, int], **kwargs):
        super().__init__(name="hidden_layers", dtype="float32", **kwargs)
        self.pairs = tuple(pairs)
        self._kernels = {}
        for pair in self.pairs:
            for whose, layer, widths in (
                ("student", pair.student, student_widths), ("teacher", pair.teacher, teacher_widths)
            ):
                if layer not in widths:
                    names = ", ".join(widths) or "none"
                    raise ValueError(f"layer={pair.name!r}: the {whose} has no layer {layer!r}, it has {names}")
            shape = (student_widths[pair.student], teacher_widths[pair.teacher])
            if shape[0] != shape[1]:
                name = f"{pair.student}_to_{pair.teacher}"
                self._kernels[pair.name] = self.add_weight(name=name, shape=shape, initializer="glorot_uniform")
        self.built = True

    def inputs(self, outputs, batch):
        """What LossInputs takes of it.

        Args:
          outputs: {layer: [B, T, D_S]} of the student's encoder.
          batch: with `teacher_hidden/<layer>` [B, T, D_T].

        Returns:
          {"student_hidden", "teacher_hidden", "hidden_projection"}, each a dictionary by the names of the pairs.
        """
        return {
            "student_hidden": {pair.name: outputs[pair.student] for pair in self.pairs},
            "teacher_hidden": {pair.name: batch[_STORED + pair.teacher] for pair in self.pairs},
            "hidden_projection": {name: kernel.value for name, kernel in self._kernels.items()},
        }
