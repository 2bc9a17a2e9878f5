"""Transducers and utterances to measure searches on: random, briefly trained, or a training's own."""

import keras
import numpy as np
import tensorflow as tf

from tf_rnnt_kd import lattice

_FEATURES, _SUCCESSORS = 24, 6


class SmallTransducer:
    """What searches need of a model; the predictor sees the last two labels, the encoder three frames.

    Args:
      vocab, width: V and H. seed: of the first weights.
    """

    def __init__(self, *, vocab, width, seed=0):
        random = np.random.default_rng(seed)

        def weights(*shape, scale):
            return keras.Variable((scale * random.normal(size=shape)).astype(np.float32))

        self.encoder = weights(3 * _FEATURES, width, scale=0.2)
        self.embeddings = [weights(vocab, width, scale=0.7) for _ in range(2)]
        self.joint_kernel = weights(width, vocab, scale=1.5 * width**-0.5)
        self.joint_bias = keras.Variable(tf.one_hot(0, vocab))
        self.variables = [self.encoder, *self.embeddings, self.joint_kernel, self.joint_bias]

    def encode(self, features):
        """[B, T, F] -> [B, T, H]."""
        padded = tf.pad(features, [[0, 0], [1, 1], [0, 0]])
        count = tf.shape(features)[1]
        return tf.concat([padded[:, k : k + count] for k in range(3)], axis=2) @ self.encoder.value

    def predictor_start(self, batch_size):
        return tf.zeros([batch_size, 2], tf.int32)

    def predictor_advance(self, context, tokens):
        return tf.stack([context[:, 1], tokens], axis=1)

    def predictor_project(self, context):
        return sum(tf.gather(table.value, context[..., k]) for k, table in enumerate(self.embeddings))

    def predict_labels(self, labels):
        """[B, U] -> [B, U + 1, H]."""
        padded = tf.pad(labels, [[0, 0], [2, 0]])
        return self.predictor_project(tf.stack([padded[:, :-1], padded[:, 1:]], axis=-1))

    def joint_logits(self, encoder_projection, predictor_projection):
        hidden = tf.tanh(encoder_projection + predictor_projection)
        return tf.tensordot(hidden, self.joint_kernel.value, 1) + self.joint_bias.value

    def joint(self, encoded, predicted):
        kernel, bias = (tf.identity(variable.value) for variable in (self.joint_kernel, self.joint_bias))
        return lattice.Joint(encoded, predicted, kernel, bias)


def utterances(random, *, batch, frames, vocab):
    """(features [B, T, F], lengths [B], labels [B, U], label lengths [B]) of a made-up language.

    Each symbol lasts two to five frames in which its vector stands with noise of the same size; six symbols may follow
    each, and symbols come in pairs that sound nearly alike, so that what is heard is often not sure.
    """
    made = np.random.default_rng(7)
    vectors = made.normal(size=(vocab, _FEATURES))
    vectors[1::2] = vectors[: vocab - 1 : 2] + 0.5 * made.normal(size=vectors[1::2].shape)
    successors = made.integers(1, vocab, size=(vocab, _SUCCESSORS))
    features = random.normal(size=(batch, frames, _FEATURES))
    lengths = random.integers(frames // 2, frames + 1, size=batch)
    labels = np.zeros([batch, frames // 2], np.int32)
    counts = np.zeros([batch], np.int32)
    for b, length in enumerate(lengths):
        at, symbol = 0, 0
        while at + 2 <= length:
            symbol = successors[symbol, random.integers(_SUCCESSORS)]
            labels[b, counts[b]] = symbol
            counts[b] += 1
            until = min(length, at + random.integers(2, 6))
            features[b, at:until] += 1.5 * vectors[symbol]
            at = until
    return features.astype(np.float32), lengths.astype(np.int32), labels, counts


def full_sums(model, encoded, lengths, tokens, counts):
    """Exact natural-log probabilities [B] of tokens [B, U]."""
    sizes = {"logit_lengths": lengths, "label_lengths": counts}
    joint = model.joint(encoded, model.predict_labels(tokens))
    return lattice.full_sum(lattice.node_log_probs(**joint._asdict(), labels=tokens, **sizes), **sizes)


def random_lattices(*, batch, frames, vocab, width, per_frame=0.25):
    """(model, encoded [B, T, H], lengths [B]); greedy search emits about `per_frame` tokens a frame."""
    from tf_rnnt_kd.decoding import greedy_decode

    model = SmallTransducer(vocab=vocab, width=width)
    features, lengths, *_ = utterances(np.random.default_rng(1), batch=batch, frames=frames, vocab=vocab)
    model.joint_kernel.assign(4.0 * model.joint_kernel.value)
    encoded = model.encode(features)
    low, high = 0.0, 30.0
    for _ in range(12):
        bias = 0.5 * (low + high)
        model.joint_bias.assign(bias * tf.one_hot(0, vocab))
        found = int(tf.reduce_sum(greedy_decode(model, encoded, lengths).num_tokens))
        low, high = (bias, high) if found > per_frame * lengths.sum() else (low, bias)
    return model, encoded, lengths


def trained_lattices(*, batch, frames, vocab, width, steps):
    """(model, encoded [B, T, H], lengths [B]) after `steps` of RNN-T training on other utterances."""
    model = SmallTransducer(vocab=vocab, width=width)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps))
    optimizer.build(model.variables)

    @tf.function(reduce_retracing=True)
    def step(features, lengths, labels, counts):
        with tf.GradientTape() as tape:
            log_probs = full_sums(model, model.encode(features), lengths, labels, counts)
            loss = -tf.reduce_mean(log_probs)
        optimizer.apply(tape.gradient(loss, [variable.value for variable in model.variables]), model.variables)
        return loss

    random = np.random.default_rng(2)
    for _ in range(steps):
        step(*map(tf.constant, utterances(random, batch=16, frames=frames, vocab=vocab)))
    features, lengths, *_ = utterances(np.random.default_rng(1), batch=batch, frames=frames, vocab=vocab)
    return model, model.encode(features), lengths


def lattices_of_training(workdir, *, records, batch):
    """(model, encoded, lengths) of the first `batch` utterances of labelled records, DIR:split."""
    from tf_rnnt_kd.records import reader
    from tf_rnnt_kd.training.workdir import load_model

    trained = load_model(workdir)
    batches = reader.evaluation_batches(
        reader.Source.parse(records), tokenizer=trained.tokenizer, frontend=trained.frontend, batch_size=batch
    )
    first = next(iter(batches))
    encoded, lengths = trained.model.encode(first["features"], first["num_frames"])
    return trained.model, tf.cast(encoded, tf.float32), lengths
