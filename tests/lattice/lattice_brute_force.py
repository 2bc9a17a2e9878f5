"""Lattices small enough to walk every alignment, in numpy float64: what all lattice code is compared with."""

import itertools

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    peak = logits.max(axis=-1, keepdims=True)
    return logits - peak - np.log(np.exp(logits - peak).sum(axis=-1, keepdims=True))


def alignments(num_frames, num_labels):
    """Every alignment as a list of arcs ('blank' | 'label', t, u), the final blank included."""
    steps = num_frames - 1 + num_labels
    for at in itertools.combinations(range(steps), num_labels):
        t, u, arcs = 0, 0, []
        for step in range(steps):
            if step in at:
                arcs.append(("label", t, u))
                u += 1
            else:
                arcs.append(("blank", t, u))
                t += 1
        yield [*arcs, ("blank", t, u)]


def node_log_probs(logits, labels, blank_index=0):
    """[T, U+1, V] logits of one utterance -> blank, label, rest [T, U+1] float64 (-inf where there is no label)."""
    log_probs = log_softmax(logits)
    num_positions, num_symbols = log_probs.shape[1:]
    blank = log_probs[:, :, blank_index]
    label, rest = np.full_like(blank, -np.inf), np.full_like(blank, -np.inf)
    for u in range(num_positions):
        others = [k for k in range(num_symbols) if k != blank_index % num_symbols]
        if u < num_positions - 1:
            label[:, u] = log_probs[:, u, labels[u]]
            others.remove(labels[u])
        if others:
            rest[:, u] = np.logaddexp.reduce(log_probs[:, u, others], axis=-1)
    return blank, label, rest


def path_log_probs(blank, label):
    """(list of alignments, their log-probabilities [paths]) of arc log-probabilities [T, U+1]."""
    paths = list(alignments(blank.shape[0], blank.shape[1] - 1))
    tables = {"blank": blank, "label": label}
    return paths, np.array([sum(tables[kind][t, u] for kind, t, u in path) for path in paths])


def full_sum(blank, label):
    return np.logaddexp.reduce(path_log_probs(blank, label)[1])


def occupancies(blank, label):
    """Arc posteriors [T, U+1] of blank and label arcs."""
    paths, scores = path_log_probs(blank, label)
    posteriors = np.exp(scores - np.logaddexp.reduce(scores))
    used = {"blank": np.zeros_like(blank), "label": np.zeros_like(blank)}
    for path, posterior in zip(paths, posteriors, strict=True):
        for kind, t, u in path:
            used[kind][t, u] += posterior
    return used["blank"], used["label"]


def loss_of_logits(logits, labels, blank_index=0):
    """-log P(y|x) of one utterance's [T, U+1, V] logits."""
    return -full_sum(*node_log_probs(logits, labels, blank_index)[:2])


def numeric_gradient(function, x, step=1e-6):
    """Central differences of a scalar function of a float64 array."""
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        kept = x[index]
        x[index] = kept + step
        above = function(x)
        x[index] = kept - step
        below = function(x)
        x[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient
