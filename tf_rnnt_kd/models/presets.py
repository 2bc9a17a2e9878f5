"""Models by configuration."""

from tf_rnnt_kd.models.conformer import ConformerEncoder
from tf_rnnt_kd.models.predictor import StatelessPredictor
from tf_rnnt_kd.models.transducer import Transducer


def build_transducer(config, *, vocab_size, num_features):
    """Builds a Transducer with its weights.

    Args:
      config: a mapping with `encoder` (arguments of ConformerEncoder), `predictor` (of StatelessPredictor, without
        vocab_size) and `joint_width`.
      vocab_size: V, the blank included. num_features: mel bins.

    Returns:
      A built Transducer.
    """
    model = Transducer(
        ConformerEncoder(**config["encoder"], name="encoder"),
        StatelessPredictor(vocab_size, **config["predictor"], name="predictor"),
        vocab_size=vocab_size,
        joint_width=config["joint_width"],
        num_features=num_features,
        name="transducer",
    )
    model.build()
    return model
