"""The (t, u) grid of an RNN-T: node log-probabilities, sums over alignments, the best alignment. TensorFlow only.

Blank is one of the V symbols; at node (t, u) blank leads to (t+1, u) and the label y_{u+1} to (t, u+1); an alignment
runs from (0, 0) to (T-1, U) and leaves by a final blank. Log-probabilities are natural logs.
"""

from tf_rnnt_kd.lattice.factorised import factorised_log_probs
from tf_rnnt_kd.lattice.forward_backward import (
    Occupancies,
    forward_backward,
    full_sum,
    is_possible,
    occupancies,
    path_expectation,
)
from tf_rnnt_kd.lattice.fused import node_log_probs
from tf_rnnt_kd.lattice.joint import Joint, dense_log_probs, joint_settings
from tf_rnnt_kd.lattice.logits import node_log_probs_from_logits
from tf_rnnt_kd.lattice.nodes import NEGATIVE_INFINITY, NodeLogProbs, label_arc_mask, mask_nodes, node_mask
from tf_rnnt_kd.lattice.pruning import Band, band_around, band_mask, in_band, pruning_band
from tf_rnnt_kd.lattice.simple import simple_nodes
from tf_rnnt_kd.lattice.top_k import TopK, top_k
from tf_rnnt_kd.lattice.viterbi import BestPath, viterbi

__all__ = [
    "NEGATIVE_INFINITY",
    "Band",
    "BestPath",
    "Joint",
    "NodeLogProbs",
    "Occupancies",
    "TopK",
    "band_around",
    "band_mask",
    "dense_log_probs",
    "factorised_log_probs",
    "forward_backward",
    "full_sum",
    "in_band",
    "is_possible",
    "joint_settings",
    "label_arc_mask",
    "mask_nodes",
    "node_log_probs",
    "node_log_probs_from_logits",
    "node_mask",
    "occupancies",
    "path_expectation",
    "pruning_band",
    "simple_nodes",
    "top_k",
    "viterbi",
]
