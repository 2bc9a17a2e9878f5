"""The (t, u) grid of an RNN-T: node log-probabilities, sums over alignments, the best alignment. TensorFlow only.

Blank is one of the V symbols; at node (t, u) blank leads to (t+1, u) and the label y_{u+1} to (t, u+1); an alignment
runs from (0, 0) to (T-1, U) and leaves by a final blank. Log-probabilities are natural logs.
"""

from tf_rnnt_kd.lattice.forward_backward import (
    Occupancies,
    forward_backward,
    full_sum,
    is_possible,
    occupancies,
    path_expectation,
)
from tf_rnnt_kd.lattice.joint import node_log_probs
from tf_rnnt_kd.lattice.logits import node_log_probs_from_logits
from tf_rnnt_kd.lattice.nodes import NEGATIVE_INFINITY, NodeLogProbs, label_arc_mask, mask_nodes, node_mask
from tf_rnnt_kd.lattice.viterbi import BestPath, viterbi

__all__ = [
    "NEGATIVE_INFINITY",
    "BestPath",
    "NodeLogProbs",
    "Occupancies",
    "forward_backward",
    "full_sum",
    "is_possible",
    "label_arc_mask",
    "mask_nodes",
    "node_log_probs",
    "node_log_probs_from_logits",
    "node_mask",
    "occupancies",
    "path_expectation",
    "viterbi",
]
