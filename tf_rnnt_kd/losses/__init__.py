"""RNN-T and distillation losses over lattice nodes: one value per utterance, teacher first, student second."""

from tf_rnnt_kd.losses.adaptive import self_adaptive_weight
from tf_rnnt_kd.losses.collapsed import collapsed
from tf_rnnt_kd.losses.inputs import LossInputs
from tf_rnnt_kd.losses.registry import Objective, describe, get, names
from tf_rnnt_kd.losses.rnnt import rnnt, rnnt_loss

__all__ = [
    "LossInputs",
    "Objective",
    "collapsed",
    "describe",
    "get",
    "names",
    "rnnt",
    "rnnt_loss",
    "self_adaptive_weight",
]
