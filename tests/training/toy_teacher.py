"""A SavedModel that can teach and knows nothing of our models: a few random matrices over pieces of the waveform."""

import json

import numpy as np
import tensorflow as tf

from tf_rnnt_kd import lattice

SAMPLES_PER_FRAME, JOINT_WIDTH, LAYER_WIDTH = 1280, 6, 5
AUDIO = [tf.TensorSpec([None, None], tf.float32, "waveforms"), tf.TensorSpec([None], tf.int32, "num_samples")]
LABELS = [tf.TensorSpec([None, None], tf.int32, "tokens"), tf.TensorSpec([None], tf.int32, "num_tokens")]


class ToyTeacher(tf.Module):
    def __init__(self, vocab_size, *, extra_frames=0, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)

        def matrix(*shape, scale=1.0):
            return tf.Variable(scale * rng.normal(size=shape), dtype=tf.float32)

        self.listen = matrix(SAMPLES_PER_FRAME, JOINT_WIDTH, scale=0.3)
        self.hear = matrix(SAMPLES_PER_FRAME, LAYER_WIDTH, scale=0.3)
        self.embed = matrix(vocab_size, JOINT_WIDTH)
        self.kernel = matrix(JOINT_WIDTH, vocab_size)
        self.bias = matrix(vocab_size)
        self.extra_frames = extra_frames

    def _pieces(self, waveforms, num_samples):
        waveforms = tf.where(tf.sequence_mask(num_samples, tf.shape(waveforms)[1]), waveforms, 0.0)
        waveforms = tf.pad(waveforms, [[0, 0], [0, -tf.shape(waveforms)[1] % SAMPLES_PER_FRAME]])
        pieces = tf.reshape(waveforms, [tf.shape(waveforms)[0], -1, SAMPLES_PER_FRAME])
        # One that counts its frames in another way hears more of them, or fewer.
        return tf.pad(pieces, [[0, 0], [0, max(self.extra_frames, 0)], [0, 0]]), (
            -(-num_samples // SAMPLES_PER_FRAME) + self.extra_frames
        )

    @tf.function(input_signature=[*AUDIO, *LABELS])
    def teacher_forced(self, waveforms, num_samples, tokens, num_tokens):
        pieces, num_frames = self._pieces(waveforms, num_samples)
        encoder = tf.tensordot(pieces, self.listen, 1)
        predictor = tf.gather(self.embed, tf.pad(tokens, [[0, 0], [1, 0]]))
        sizes = {"logit_lengths": num_frames, "label_lengths": num_tokens}
        nodes = lattice.node_log_probs(
            encoder, predictor, tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias), labels=tokens,
            **sizes,
        )
        return {
            "num_frames": num_frames, "encoder_projection": encoder, "predictor_projection": predictor,
            "full_sum_log_prob": lattice.full_sum(nodes, **sizes),
        }

    @tf.function(input_signature=[])
    def joint(self):
        return {"kernel": tf.identity(self.kernel), "bias": tf.identity(self.bias)}

    @tf.function(input_signature=AUDIO)
    def hidden(self, waveforms, num_samples):
        pieces, num_frames = self._pieces(waveforms, num_samples)
        low = tf.tensordot(pieces, self.hear, 1)
        return {"num_frames": num_frames, "low": low, "high": tf.tanh(low)}

    @tf.function(input_signature=AUDIO)
    def nbest(self, waveforms, num_samples):
        count = tf.shape(waveforms)[0]
        tokens = tf.tile(tf.constant([[[1, 2, 1], [2, 0, 0]]]), [count, 1, 1])
        scores = tf.reduce_mean(tf.abs(waveforms), axis=1, keepdims=True)
        return {
            "tokens": tokens, "num_tokens": tf.tile([[3, 1]], [count, 1]),
            "log_prob": tf.concat([-scores, -2.0 * scores], axis=1),
        }


def save(teacher, folder, *, tokenizer_hash, signatures=("teacher_forced", "joint", "hidden", "nbest"), **metadata):
    """Writes the SavedModel and what its metadata must say."""
    tf.saved_model.save(teacher, str(folder), signatures={name: getattr(teacher, name) for name in signatures})
    stated = {
        "tokenizer": {"hash": tokenizer_hash}, "sample_rate": 16_000, "frame_seconds": 0.08,
        "hidden_layers": {"low": LAYER_WIDTH, "high": LAYER_WIDTH}, "joint": {"activation": "tanh"}, **metadata,
    }
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / "assets.extra" / "metadata.json").write_text(json.dumps(stated))
    return folder
