"""Recognition for devices: one stream, a chunk of fixed length per call, numbers in and out and no strings.

What StreamingRecognizer does, with shapes that never change and without a transcript that grows: all that other
runtimes (LiteRT and others) need to take it over. The host joins tokens to text, see device_stream.py.
"""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tf_rnnt_kd.decoding import greedy_decode, initial_state
from tf_rnnt_kd.serving.device_stream import describe_state
from tf_rnnt_kd.speech.frontend import LogMelFrontend

CHUNK_SECONDS = 0.16
"""What a call takes at least."""


class _Frontend(LogMelFrontend):
    """The same numbers by a product that converters do not take for a layer with weights.

    Otherwise they quantise spectra to 8 bits, which hold not a thousandth of their range: quiet bands would be zeros.
    """

    @staticmethod
    def _energies(power, filters):
        return tf.transpose(tf.matmul(filters.T, power, transpose_b=True), [0, 2, 1])


class DeviceRecognizer:
    """Streams a Recognizer for one listener.

    Args:
      recognizer: a Recognizer whose model streams.

    Attributes:
      chunk_samples: samples of each call: the least multiple of the model's own chunk that lasts CHUNK_SECONDS.
      flush_chunks: calls without samples after the last one, until the last frames of an encoder that looks ahead are
        out.
    """

    def __init__(self, recognizer):
        model, frontend = recognizer.model, recognizer.frontend
        self.recognizer = recognizer
        self._frontend = _Frontend.from_config(frontend.to_config())
        own = model.frames_per_step * frontend.hop
        self.chunk_samples = -(-round(CHUNK_SECONDS * frontend.sample_rate) // own) * own
        self.flush_chunks = -(-model.output_delay * model.subsampling * frontend.hop // self.chunk_samples)
        self._structure = self._initial()
        self._names = _names(self._structure, "state")

    def start(self):
        """The state before the first sample: a dictionary of tensors, the first dimension of each is 1."""
        return dict(zip(self._names, tf.nest.flatten(self._initial()), strict=True))

    def specs(self):
        """{name: TensorSpec} of what `step` takes."""
        specs = {
            "waveforms": tf.TensorSpec([1, self.chunk_samples], tf.float32, name="waveforms"),
            "num_samples": tf.TensorSpec([1], tf.int32, name="num_samples"),
        }
        state = zip(self._names, tf.nest.flatten(self._structure), strict=True)
        return specs | {name: tf.TensorSpec(value.shape, value.dtype, name=name) for name, value in state}

    def describe(self):
        """What a host must know, as JSON takes it: see device_stream.DeviceStream."""
        return {
            "chunk_samples": self.chunk_samples,
            "flush_chunks": self.flush_chunks,
            "hop_samples": self.recognizer.frontend.hop,
            "state": describe_state({name: value.numpy() for name, value in self.start().items()}),
        }

    def step(self, waveforms, num_samples, **state):
        """The next chunk.

        Args:
          waveforms: float32 [1, chunk_samples].
          num_samples: int32 [1], how many of them exist: all, but in the last call with samples and those after it.
          **state: from `start` or the step before.

        Returns:
          What this chunk added: tokens, token_frames [1, N] int32 and token_confidence [1, N] float32, 0 beyond
          num_tokens [1] int32; log_prob [1] float32, of the path's part (natural log); and the new state.
        """
        recognizer, model = self.recognizer, self.recognizer.model
        before = tf.nest.pack_sequence_as(self._structure, [state[name] for name in self._names])
        exists = tf.range(self.chunk_samples)[None, :] < num_samples[:, None]
        samples = tf.where(exists, waveforms, 0.0)
        features, frontend_state = self._frontend.step(samples, before["frontend"])
        num_frames = recognizer.frontend.num_frames(num_samples)
        encoded, lengths, encoder_state = model.encode_step(features, num_frames, before["encoder"])
        found = greedy_decode(
            model, encoded, lengths, **dataclasses.asdict(recognizer.search_settings), state=before["search"],
            trim=False,
        )  # fmt: skip
        after = {"frontend": frontend_state, "encoder": encoder_state, "search": found.state}
        return {
            "tokens": found.tokens,
            "num_tokens": found.num_tokens,
            "token_frames": found.token_frames,
            "token_confidence": found.token_confidence,
            "log_prob": found.log_prob,
            **dict(zip(self._names, tf.nest.flatten(after), strict=True)),
        }

    def _initial(self):
        model = self.recognizer.model
        return {
            "frontend": self.recognizer.frontend.initial_state(1),
            "encoder": model.encoder_initial_state(1),
            "search": initial_state(model, batch_size=1),
        }


def _names(nest, prefix):
    """Names for the tensors of a nest of dictionaries, in the order of tf.nest.flatten; without slashes."""
    if not isinstance(nest, Mapping):
        return [prefix]
    return [name for key in sorted(nest) for name in _names(nest[key], f"{prefix}_{key.replace('/', '_')}")]
