"""What the rows of the lattice benchmark call, and the yardsticks.

A row is a call that gives values [B] and gradients with respect to encoder, predictor, kernel and bias. Node losses are
put together by losses.Objective, as a training step does it. Everything a teacher gives is there before the clock runs.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks import lattice_exact as exact
from benchmarks import lattice_inputs
from benchmarks.lattice_rows import PRUNED_WIDTH, ROWS, TOP_K
from tf_rnnt_kd import lattice, losses

FLOOR_ROWS = (1024, 4096, 16384, None)
"""Ways to cut the floor's products, None not at all; the fastest counts."""


class Problem(NamedTuple):
    """A row at a shape, ready to call.

    call: () -> (values [B], gradients as a tuple of tensors).
    student: lattice_inputs.Batch; None for given logits.
    teacher: lattice_inputs.Batch or None.
    num_nodes: that exist.
    """

    call: object
    student: object
    teacher: object
    num_nodes: int


def problem(name, shape, *, mode="graph", corner_of=None, **options):
    """
    Args:
      name: key of ROWS.
      shape: lattice_inputs.Shape.
      corner_of: a Shape, of whose lattices a corner of `shape` is taken: sizes of one series share utterances and
        joint. Rows without a teacher only.
      mode: 'graph' (a tf.function), 'xla' (compiled as a whole, as on a GPU or TPU) or 'eager'.
      **options: further arguments of the function that makes the nodes (rows of family 'nodes').

    Returns:
      Problem.
    """
    row = ROWS[name]
    if row.family == "logits":
        return _given_logits(row, shape, mode)
    student = lattice_inputs.batch(corner_of or shape, peaked=row.peaked, ragged=row.ragged)
    student = student.corner(shape) if corner_of else student
    teacher = None
    if row.has_teacher:
        peaked = row.peaked or row.trained_teacher
        other = lattice_inputs.batch(shape, peaked=peaked, ragged=row.ragged, seed=1)
        teacher = lattice_inputs.teacher_of(student) if row.near_teacher else student._replace(
            encoder=other.encoder, predictor=other.predictor, kernel=other.kernel, bias=other.bias
        )  # fmt: skip
    loss, constants, extra = _FAMILIES[row.family](row, student, teacher, options)
    tensors = tuple(tf.constant(x) for x in (*student.joint, *extra))
    batch = {"labels": student.labels, **student.lengths}
    # A Joint's settings stay as they are.
    constants = tf.nest.map_structure(
        lambda x: x if isinstance(x, str | bool | int) else tf.constant(x), (batch, constants)
    )
    return Problem(program(loss, tensors, constants, mode), student, teacher, student.num_nodes)


def forward_only(name, shape, *, mode="graph"):
    """call() of the RNN-T values of a 'nodes' row, without gradients."""
    student = lattice_inputs.batch(shape, peaked=ROWS[name].peaked)
    tensors = tuple(tf.constant(x) for x in student.joint)
    batch = {key: tf.constant(x) for key, x in {"labels": student.labels, **student.lengths}.items()}

    def forward(tensors, batch):
        return losses.rnnt(lattice.node_log_probs(*tensors, **batch), **lengths_of(batch))

    function = forward if mode == "eager" else tf.function(forward, autograph=False, jit_compile=mode == "xla")
    return lambda: function(tensors, batch)


def floor(shape, *, rows=None, teacher=False):
    """call() of the matrix products that any exact loss of a joint must make, and of nothing else.

    Per node's row: hidden x kernel, gradient x kernel transposed, hidden transposed x gradient; with `teacher` also its
    hidden x kernel. Of random numbers, `rows` rows at a time (None: all at once), the same rows again and again, so
    that nothing but the products costs time or memory.
    """
    rows = min(rows or shape.nodes, shape.nodes)
    hidden, to_logits = (tf.random.stateless_normal([rows, n], (0, 0)) for n in (shape.width, shape.symbols))
    kernel, teacher_kernel = (tf.random.stateless_normal([shape.width, shape.symbols], (0, i)) for i in (1, 2))
    whole, remainder = divmod(shape.nodes, rows)
    slices = [(hidden, to_logits)] * whole + ([(hidden[:remainder], to_logits[:remainder])] if remainder else [])

    def call():
        to_kernel = tf.zeros_like(kernel)
        for left, right in slices:
            tf.matmul(left, kernel)
            if teacher:
                tf.matmul(left, teacher_kernel)
            tf.matmul(right, kernel, transpose_b=True)
            to_kernel += tf.matmul(left, right, transpose_a=True)
        return to_kernel

    return call


