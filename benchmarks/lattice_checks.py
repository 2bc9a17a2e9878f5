"""How exact the rows of the lattice benchmark are."""

import inspect

import numpy as np
import tensorflow as tf

from benchmarks import lattice_calls, lattice_inputs
from benchmarks import lattice_exact as exact
from benchmarks.lattice_rows import PRUNED_WIDTH, ROWS
from tf_rnnt_kd import lattice, losses

LIVE = 1e-8
"""Posterior above which a node counts as live in the figures that are printed."""


def exact_gradients(name, found):
    """Float64 gradients (encoder, predictor, kernel, bias) of a row, and the share of existing nodes that are live.

    Args:
      name: key of ROWS, of family 'nodes', 'soft' or 'top_k'.
      found: Problem.
    """
    row, student, teacher = ROWS[name], found.student, found.teacher
    live = 0.0
    if row.family == "nodes":
        nodes = exact.node_log_probs(student)
        sums = exact.sums(nodes, student)
        live = float(np.sum(sums.blank + sums.label > LIVE)) / student.num_nodes
        teacher_nodes = exact.node_log_probs(teacher) if teacher else None
        teacher_sums = exact.sums(teacher_nodes, teacher) if teacher else None
        parts = [UPSTREAM[term](sums, teacher_nodes, teacher_sums) for term in row.terms]
        to_logits = exact.from_nodes(exact.Nodes(*(sum(x) for x in zip(*parts, strict=True))))
    elif row.family == "soft":
        to_logits = exact.from_distribution(teacher)
    else:
        to_logits = exact.from_top_k(*lattice_calls.teacher_top_k(teacher))
    return exact.gradients(student, to_logits), live


def given_logits_error(name, shape, found):
    """As lattice_exact.given_logits_error for a row of family 'logits'; found: gradient [B, T, U+1, V]."""
    logits = lattice_inputs.dense_logits(shape, peaked=ROWS[name].peaked)
    return exact.given_logits_error(logits, lattice_inputs.batch(shape), found)


def pruned_distance(name, shape, *, mode="graph"):
    """How far a pruned row is from the exact loss, band from the occupancies of the student's own exact lattice.

    Returns:
      {'loss': largest relative difference of an utterance's value, 'gradient': Euclidean norm of the difference of all
      gradients over that of the exact ones, 'cosine': of the two gradients}.
    """
    row = ROWS[name]
    found = lattice_calls.problem(name, shape, mode=mode)
    student, teacher = found.student, found.teacher
    lengths = {key: tf.constant(x) for key, x in student.lengths.items()}
    tensors = tuple(tf.constant(x) for x in student.joint)
    nodes = lattice.node_log_probs(*tensors, labels=student.labels, **lengths)
    band = lattice.pruning_band(lattice.occupancies(nodes, **lengths), width=PRUNED_WIDTH, **lengths)
    results = []
    for here in (band, None):

        def loss(tensors, batch, constants, band=here):
            lengths = lattice_calls.lengths_of(batch)
            if row.family == "pruned_rnnt":
                return losses.rnnt(lattice.node_log_probs(*tensors, **batch, band=band), **lengths)
            return losses.soft(constants, lattice.Joint(*tensors), **lengths, band=band)

        batch = {"labels": tf.constant(student.labels), **lengths}
        constants = (batch, lattice.Joint(*(tf.constant(x) for x in teacher.joint)))
        values, gradients = lattice_calls.program(loss, tensors, constants, mode)()
        flat = np.concatenate([np.ravel(x).astype(np.float64) for x in gradients])
        results.append((values.numpy().astype(np.float64), flat))
    (pruned, pruned_gradient), (whole, gradient) = results
    product = np.linalg.norm(pruned_gradient) * np.linalg.norm(gradient)
    return {
        "loss": float(np.max(np.abs(pruned - whole) / np.maximum(np.abs(whole), 1e-9))),
        "gradient": float(np.linalg.norm(pruned_gradient - gradient) / np.linalg.norm(gradient)),
        "cosine": float(pruned_gradient @ gradient / product),
    }


def _exact_rnnt(sums, teacher_nodes, teacher_sums):
    return exact.Nodes(-sums.blank, -sums.label, np.zeros_like(sums.blank))


def _exact_collapsed(sums, teacher_nodes, teacher_sums):
    return exact.Nodes(*(-np.exp(x) for x in teacher_nodes))


def _exact_masked(sums, teacher_nodes, teacher_sums):
    threshold = inspect.signature(losses.node_masked).parameters["threshold"].default
    live = teacher_sums.blank + teacher_sums.label > threshold
    return exact.Nodes(*(-np.exp(x) * live for x in teacher_nodes))


def _exact_alignment(sums, teacher_nodes, teacher_sums):
    difference = (getattr(sums, arc) - getattr(teacher_sums, arc) for arc in ("blank", "label"))
    return exact.Nodes(*difference, np.zeros_like(sums.blank))


UPSTREAM = {  # of each term: its gradient with respect to the student's nodes
    "rnnt": _exact_rnnt,
    "collapsed": _exact_collapsed,
    "node_masked": _exact_masked,
    "alignment_kl": _exact_alignment,
}
