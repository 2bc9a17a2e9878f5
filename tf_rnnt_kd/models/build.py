"""A Transducer from its settings."""

import inspect
from collections.abc import Mapping
from typing import Any

from tf_rnnt_kd.models.conformer import ConformerEncoder
from tf_rnnt_kd.models.lstm import BiLSTMEncoder, LSTMEncoder
from tf_rnnt_kd.models.predictor import LSTMPredictor, StatelessPredictor
from tf_rnnt_kd.models.transducer import Transducer

ENCODERS = {"conformer": ConformerEncoder, "lstm": LSTMEncoder, "bilstm": BiLSTMEncoder}
PREDICTORS = {"stateless": StatelessPredictor, "lstm": LSTMPredictor}


def build_transducer(
    config: Mapping[str, Any], *, vocab_size: int, num_features: int, dtype: Any = None
) -> Transducer:
    """Builds a Transducer with its weights.

    Args:
      config: a mapping with `encoder` (`type`, a key of ENCODERS, 'conformer' where absent, and arguments of that
        class), `predictor` (`type`, a key of PREDICTORS, 'stateless' where absent, and arguments without vocab_size)
        and `joint` {width, combination, factorised_blank}; `joint_width` is its width where `joint` has none.
      vocab_size: V, the blank included. num_features: mel bins.
      dtype: Keras dtype policy of all layers, e.g. 'mixed_bfloat16'; None: Keras's current one.

    Returns:
      A built Transducer.

    Raises:
      ValueError: unknown types or settings, or settings that do not fit together.
    """
    joint = _joint_settings(config)
    model = Transducer(
        _make(config["encoder"], ENCODERS, "encoder", "conformer", dtype=dtype),
        _make(config["predictor"], PREDICTORS, "predictor", "stateless", vocab_size=vocab_size, dtype=dtype),
        vocab_size=vocab_size,
        joint_width=joint.pop("width"),
        num_features=num_features,
        **joint,
        dtype=dtype,
        name="transducer",
    )
    model.build()
    return model


def _make(settings, classes, part, default, **given):
    """The layer that `settings` of a part describe."""
    settings = dict(settings)
    kind = settings.pop("type", default)
    if kind not in classes:
        raise ValueError(f"model.{part}.type is {kind!r}: choose of {', '.join(classes)}")
    known = inspect.signature(classes[kind].__init__).parameters.keys() - {"self", "kwargs", *given}
    if unknown := sorted(settings.keys() - known):
        raise ValueError(
            f"model.{part} of type {kind!r} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}. "
            f"To change the type, replace all of model.{part}, e.g. from tf_rnnt_kd.models.PRESETS"
        )
    return classes[kind](**settings, **given, name=part)


def _joint_settings(config):
    """{width, and what else config has of combination and factorised_blank}."""
    joint = dict(config.get("joint", {}))
    if unknown := sorted(joint.keys() - {"width", "combination", "factorised_blank"}):
        raise ValueError(
            f"model.joint has no setting {', '.join(unknown)}: it has width, combination, factorised_blank"
        )
    widths = {width for width in (joint.get("width"), config.get("joint_width")) if width is not None}
    if len(widths) != 1:
        raise ValueError(f"the joint's width is {sorted(widths) or 'not given'}: give model.joint.width, and no other")
    return {**joint, "width": widths.pop()}
