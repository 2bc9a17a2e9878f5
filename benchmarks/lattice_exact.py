"""Gradients in float64 NumPy, written from the definitions: what the benchmark's errors are measured against.

Shares no code with tf_rnnt_kd.lattice. The lattice is made densely, some frames of one utterance at a time.
"""

from typing import NamedTuple

import numpy as np

_SLICE_NUMBERS = 2**22


class Nodes(NamedTuple):
    """Log-probabilities [B, T, U+1] float64; -inf where there is no arc, and in padding."""

    blank: np.ndarray
    label: np.ndarray
    rest: np.ndarray


class Sums(NamedTuple):
    """log P(y|x) [B], and the posterior [B, T, U+1] of each blank and label arc."""

    log_prob: np.ndarray
    blank: np.ndarray
    label: np.ndarray


def node_log_probs(batch, dtype=np.float64):
    """Nodes of a lattice_inputs.Batch, computed in `dtype`."""
    shape = (batch.encoder.shape[0], batch.encoder.shape[1], batch.predictor.shape[1])
    nodes = Nodes(*(np.full(shape, -np.inf, dtype) for _ in range(3)))
    for index, _, _, log_probs, symbols in _slices(batch, dtype):
        for values, x in zip(nodes, _collapse(log_probs, symbols), strict=True):
            values[index] = x
    return nodes


def sums(nodes, batch):
    """Forward-backward, one anti-diagonal of one utterance at a time."""
    result = Sums(np.zeros(len(nodes.blank)), *(np.zeros(nodes.blank.shape) for _ in range(2)))
    for b, (frames, labels) in enumerate(zip(batch.logit_lengths, batch.label_lengths, strict=True)):
        blank, label = (x[b, :frames, : labels + 1] for x in (nodes.blank, nodes.label))
        alpha, beta = _alpha(blank, label), _beta(blank, label)
        result.log_prob[b] = beta[0, 0]
        result.blank[b, :frames, : labels + 1] = np.exp(alpha + blank + beta[1:, :-1] - beta[0, 0])
        result.label[b, :frames, : labels + 1] = np.exp(alpha + label + beta[:-1, 1:] - beta[0, 0])
    return result


def gradients(batch, to_logits):
    """Gradients of a sum over nodes with respect to (encoder, predictor, kernel, bias), float64.

    Args:
      batch: Batch.
      to_logits: function (index of [B, T, U+1], log_probs [t, U_b+1, V], symbols [U_b+1]) -> gradient with respect to
        the logits; see `from_nodes` and `from_distribution`.
    """
    result = tuple(np.zeros(x.shape) for x in batch.joint)
    to_encoder, to_predictor, to_kernel, to_bias = result
    kernel = batch.kernel.astype(np.float64)
    for index, hidden, _, log_probs, symbols in _slices(batch):
        gradient = to_logits(index, log_probs, symbols)
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
        to_kernel += rows.T @ flat
        to_bias += flat.sum(0)
        to_sum = (flat @ kernel.T * (1.0 - rows * rows)).reshape(hidden.shape)
        to_encoder[index[:2]] += to_sum.sum(1)
        to_predictor[index[0], index[2]] += to_sum.sum(0)
    return result


def from_nodes(upstream):
    """`to_logits` of a loss over nodes, given its gradient with respect to them: Nodes [B, T, U+1]."""

    def to_logits(index, log_probs, symbols):
        to_blank, to_label, to_rest = (x[index][..., None] for x in upstream)
        positions = np.arange(len(symbols))
        has_label = symbols > 0
        rest = _collapse(log_probs, symbols)[2]
        gradient = to_rest * np.exp(log_probs - rest[..., None])
        gradient[..., 0] = to_blank[..., 0]
        gradient[:, positions[has_label], symbols[has_label]] = to_label[:, has_label, 0]
        total = to_blank + to_rest + np.where(has_label[:, None], to_label, 0.0)
        return gradient - total * np.exp(log_probs)

    return to_logits


def from_distribution(teacher, node_weights=None):
    """`to_logits` of the K-way KL to another Batch over the same labels: student's probabilities less teacher's."""
    slices = _slices(teacher)

    def to_logits(index, log_probs, symbols):
        del symbols
        teacher_index, *_, teacher_log_probs, _ = next(slices)
        if teacher_index != index:
            raise ValueError(f"teacher and student were cut differently: {teacher_index} and {index}")
        gradient = np.exp(log_probs) - np.exp(teacher_log_probs)
        return gradient if node_weights is None else gradient * node_weights[index][..., None]

    return to_logits


def top_k(batch, k):
    """(symbols, log_probs [B, T, U+1, k] of the k best symbols of each node, [B, T, U+1] log mass of the others).

    int32, float32, float32; computed in float32. k < V.
    """
    shape = (batch.encoder.shape[0], batch.encoder.shape[1], batch.predictor.shape[1], k)
    symbols, values = np.zeros(shape, np.int32), np.full(shape, -np.inf, np.float32)
    rest = np.full(shape[:3], -np.inf, np.float32)
    for index, _, _, log_probs, _ in _slices(batch, np.float32):
        best = np.argpartition(-log_probs, k - 1, axis=-1)[..., :k]
        found = np.take_along_axis(log_probs, best, -1)
        order = np.argsort(-found, axis=-1)
        symbols[index] = np.take_along_axis(best, order, -1)
        values[index] = np.take_along_axis(found, order, -1)
        others = log_probs.copy()
        np.put_along_axis(others, best, -np.inf, -1)
        rest[index] = np.log(np.exp(others).sum(-1))
    return symbols, values, rest


