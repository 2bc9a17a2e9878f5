"""A teacher with the signatures of DESIGN section 5 and no weights: it hears one word at each rise of the energy."""

import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

# --import-mode=importlib gives tests no package; what they share is imported by name.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

FRAME = 1280  # samples, 80 ms
WIDTH, WORDS = 5, ("ONE", "TWO", "THREE", "FOUR")
PIECES = ("<blank>", *(f"\u2581{word}" for word in WORDS))
N_BEST, HIDDEN_LAYERS = 3, {"low": 3, "high": 5}
LOUD = 0.05
CRASH_AT = -1.0  # a sample of exactly this value makes the whole call fail
NAN_ABOVE = 0.9  # and louder ones make the score NaN

_AUDIO = {
    "waveforms": tf.TensorSpec([None, None], tf.float32, name="waveforms"),
    "num_samples": tf.TensorSpec([None], tf.int32, name="num_samples"),
}
_TOKENS = {
    "tokens": tf.TensorSpec([None, None], tf.int32, name="tokens"),
    "num_tokens": tf.TensorSpec([None], tf.int32, name="num_tokens"),
}


@pytest.fixture(scope="session")
def fake_teacher():
    """This module: test folders are no packages, so tests cannot import it."""
    return sys.modules[__name__]


class FakeTeacher(tf.Module):
    """See the module. All random numbers are fixed, and kept as variables so that the SavedModel has some."""

    def __init__(self, vocab_size):
        super().__init__()
        random = np.random.default_rng(0)
        self.kernel = tf.Variable(random.normal(size=[WIDTH, vocab_size]).astype(np.float32) * 2)
        self.bias = tf.Variable(random.normal(size=[vocab_size]).astype(np.float32))
        self.embedding = tf.Variable(random.normal(size=[vocab_size, WIDTH]).astype(np.float32))
        self.direction = tf.Variable(random.normal(size=[WIDTH]).astype(np.float32))
        self.layers = {
            name: tf.Variable(random.normal(size=[width]).astype(np.float32)) for name, width in HIDDEN_LAYERS.items()
        }

    def energies(self, waveforms, num_samples):
        """Root mean squares [B, T] of frames of 80 ms, and num_frames [B]."""
        num_frames = -(-num_samples // FRAME)
        longest = tf.reduce_max(num_frames)
        waveforms = tf.where(tf.sequence_mask(num_samples, tf.shape(waveforms)[1]), waveforms, 0.0)
        waveforms = tf.pad(waveforms, [[0, 0], [0, FRAME]])[:, : longest * FRAME]
        waveforms = tf.pad(waveforms, [[0, 0], [0, longest * FRAME - tf.shape(waveforms)[1]]])
        frames = tf.reshape(waveforms, [tf.shape(waveforms)[0], longest, FRAME])
        return tf.sqrt(tf.reduce_mean(frames**2, axis=-1)), num_frames

    @tf.function(input_signature=[*_AUDIO.values()])
    def recognise(self, waveforms, num_samples):
        tf.debugging.assert_none_equal(waveforms, CRASH_AT, message="the teacher broke on this audio")
        energies, _ = self.energies(waveforms, num_samples)
        loud = energies > LOUD
        rises = loud & ~tf.pad(loud, [[0, 0], [1, 0]])[:, :-1]
        token_frames = tf.ragged.boolean_mask(tf.broadcast_to(tf.range(tf.shape(loud)[1]), tf.shape(loud)), rises)
        heard = tf.ragged.boolean_mask(energies, rises)
        tokens = 1 + tf.cast(heard * 37.0, tf.int32) % len(WORDS)
        num_tokens = tf.cast(tokens.row_lengths(), tf.int32)
        confidence = tf.sigmoid(heard * 20.0).to_tensor()
        words = tf.ragged.map_flat_values(lambda flat: tf.gather(tf.constant(WORDS), flat - 1), tokens)
        return {
            "text": tf.strings.reduce_join(words, axis=-1, separator=" "),
            "tokens": tokens.to_tensor(),
            "num_tokens": num_tokens,
            "log_prob": -0.5 - tf.cast(num_tokens, tf.float32),
            "token_frames": token_frames.to_tensor(),
            "token_confidence": confidence,
            "words": words.to_tensor(),
            "num_words": num_tokens,
            "word_end_seconds": tf.cast(token_frames.to_tensor() + 1, tf.float32) * 0.08,
            "word_confidence": confidence,
        }

    @tf.function(input_signature=[*_AUDIO.values(), *_TOKENS.values()])
    def forced(self, waveforms, num_samples, tokens, num_tokens):
        energies, num_frames = self.energies(waveforms, num_samples)
        labels = tf.pad(tokens, [[0, 0], [1, 0]])
        too_loud = tf.reduce_max(tf.abs(waveforms), axis=1) > NAN_ABOVE
        score = -0.25 * tf.cast(num_tokens, tf.float32) - tf.reduce_max(energies, axis=1)
        return {
            "num_frames": num_frames,
            "encoder_projection": tf.math.log(energies + 1e-3)[..., None] * self.direction,
            "predictor_projection": tf.gather(self.embedding, labels),
            "full_sum_log_prob": tf.where(too_loud, float("nan"), score),
        }

    @tf.function(input_signature=[*_AUDIO.values()])
    def teach(self, waveforms, num_samples):
        found = self.recognise(waveforms, num_samples)
        return {**found, **self.forced(waveforms, num_samples, found["tokens"], found["num_tokens"])}

    @tf.function(input_signature=[*_AUDIO.values()])
    def hypotheses(self, waveforms, num_samples):
        """What it heard, and the same without the last word, and without the last two, each less probable."""
        found = self.teach(waveforms, num_samples)
        exists = found["num_tokens"][:, None] >= tf.range(N_BEST)
        num_tokens = tf.where(exists, found["num_tokens"][:, None] - tf.range(N_BEST), 0)
        kept = tf.sequence_mask(num_tokens, tf.shape(found["tokens"])[1])
        tokens = tf.where(kept, found["tokens"][:, None], 0)
        words = tf.where(kept, found["words"][:, None], "")
        less = 0.75 * tf.range(N_BEST, dtype=tf.float32)
        return {
            "tokens": tokens,
            "num_tokens": num_tokens,
            "log_prob": tf.where(exists, found["full_sum_log_prob"][:, None] - less, -1e30),
            "num_hypotheses": tf.reduce_sum(tf.cast(exists, tf.int32), axis=1),
            "text": tf.strings.strip(tf.strings.reduce_join(words, axis=-1, separator=" ")),
        }

    @tf.function(input_signature=[*_AUDIO.values()])
    def hidden(self, waveforms, num_samples):
        energies, num_frames = self.energies(waveforms, num_samples)
        return {"num_frames": num_frames, **{name: energies[..., None] * x for name, x in self.layers.items()}}

    @tf.function(input_signature=[])
    def joint(self):
        return {"kernel": self.kernel + 0.0, "bias": self.bias + 0.0}


def save(directory, *, pieces=PIECES, without=(), **metadata):
    """Writes a SavedModel that knows `pieces`, with its metadata; `metadata` overrides; no signatures in `without`."""
    teacher = FakeTeacher(len(pieces))
    signatures = {
        "serving_default": teacher.recognise,
        "teacher": teacher.teach,
        "teacher_forced": teacher.forced,
        "joint": teacher.joint,
        "nbest": teacher.hypotheses,
        "hidden": teacher.hidden,
    }
    signatures = {name: function for name, function in signatures.items() if name not in without}
    tf.saved_model.save(teacher, str(directory), signatures)
    content = {
        "model_id": "fake-teacher",
        "tokenizer": {"hash": "fake", "kind": "characters"},
        "pieces": list(pieces),
        "blank_index": 0,
        "sample_rate": 16000,
        "frame_seconds": 0.08,
        "joint": {"width": WIDTH, "vocab_size": len(pieces), "activation": "tanh"},
        **({} if "hidden" in without else {"hidden_layers": HIDDEN_LAYERS}),
        **metadata,
    }
    path = pathlib.Path(directory) / "assets.extra" / "metadata.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
