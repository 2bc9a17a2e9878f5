"""All losses by name, one uniform signature for all.

A loss is a plain function; the parameters whose names are in `LossInputs.NAMES` are filled from there (those without a
default are what the loss needs), all others are its options; it returns [B]. To add a loss, write such a function in a
file of its own and add one line to the table at the end of this file. Weighted sums: losses/objective.py.
"""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd.losses.alignment import alignment_cross_entropy, alignment_kl, alignment_kl_semiring
from tf_rnnt_kd.losses.alignment_entropy import alignment_entropy
from tf_rnnt_kd.losses.best_path import best_path
from tf_rnnt_kd.losses.best_shift import best_shift
from tf_rnnt_kd.losses.collapsed import collapsed
from tf_rnnt_kd.losses.consistency import symmetric_consistency
from tf_rnnt_kd.losses.full_sum import full_sum
from tf_rnnt_kd.losses.hidden import hidden, layer_of
from tf_rnnt_kd.losses.inputs import LossInputs
from tf_rnnt_kd.losses.n_best import full_sum_n_best, hard_n_best
from tf_rnnt_kd.losses.node_masked import node_masked
from tf_rnnt_kd.losses.occupancy_weighted import occupancy_weighted
from tf_rnnt_kd.losses.rnnt import rnnt
from tf_rnnt_kd.losses.sequence_discriminative import sequence_margin, sequence_posterior
from tf_rnnt_kd.losses.soft import soft
from tf_rnnt_kd.losses.top_k import peak_alignment, top_k
from tf_rnnt_kd.losses.weighting import teacher_weights
from tf_rnnt_kd.losses.window_min import window_min

RESERVED = ("weight", "loss", "on", "adaptive")
"""Keys of a term in a config that are no options of its loss, see losses/objective.py."""


class Loss(NamedTuple):
    """A registered loss.

    name: its name in configs.
    help: one line.
    function: the function, see the module's docstring.
    needs: names in LossInputs.NAMES that must be there.
    uses: these and the optional ones.
    options: {option: default}.
    """

    name: str
    help: str
    function: Callable[..., tf.Tensor]
    needs: tuple
    uses: tuple
    options: dict

    def __call__(self, inputs, **options):
        """[B] of these LossInputs; 0 for utterances without a teacher where the loss asks for one."""
        self.check_options(options)
        given = {name: getattr(inputs, name) for name in self.uses}
        missing = [name for name in self.needs if given[name] is None]
        if missing:
            raise ValueError(
                f"the loss {self.name!r} needs {', '.join(missing)}: give them to LossInputs, or drop the loss"
            )
        value = self.function(**given, **options)
        if inputs.has_teacher is None or not any(name.startswith("teacher") for name in self.uses):
            return value
        # Without a teacher there is nothing to learn; what the loss made of its empty tensors may be infinite.
        return tf.where(inputs.has_teacher > 0, value, tf.zeros([], value.dtype))

    def check_options(self, options):
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise ValueError(
                f"the loss {self.name!r} has no option {', '.join(unknown)}; it has "
                f"{', '.join(sorted(self.options)) or 'none'}, beside {', '.join(RESERVED)}"
            )


def names() -> list[str]:
    """Registered names, sorted."""
    return sorted(_REGISTRY)


def get(name: str) -> Loss:
    """The registered Loss; ValueError with the known names for any other."""
    if name not in _REGISTRY:
        raise ValueError(f"no loss is called {name!r}; registered are {', '.join(names())}")
    return _REGISTRY[name]


def describe() -> str:
    """One line per loss: name, help, options with their defaults."""
    lines = []
    for name in names():
        loss = _REGISTRY[name]
        options = ", ".join(f"{key}={value!r}" for key, value in loss.options.items())
        lines.append(f"{name}: {loss.help}" + (f" [{options}]" if options else ""))
    return "\n".join(lines)


def _register(name, function, help_line):
    parameters = inspect.signature(function).parameters
    uses = tuple(key for key in parameters if key in LossInputs.NAMES)
    needs = tuple(key for key in uses if parameters[key].default is inspect.Parameter.empty)
    options = {key: value.default for key, value in parameters.items() if key not in uses}
    _REGISTRY[name] = Loss(name, help_line, function, needs, uses, options)


def _rnnt(student, student_log_prob, *, logit_lengths, label_lengths, fastemit_lambda=0.0):
    if not fastemit_lambda:
        return -student_log_prob  # shared with the other losses that use it
    return rnnt(student, logit_lengths=logit_lengths, label_lengths=label_lengths, fastemit_lambda=fastemit_lambda)


def _hidden(
    teacher_hidden,
    student_hidden,
    *,
    logit_lengths,
    hidden_projection=None,
    distance="mse",
    shift=0,
    reduction_over_frames="mean",
    layer=None,
):
    return hidden(
        layer_of(teacher_hidden, layer, "teacher_hidden"),
        layer_of(student_hidden, layer, "student_hidden"),
        logit_lengths=logit_lengths,
        projection=layer_of(hidden_projection, layer, "hidden_projection"),
        distance=distance,
        shift=shift,
        reduction_over_frames=reduction_over_frames,
    )


def _symmetric_consistency(
    student, second_mode, *, logit_lengths, label_lengths, shift=0, reduction_over_nodes="sum"
):
    # Without node_weights, which say where the teacher counts: there is none here.
    options = {"shift": shift, "reduction_over_nodes": reduction_over_nodes}
    return symmetric_consistency(
        student, second_mode, logit_lengths=logit_lengths, label_lengths=label_lengths, **options
    )


def _over_joints(loss):
    """The loss with the option to weigh nodes by what the teacher's lattice says of them."""

    @functools.wraps(loss)
    def weighed(
        *args,
        logit_lengths,
        label_lengths,
        teacher=None,
        teacher_occupancies=None,
        node_weights=None,
        weigh_by=None,
        threshold=1e-3,
        **kwargs,
    ):
        lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
        if weigh_by is not None:
            if teacher is None:
                raise ValueError(f"weigh_by={weigh_by!r} needs the teacher's nodes: give `teacher` to LossInputs")
            node_weights = teacher_weights(
                teacher,
                weigh_by,
                threshold=threshold,
                teacher_occupancies=teacher_occupancies,
                node_weights=node_weights,
                **lengths,
            )
        return loss(*args, node_weights=node_weights, **lengths, **kwargs)

    own = [x for x in inspect.signature(weighed, follow_wrapped=False).parameters.values() if x.kind == x.KEYWORD_ONLY]
    of_loss = inspect.signature(loss).parameters
    weighed.__signature__ = inspect.Signature([*of_loss.values(), *(x for x in own if x.name not in of_loss)])
    return weighed


_REGISTRY: dict[str, Loss] = {}
_register("rnnt", _rnnt, "-log P(y|x) over all alignments, FastEmit optional")
_register("collapsed", collapsed, "three-way KL (blank, label, rest) of every node, teacher to student")
_register("occupancy_weighted", occupancy_weighted, "collapsed, each node weighted by the teacher's posterior of it")
_register("node_masked", node_masked, "collapsed on the nodes that the teacher's alignments use")
_register("best_path", best_path, "collapsed on the nodes of the teacher's best alignment")
_register("window_min", window_min, "collapsed, the best of several time shifts at each node")
_register("best_shift", best_shift, "collapsed, the best of several time shifts of the whole utterance")
_register("alignment_kl", alignment_kl, "KL between the posteriors over alignments")
_register("alignment_kl_semiring", alignment_kl_semiring, "the same without normalisation, weighted by P_T(y|x)")
_register("alignment_cross_entropy", alignment_cross_entropy, "student's arc costs under the teacher's occupancies")
_register("alignment_entropy", alignment_entropy, "entropy of the student's alignments; a negative weight raises it")
_register("full_sum", full_sum, "distance between the two models' log P(y|x)")
_register("hard_n_best", hard_n_best, "-log P(y|x) of N hypotheses, weighted by the teacher's scores")
_register("full_sum_n_best", full_sum_n_best, "full_sum of N hypotheses, weighted by the teacher's scores")
_register("sequence_posterior", sequence_posterior, "KL between the two models' posteriors over N hypotheses")
_register("sequence_margin", sequence_margin, "distance between the two models' log posterior of the first of N")
_register("hidden", _hidden, "distance between the two models' hidden representations, frame by frame")
_register("symmetric_consistency", _symmetric_consistency, "collapsed in both directions between two modes of a model")
_register("soft", _over_joints(soft), "KL over all symbols of every node, from joint to joint")
_register("top_k", _over_joints(top_k), "KL over the teacher's K best symbols of every node and the rest")
_register("peak_alignment", _over_joints(peak_alignment), "-log P of the teacher's most probable symbol of every node")
