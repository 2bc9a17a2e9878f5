"""A student of some hundred weights and a batch for it: V = 5, 3 features, 8 feature frames per encoder frame."""

import keras
import numpy as np
import tensorflow as tf

from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.forward import Forward


def small_config(losses, *, dropout=0.0, masks=False, num_layers=2):
    config = default_config()
    config.model.encoder.update(width=8, num_layers=num_layers, num_heads=2, kernel_size=3, dropout=dropout)
    config.model.predictor.update(width=4, dropout=dropout)
    config.model.joint_width = 6
    config.augment.freq_width = 1
    if not masks:
        config.augment.update(freq_masks=0, time_masks=0)
    config.losses = losses
    return config


def small_forward(losses, *, hidden_of=None, left_context=None, encoder=None, **settings):
    """(Forward, its model); `hidden_of(objective, model)` makes the HiddenLayers, `encoder` replaces its settings."""
    keras.utils.set_random_seed(0)
    config = small_config(losses, **settings)
    config.model.encoder.left_context = left_context
    if encoder:
        config.model.encoder = encoder
    model = build_transducer(config.model.to_dict(), vocab_size=5, num_features=3)
    objective = Objective(config.losses)
    hidden = hidden_of(objective, model) if hidden_of else None
    return Forward(model, config, objective, hidden=hidden), model


def small_batch(num_frames=32, *, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "features": tf.constant(rng.normal(size=[2, num_frames, 3]), tf.float32),
        "num_frames": tf.constant([num_frames, num_frames - 9]),
        "tokens": tf.constant([[1, 2, 3], [4, 1, 0]]),
        "num_tokens": tf.constant([3, 2]),
    }


def small_spec():
    spec = {name: tf.TensorSpec([None] * len(value.shape), value.dtype) for name, value in small_batch().items()}
    return {**spec, "features": tf.TensorSpec([None, None, 3])}