def copy(shape):
    """call() of a copy of dense logits to memory fresh from the system, where a gradient goes too."""
    logits = lattice_inputs.dense_logits(shape)
    return lambda: np.copy(logits)


def program(loss, tensors, constants, mode):
    def step(tensors, constants):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            values = loss(tensors, *constants)
        return values, tape.gradient(values, tensors)

    function = step if mode == "eager" else tf.function(step, autograph=False, jit_compile=mode == "xla")
    return lambda: function(tensors, constants)


def _given_logits(row, shape, mode):
    logits = lattice_inputs.dense_logits(shape, peaked=row.peaked)
    batch = lattice_inputs.batch(shape)
    arguments = {key: tf.constant(x) for key, x in {"labels": batch.labels, **batch.lengths}.items()}

    def loss(tensors, batch):
        return losses.rnnt_loss(*tensors, **batch)

    call = program(loss, (tf.constant(logits),), (arguments,), mode)
    return Problem(call, None, None, batch.num_nodes)


def _node_losses(row, student, teacher, options):
    objective = losses.Objective({term: {} for term in row.terms})
    nodes = lattice.NodeLogProbs(*exact.node_log_probs(teacher, np.float32)) if teacher else ()

    def loss(tensors, batch, nodes):
        inputs = losses.LossInputs(
            lattice.node_log_probs(*tensors, **batch, **options), teacher=nodes or None, **lengths_of(batch)
        )
        return objective(inputs)[0]

    return loss, nodes, ()


def _soft(row, student, teacher, options):
    def loss(tensors, batch, teacher):
        return losses.soft(teacher, lattice.Joint(*tensors), **lengths_of(batch))

    return loss, lattice.Joint(*teacher.joint), ()


def _top_k(row, student, teacher, options):
    def loss(tensors, batch, teacher):
        return losses.top_k(teacher, lattice.Joint(*tensors), **lengths_of(batch))

    return loss, lattice.TopK(*teacher_top_k(teacher)), ()


def teacher_top_k(teacher):
    return exact.top_k(teacher, min(TOP_K, teacher.bias.size - 1))


def _pruned_rnnt(row, student, teacher, options):
    """The simple joiner's loss and the pruned one, weighted as published; its two projections are trained as well."""
    rng = np.random.default_rng(2)
    simple = [rng.standard_normal(student.kernel.shape, dtype=np.float32) / student.kernel.shape[0] for _ in range(2)]

    def loss(tensors, batch, _):
        lengths = lengths_of(batch)
        *joint, to_am, to_lm = tensors
        simple = lattice.simple_nodes(joint[0] @ to_am, joint[1] @ to_lm, lm_only_scale=0.25, **batch)
        log_prob, occupancies = lattice.forward_backward(simple, **lengths)
        band = lattice.pruning_band(occupancies, width=PRUNED_WIDTH, **lengths)
        nodes = lattice.node_log_probs(*joint, **batch, band=band)
        return losses.pruned_rnnt(simple, nodes, simple_log_prob=log_prob, **lengths)

    return loss, (), simple


def _pruned_soft(row, student, teacher, options):
    lengths = student.lengths
    nodes = lattice.NodeLogProbs(*(tf.constant(x) for x in exact.node_log_probs(teacher, np.float32)))
    band = lattice.pruning_band(lattice.occupancies(nodes, **lengths), width=PRUNED_WIDTH, **lengths)

    def loss(tensors, batch, constants):
        teacher, first = constants
        band = lattice.Band(first, PRUNED_WIDTH)
        return losses.soft(teacher, lattice.Joint(*tensors), **lengths_of(batch), band=band)

    return loss, (lattice.Joint(*teacher.joint), band.first.numpy()), ()


def lengths_of(batch):
    return {key: batch[key] for key in ("logit_lengths", "label_lengths")}


_FAMILIES = {
    "nodes": _node_losses,
    "soft": _soft,
    "top_k": _top_k,
    "pruned_rnnt": _pruned_rnnt,
    "pruned_soft": _pruned_soft,
}