def from_top_k(symbols, values, rest):
    """`to_logits` of the KL over a teacher's k best symbols and the rest as one bucket."""

    def to_logits(index, log_probs, labels):
        del labels
        chosen, teacher = symbols[index], np.exp(values[index].astype(np.float64))
        target = np.exp(log_probs)
        np.put_along_axis(target, chosen, 0.0, -1)
        others = np.exp(rest[index].astype(np.float64))[..., None]
        target *= others / target.sum(-1, keepdims=True)
        np.put_along_axis(target, chosen, teacher, -1)
        return np.exp(log_probs) * target.sum(-1, keepdims=True) - target

    return to_logits


def relative_error(found, exact):
    """Largest over the tensors of: largest absolute difference / largest absolute entry of the exact one."""
    errors = []
    for x, y in zip(found, exact, strict=True):
        size = np.max(np.abs(y))
        difference = np.max(np.abs(np.asarray(x, np.float64) - y))
        errors.append(difference / size if size else difference)
    return float(max(errors))


def given_logits_error(logits, batch, found):
    """relative_error of the RNN-T gradient with respect to dense logits, with one utterance in float64 at a time."""
    largest = difference = 0.0
    for b, (frames, labels) in enumerate(zip(batch.logit_lengths, batch.label_lengths, strict=True)):
        symbols = _arc_symbols(batch, b)
        log_probs = _log_softmax(logits[b, :frames, : labels + 1].astype(np.float64))
        nodes = Nodes(*(x[None] for x in _collapse(log_probs, symbols)))
        one = batch._replace(logit_lengths=[frames], label_lengths=[labels])
        used = sums(nodes, one)
        upstream = Nodes(-used.blank[0], -used.label[0], np.zeros_like(used.blank[0]))
        gradient = from_nodes(upstream)((slice(None), slice(None)), log_probs, symbols)
        largest = max(largest, np.max(np.abs(gradient)))
        difference = max(difference, np.max(np.abs(found[b, :frames, : labels + 1] - gradient)))
    return float(difference / largest)


def _log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def _arc_symbols(batch, b):
    """[U_b+1]: the symbol of the label arc at each position; -1 at the last, where there is none."""
    return np.append(batch.labels[b, : batch.label_lengths[b]], -1)


def _slices(batch, dtype=np.float64):
    """Yields (index of [B, T, U+1], hidden, logits, log_probs, symbols), some frames at a time."""
    encoder, predictor, kernel, bias = (x.astype(dtype) for x in batch.joint)
    per_frame = predictor.shape[1] * max(kernel.shape)
    step = max(1, _SLICE_NUMBERS // per_frame)
    for b, (frames, labels) in enumerate(zip(batch.logit_lengths, batch.label_lengths, strict=True)):
        symbols = _arc_symbols(batch, b)
        for start in range(0, frames, step):
            index = (b, slice(start, min(start + step, int(frames))), slice(0, int(labels) + 1))
            hidden = np.tanh(encoder[index[:2]][:, None] + predictor[b, index[2]][None])
            logits = hidden @ kernel + bias
            yield index, hidden, logits, _log_softmax(logits), symbols


def _collapse(log_probs, symbols):
    """(blank, label, rest) [t, U+1]; the label is -inf where there is none."""
    positions, has_label = np.arange(len(symbols)), symbols > 0
    label = np.where(has_label, log_probs[:, positions, symbols], -np.inf)
    others = log_probs.copy()
    others[..., 0] = -np.inf
    others[:, positions[has_label], symbols[has_label]] = -np.inf
    peak = others.max(-1, keepdims=True)
    return log_probs[..., 0], label, peak[..., 0] + np.log(np.exp(others - peak).sum(-1))


def _alpha(blank, label):
    """[T, U+1]: log weight of all paths from (0, 0)."""
    frames, positions = blank.shape
    alpha = np.full((frames, positions), -np.inf)
    alpha[0, 0] = 0.0
    for t, u in _diagonals(frames, positions):
        if t[0] + u[0]:
            by_blank = np.where(t > 0, alpha[t - 1, u] + blank[t - 1, u], -np.inf)
            by_label = np.where(u > 0, alpha[t, u - 1] + label[t, u - 1], -np.inf)
            alpha[t, u] = np.logaddexp(by_blank, by_label)
    return alpha


def _beta(blank, label):
    """[T+1, U+2]: log weight of all paths from (t, u) to the end (T, U); -inf in the last row and column otherwise."""
    frames, positions = blank.shape
    beta = np.full((frames + 1, positions + 1), -np.inf)
    beta[frames, positions - 1] = 0.0
    for t, u in reversed(list(_diagonals(frames, positions))):
        beta[t, u] = np.logaddexp(beta[t + 1, u] + blank[t, u], beta[t, u + 1] + label[t, u])
    return beta


def _diagonals(frames, positions):
    for d in range(frames + positions - 1):
        u = np.arange(max(0, d - frames + 1), min(d, positions - 1) + 1)
        yield d - u, u
