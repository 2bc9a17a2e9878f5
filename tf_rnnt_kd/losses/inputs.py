"""What a training step offers to the losses; what several of them derive is computed once and only if one asks."""

import functools
from collections.abc import Mapping

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.lattice.tensors import TensorLike


class LossInputs:
    """Tensors of one batch, by the names that the losses' parameters have.

    Make one per step, inside the function that is traced; every tensor of the teacher loses its gradient here.

    Attributes:
      student: NodeLogProbs [B, T, U+1].
      logit_lengths: [B] int32, student frames.
      label_lengths: [B] int32, labels.
      has_teacher: [B], 0 for utterances to which the teacher's tensors say nothing, or None: each has one.
      is_labelled: [B] bool, False where the labels are not a person's but a teacher's, or None where no term asks.
      teacher: NodeLogProbs [B, T, U+1] over the same labels and frames, or None. Stored ones may lack nodes (all three
        NEGATIVE_INFINITY) and are rounded.
      teacher_log_prob: [B] log P_T(y|x), exact; if not given, summed over the teacher's nodes.
      node_weights: [B, T, U+1] weights of the teacher's nodes, or None.
      student_log_probs, teacher_log_probs: [B, N] log P(y^n|x) of N hypotheses, or None.
      hypothesis_mask: [B, N] bool, which hypotheses exist, or None for all.
      hypothesis_lengths: [B, N] int, labels of each hypothesis, or None.
      student_hidden: [B, T, D_S] a layer's output over the student's frames, or None. This and the next two may be
        mappings from the names of pairs of layers, of which the option `layer` of a term chooses one.
      teacher_hidden: [B, T, D_T] the teacher's, over as many frames, or None.
      hidden_projection: [D_S, D_T] kernel from the student's to the teacher's width, trained with it, or None; a
        mapping may leave out pairs of one width.
      second_mode: NodeLogProbs [B, T, U+1] of the student in another mode, e.g. streaming; keeps its gradient; or None.
      student_joint: lattice.Joint, for losses over whole distributions; keeps its gradient; or None.
      teacher_joint: lattice.Joint or dense logits [B, T, U+1, V] over the same labels and frames, or None.
      teacher_top_k: lattice.TopK over the same labels and frames, or None.
      band: lattice.Band of the student's nodes that these losses compare, or None for all; nodes have their own.
      student_log_prob, student_occupancies, teacher_occupancies: derived.
      teacher_path_log_prob: derived: [B] log of the sum over the alignments that `teacher` has, which the occupancies
        go with, and which differs from teacher_log_prob as far as nodes are rounded or missing.
    """

    NAMES = (
        "student",
        "teacher",
        "logit_lengths",
        "label_lengths",
        "node_weights",
        "student_log_prob",
        "teacher_log_prob",
        "teacher_path_log_prob",
        "student_occupancies",
        "teacher_occupancies",
        "student_log_probs",
        "teacher_log_probs",
        "hypothesis_mask",
        "hypothesis_lengths",
        "student_hidden",
        "teacher_hidden",
        "hidden_projection",
        "second_mode",
        "student_joint",
        "teacher_joint",
        "teacher_top_k",
        "band",
    )
    ALWAYS_THERE = frozenset(("student", "logit_lengths", "label_lengths", "student_log_prob", "student_occupancies"))

    def __init__(
        self,
        student: lattice.NodeLogProbs,
        *,
        logit_lengths: TensorLike,
        label_lengths: TensorLike,
        has_teacher: TensorLike | None = None,
        is_labelled: TensorLike | None = None,
        teacher: lattice.NodeLogProbs | None = None,
        teacher_log_prob: TensorLike | None = None,
        node_weights: TensorLike | None = None,
        student_log_probs: TensorLike | None = None,
        teacher_log_probs: TensorLike | None = None,
        hypothesis_mask: TensorLike | None = None,
        hypothesis_lengths: TensorLike | None = None,
        student_hidden: TensorLike | Mapping[str, TensorLike] | None = None,
        teacher_hidden: TensorLike | Mapping[str, TensorLike] | None = None,
        hidden_projection: TensorLike | Mapping[str, TensorLike] | None = None,
        second_mode: lattice.NodeLogProbs | None = None,
        student_joint: lattice.Joint | None = None,
        teacher_joint: lattice.Joint | TensorLike | None = None,
        teacher_top_k: lattice.TopK | None = None,
        band: lattice.Band | None = None,
    ):
        self.student = student
        self.logit_lengths = logit_lengths
        self.label_lengths = label_lengths
        self.has_teacher = has_teacher
        self.is_labelled = is_labelled
        self.teacher = _constant(teacher)
        self.node_weights = _constant(node_weights)
        self.student_log_probs = student_log_probs
        self.teacher_log_probs = _constant(teacher_log_probs)
        self.hypothesis_mask = hypothesis_mask
        self.hypothesis_lengths = hypothesis_lengths
        self.student_hidden = student_hidden
        self.teacher_hidden = _constant(teacher_hidden)
        self.hidden_projection = hidden_projection
        self.second_mode = second_mode
        self.student_joint = student_joint
        self.teacher_joint = teacher_joint  # the losses hold it constant
        self.teacher_top_k = _constant(teacher_top_k)
        self.band = band
        self._teacher_log_prob = _constant(teacher_log_prob)

    @property
    def teacher_log_prob(self) -> tf.Tensor | None:
        return self.teacher_path_log_prob if self._teacher_log_prob is None else self._teacher_log_prob

    @property
    def teacher_path_log_prob(self) -> tf.Tensor | None:
        return None if self.teacher is None else self._teacher_sums[0]

    @property
    def teacher_occupancies(self) -> lattice.Occupancies | None:
        return None if self.teacher is None else self._teacher_sums[1]

    @property
    def student_log_prob(self) -> tf.Tensor:
        return self._student_sums[0]

    @property
    def student_occupancies(self) -> lattice.Occupancies:
        return self._student_sums[1]

    @functools.cached_property
    def _student_sums(self):
        return self._sums(self.student)

    @functools.cached_property
    def _teacher_sums(self):
        return _constant(self._sums(self.teacher))

    def _sums(self, nodes):
        return lattice.forward_backward(nodes, logit_lengths=self.logit_lengths, label_lengths=self.label_lengths)


def _constant(structure):
    return None if structure is None else tf.nest.map_structure(tf.stop_gradient, structure)
