"""The RNN-T model: encoder, predictor and joint."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tf_rnnt_kd")
class Transducer(keras.Model):
    """logits(t, u) = tanh(E encoder(t) + P predictor(u)) W + b, symbol 0 the blank.

    The model never forms the [B, T, U+1, V] lattice: it gives the two projections into the joint space, and W and b,
    from which `tf_rnnt_kd.lattice.node_log_probs` takes what a loss needs.

    Args:
      encoder: a layer (features [B, N, F], num_frames [B]) -> (frames, lengths), with `subsampling` and `is_streaming`.
      predictor: a layer labels [B, U] -> [B, U + 1, width] with start, advance and project.
      vocab_size: V, blank included. joint_width: H. num_features: F.
    """

    def __init__(self, encoder, predictor, *, vocab_size, joint_width, num_features, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.predictor = predictor
        self.vocab_size = vocab_size
        self.joint_width = joint_width
        self.num_features = num_features
        self.encoder_projection = keras.layers.Dense(joint_width, name="encoder_projection")
        self.predictor_projection = keras.layers.Dense(joint_width, use_bias=False, name="predictor_projection")

    def build(self, input_shape=None):
        # A model that is loaded from a file gets its parts built already.
        if not self.encoder.built:
            self.encoder.build((None, None, self.num_features))
        if not self.predictor.built:
            self.predictor.build()
        self.encoder_projection.build((None, None, self.encoder.settings["width"]))
        self.predictor_projection.build((None, None, self.predictor.settings["width"]))
        self.joint_kernel = self.add_weight(name="joint_kernel", shape=(self.joint_width, self.vocab_size))
        self.joint_bias = self.add_weight(name="joint_bias", shape=(self.vocab_size,), initializer="zeros")
        self.feature_mean = self.add_weight(
            name="feature_mean", shape=(self.num_features,), initializer="zeros", trainable=False
        )
        self.feature_scale = self.add_weight(
            name="feature_scale", shape=(self.num_features,), initializer="ones", trainable=False
        )
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
    def subsampling(self):
        """Feature frames per encoder frame."""
        return self.encoder.subsampling

    @property
    def is_streaming(self):
        return self.encoder.is_streaming

    def encode(self, features, num_frames, training=False):
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
    def layer_widths(self):
        """{layer name: D} of `encoder_layers`."""
        return {block.name: self.encoder.settings["width"] for block in self.encoder.blocks}

    def predict_labels(self, labels, training=False):
        """Labels [B, U] int32 -> projection into the joint space [B, U + 1, H]."""
        return self.predictor_projection(self.predictor(labels, training=training))

    def joint_logits(self, encoder_projection, predictor_projection):
        """Broadcast sum of [..., H] and [..., H] -> float32 logits [..., V]."""
        hidden = tf.tanh(encoder_projection + predictor_projection)
        logits = tf.tensordot(hidden, tf.cast(self.joint_kernel, hidden.dtype), 1)
        return tf.cast(logits, tf.float32) + tf.cast(self.joint_bias, tf.float32)

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
        """Streams `encode`: features [B, k * subsampling, F] -> (projection [B, k, H], new state).

        `num_frames` [B] may be less than all only in a stream's last chunk.
        """
        frames, new_state = self.encoder.step(self.normalise(features), num_frames, _unflatten(state))
        return self.encoder_projection(frames), _flatten(new_state)

    def get_config(self):
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "predictor": keras.saving.serialize_keras_object(self.predictor),
            "vocab_size": self.vocab_size,
            "joint_width": self.joint_width,
            "num_features": self.num_features,
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
