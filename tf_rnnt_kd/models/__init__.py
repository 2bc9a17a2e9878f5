"""Keras RNN-T models: encoders, predictors, joint, presets."""

from tf_rnnt_kd.models.build import build_transducer
from tf_rnnt_kd.models.conformer import ConformerEncoder
from tf_rnnt_kd.models.encoder import Encoder
from tf_rnnt_kd.models.lstm import BiLSTMEncoder, LSTMEncoder
from tf_rnnt_kd.models.predictor import LSTMPredictor, StatelessPredictor
from tf_rnnt_kd.models.presets import PRESETS, count_parameters, preset
from tf_rnnt_kd.models.transducer import Transducer

__all__ = [
    "PRESETS",
    "BiLSTMEncoder",
    "ConformerEncoder",
    "Encoder",
    "LSTMEncoder",
    "LSTMPredictor",
    "StatelessPredictor",
    "Transducer",
    "build_transducer",
    "count_parameters",
    "preset",
]
