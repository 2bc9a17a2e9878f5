"""Keras RNN-T models: encoders, predictors, joint, presets."""

from tf_rnnt_kd.models.conformer import ConformerEncoder
from tf_rnnt_kd.models.predictor import StatelessPredictor
from tf_rnnt_kd.models.presets import build_transducer
from tf_rnnt_kd.models.transducer import Transducer

__all__ = ["ConformerEncoder", "StatelessPredictor", "Transducer", "build_transducer"]
