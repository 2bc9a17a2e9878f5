"""The RNN-T model: encoder, predictor and joint."""

from typing import Any

import keras
import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.lattice.tensors import TensorLike
from tf_rnnt_kd.models.encoder import Encoder

COMBINATIONS = ("add", "multiply")


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class Transducer(keras.Model):
    """logits(t, u) = tanh(E encoder(t) + P predictor(u)) W + b, symbol 0 the blank.

    Encoder, predictor, E and P run in the dtype policy; what comes out of them is cast to float32 before the joint.

    The model never forms the [B, T, U+1, V] lattice: it gives the two projections into the joint space, and W and b,
    from which `tf_rnnt_kd.lattice.node_log_probs` takes what a loss needs.

    Args:
      encoder: an Encoder. predictor: see `predictor.py`.
      vocab_size: V, blank included. joint_width: H. num_features: F.
      combination: 'add', or 'multiply': tanh of the product of the two projections.
      factorised_blank: sigmoid of the blank's logit is its probability, the others share the rest by their softmax
        (hybrid autoregressive transducer, Variani et al. 2020).

    Raises:
      ValueError: unknown combination.
    """

    def __init__(
        self, encoder: Encoder, predictor: keras.layers.Layer, *, vocab_size: int, joint_width: int,
        num_features: int, combination: str = "add", factorised_blank: bool = False, **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if combination not in COMBINATIONS:
            raise ValueError(f"the joint's combination is {combination!r}: choose of {', '.join(COMBINATIONS)}")
        # Keras would round the features before they are normalised.
        self.autocast = False
        self.encoder = encoder
        self.predictor = predictor
        self.vocab_size = vocab_size
        self.joint_width = joint_width
        self.num_features = num_features
        self.combination = combination
        self.factorised_blank = factorised_blank
        policy = self.dtype_policy
        self.encoder_projection = keras.layers.Dense(joint_width, name="encoder_projection", dtype=policy)
        self.predictor_projection = keras.layers.Dense(
            # In a product a bias is what lets each side leave the other as it is.
            joint_width, use_bias=combination == "multiply", name="predictor_projection", dtype=policy
        )

    def build(self, input_shape=None):
        # A model that is loaded from a file gets its parts built already.
        if not self.encoder.built:
            self.encoder.build((None, None, self.num_features))
        if not self.predictor.built:
            self.predictor.build()
        self.encoder_projection.build((None, None, self.encoder.output_width))
        self.predictor_projection.build((None, None, self.predictor.output_width))
        self.joint_kernel = self.add_weight(name="joint_kernel", shape=(self.joint_width, self.vocab_size))
        self.joint_bias = self.add_weight(name="joint_bias", shape=(self.vocab_size,), initializer="zeros")
        # Float32 whatever the policy: they meet features before anything is rounded.
        fixed = {"shape": (self.num_features,), "trainable": False, "autocast": False, "dtype": "float32"}
        self.feature_mean = self.add_weight(name="feature_mean", initializer="zeros", **fixed)
        self.feature_scale = self.add_weight(name="feature_scale", initializer="ones", **fixed)
        self.built = True

    def build_from_config(self, config):
        """All shapes follow from the constructor's arguments."""
        self.build()

    def set_feature_statistics(self, mean, standard_deviation):
        """Features are normalised by these, [F] each, measured once on the training data."""
        self.feature_mean.assign(mean)
        self.feature_scale.assign(1.0 / standard_deviation)

    def normalise(self, features):
        """(features - mean) / standard deviation, per bin."""
        mean, scale = tf.cast(self.feature_mean, features.dtype), tf.cast(self.feature_scale, features.dtype)
        return (features - mean) * scale

    @property
    def subsampling(self) -> int:
        """Feature frames per encoder frame."""
        return self.encoder.subsampling

    @property
    def is_streaming(self) -> bool:
        return self.encoder.is_streaming

    @property
    def frames_per_step(self):
        """Feature frames of which `encode_step` takes a multiple."""
        return self.encoder.frames_per_step

    @property
    def look_ahead_frames(self):
        """Feature frames after its own end that an encoder frame needs at most; None: the whole utterance."""
        return self.encoder.look_ahead_frames

    @property
    def output_delay(self):
        """Encoder frames by which those of `encode_step` come later than their features."""
        return self.encoder.output_delay

    def encode(
        self, features: TensorLike, num_frames: TensorLike, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Features [B, N, F] (not normalised) -> (projection into the joint space [B, T, H], lengths [B] int32)."""
        return self.encode_normalised(self.normalise(features), num_frames, training=training)

    def encode_normalised(self, features, num_frames, training=False):
        """`encode` for features that went through `normalise`, and perhaps through augmentation after it."""
        frames, lengths = self.encoder(features, num_frames, training=training)
        return self.encoder_projection(frames), lengths

    def encoder_layers(self, features, num_frames):
        """Features as for `encode` -> ({layer name: [B, T, D]}, lengths [B] int32), each layer of the encoder."""
        return self.encoder.layer_outputs(self.normalise(features), num_frames)

    @property
    def layer_widths(self) -> dict[str, int]:
        """{layer name: D} of `encoder_layers`."""
        return {block.name: block.output_width for block in self.encoder.blocks}

    def predict_labels(self, labels: TensorLike, training: bool = False) -> tf.Tensor:
        """Labels [B, U] int32 -> projection into the joint space [B, U + 1, H]."""
        return self.predictor_projection(self.predictor(labels, training=training))

    def joint(self, encoded: tf.Tensor, predicted: tf.Tensor) -> lattice.Joint:
        """Projections [B, T, H] and [B, U + 1, H] -> the lattice.Joint of them with this model's W and b, float32."""
        return lattice.Joint(
            tf.cast(encoded, tf.float32), tf.cast(predicted, tf.float32), tf.cast(self.joint_kernel.value, tf.float32),
            tf.cast(self.joint_bias.value, tf.float32), combination=self.combination,
            factorised_blank=self.factorised_blank,
        )

    def joint_logits(self, encoder_projection, predictor_projection):
        """[..., H] and [..., H], broadcast against each other -> float32 [..., V] whose softmax is P(symbol | node)."""
        if self.combination == "multiply":
            hidden = tf.tanh(encoder_projection * predictor_projection)
        else:
            hidden = tf.tanh(encoder_projection + predictor_projection)
        kernel = tf.cast(self.joint_kernel, hidden.dtype)
        # tf.tensordot makes ten operations of it where a size is unknown, which a search feels.
        logits = tf.matmul(hidden, kernel) if hidden.shape.rank == 2 else tf.tensordot(hidden, kernel, 1)
        logits = tf.cast(logits, tf.float32) + tf.cast(self.joint_bias, tf.float32)
        return lattice.factorised_log_probs(logits) if self.factorised_blank else logits

    def call(self, inputs, training=False):
        """(features, num_frames, labels) -> (encoder projection, lengths, predictor projection)."""
        features, num_frames, labels = inputs
        encoded, lengths = self.encode(features, num_frames, training=training)
        return encoded, lengths, self.predict_labels(labels, training=training)

    def predictor_start(self, batch_size):
        """The predictor's state before the first label."""
        return self.predictor.start(batch_size)

    def predictor_advance(self, context, tokens):
        """The predictor's state after emitting `tokens` [B]."""
        return self.predictor.advance(context, tokens)

    def predictor_project(self, context):
        """State -> projection into the joint space [B, H]."""
        return self.predictor_projection(self.predictor.project(context))

    def encoder_initial_state(self, batch_size):
        """The state of a stream's beginning: a flat dictionary of tensors."""
        return _flatten(self.encoder.get_initial_state(batch_size))

    def encode_step(self, features, num_frames, state):
        """Streams `encode`: features [B, N, F] -> (projection [B, k, H], lengths [B], new state).

        As Encoder.step: N is a multiple of frames_per_step, `num_frames` [B] may be less than all only where a stream
        ends, and of the k = N / subsampling frames the first `lengths` exist.
        """
        frames, lengths, new_state = self.encoder.step(self.normalise(features), num_frames, _unflatten(state))
        return self.encoder_projection(frames), lengths, _flatten(new_state)

    def get_config(self):
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "predictor": keras.saving.serialize_keras_object(self.predictor),
            "vocab_size": self.vocab_size,
            "joint_width": self.joint_width,
            "num_features": self.num_features,
            "combination": self.combination,
            "factorised_blank": self.factorised_blank,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for part in ("encoder", "predictor"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)


def _flatten(tree, prefix=""):
    """Nested dictionaries -> one, with '/' between the levels' names."""
    flat = {}
    for name, value in tree.items():
        flat.update(_flatten(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: value})
    return flat


def _unflatten(flat):
    tree = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree
