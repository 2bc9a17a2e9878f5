"""RNN-T and distillation losses over lattice nodes: one value per utterance, teacher first, student second."""

from tf_rnnt_kd.losses.adaptive import self_adaptive_weight
from tf_rnnt_kd.losses.alignment import alignment_cross_entropy, alignment_kl, alignment_kl_semiring
from tf_rnnt_kd.losses.alignment_entropy import alignment_entropy
from tf_rnnt_kd.losses.best_path import best_path
from tf_rnnt_kd.losses.best_shift import best_shift
from tf_rnnt_kd.losses.collapsed import collapsed
from tf_rnnt_kd.losses.consistency import symmetric_consistency
from tf_rnnt_kd.losses.full_sum import full_sum
from tf_rnnt_kd.losses.hidden import hidden
from tf_rnnt_kd.losses.inputs import LossInputs
from tf_rnnt_kd.losses.n_best import full_sum_n_best, hard_n_best
from tf_rnnt_kd.losses.node_masked import node_masked
from tf_rnnt_kd.losses.objective import Objective, Term
from tf_rnnt_kd.losses.occupancy_weighted import occupancy_weighted
from tf_rnnt_kd.losses.pruned import PruningScales, pruned_rnnt, pruning_scales
from tf_rnnt_kd.losses.registry import describe, get, names
from tf_rnnt_kd.losses.rnnt import rnnt, rnnt_loss
from tf_rnnt_kd.losses.schedules import Schedule
from tf_rnnt_kd.losses.sequence_discriminative import sequence_margin, sequence_posterior
from tf_rnnt_kd.losses.soft import soft
from tf_rnnt_kd.losses.top_k import peak_alignment, top_k
from tf_rnnt_kd.losses.window_min import window_min

__all__ = [
    "LossInputs",
    "Objective",
    "PruningScales",
    "Schedule",
    "Term",
    "alignment_cross_entropy",
    "alignment_entropy",
    "alignment_kl",
    "alignment_kl_semiring",
    "best_path",
    "best_shift",
    "collapsed",
    "describe",
    "full_sum",
    "full_sum_n_best",
    "get",
    "hard_n_best",
    "hidden",
    "names",
    "node_masked",
    "occupancy_weighted",
    "peak_alignment",
    "pruned_rnnt",
    "pruning_scales",
    "rnnt",
    "rnnt_loss",
    "self_adaptive_weight",
    "sequence_margin",
    "sequence_posterior",
    "soft",
    "symmetric_consistency",
    "top_k",
    "window_min",
]
