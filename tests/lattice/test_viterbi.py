"""The best alignment against the best of all enumerated ones."""

import numpy as np
import tensorflow as tf
from lattice_batches import ragged_batch
from lattice_brute_force import path_log_probs

from tf_rnnt_kd import lattice


def test_best_path_against_enumeration():
    sizes = tuple((t, u) for t in range(1, 5) for u in range(4))
    for seed in range(3):
        batch = ragged_batch(seed, sizes=sizes, dtype=np.float64)
        nodes = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
        best = lattice.viterbi(nodes, **batch.lengths)
        for i, (frames, labels) in enumerate(sizes):
            blank, label = (x[i, :frames, : labels + 1].numpy() for x in (nodes.blank, nodes.label))
            paths, scores = path_log_probs(blank, label)
            path = paths[np.argmax(scores)]
            np.testing.assert_allclose(best.log_prob[i], scores.max(), rtol=1e-12)
            emitted = [t for kind, t, _ in path if kind == "label"]
            assert list(best.token_frames[i].numpy()) == emitted + [-1] * (3 - labels)
            assert {tuple(node) for node in np.argwhere(best.nodes[i])} == {(t, u) for _, t, u in path}


def test_ties_emit_early_and_impossible_paths_are_flagged():
    flat = np.full((2, 3, 3), np.log(0.5), np.float32)
    label = flat.copy()
    label[1, :, 0] = -np.inf
    nodes = lattice.NodeLogProbs(flat, label, np.full_like(flat, -np.inf))
    best = lattice.viterbi(nodes, logit_lengths=[3, 3], label_lengths=[2, 2])
    np.testing.assert_array_equal(best.token_frames, [[0, 0], [-1, -1]])
    np.testing.assert_array_equal(np.isneginf(best.log_prob), [False, True])
    assert np.sum(best.nodes[0]) == 5 and not np.any(best.nodes[1])


def test_padding_changes_nothing_and_xla_agrees():
    batch = ragged_batch(4)
    nodes = lattice.node_log_probs_from_logits(batch.logits, labels=batch.labels, **batch.lengths)
    best = lattice.viterbi(nodes, **batch.lengths)
    padded = lattice.NodeLogProbs(*(tf.pad(x, [[0, 0], [0, 2], [0, 3]], constant_values=float("nan")) for x in nodes))
    compiled = tf.function(lambda n: lattice.viterbi(n, **batch.lengths), jit_compile=True, autograph=False)
    for other in (lattice.viterbi(padded, **batch.lengths), compiled(padded)):
        np.testing.assert_array_equal(best.log_prob, other.log_prob)
        np.testing.assert_array_equal(best.token_frames, other.token_frames[:, :-3])
        np.testing.assert_array_equal(other.token_frames[:, -3:], -1)
        np.testing.assert_array_equal(best.nodes, other.nodes[:, :-2, :-3])
        assert not np.any(other.nodes[:, -2:]) and not np.any(other.nodes[:, :, -3:])
