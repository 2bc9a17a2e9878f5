"""Recognition of a stream, chunk by chunk, with its whole state in tensors that the caller keeps.

The same frames, encoder and search as offline, so that the same tokens come out whatever the chunks. All streams of one
batch advance together; they may end at different samples of the last piece.
"""

from collections.abc import Mapping

import tensorflow as tf

from tf_rnnt_kd.decoding import GreedyResult, initial_state
from tf_rnnt_kd.serving.recognizer import AUDIO, drop_less_than_a_hop

_TOKEN_FIELDS = ("tokens", "token_frames", "token_confidence")


class StreamingRecognizer:
    """Streams a Recognizer.

    Names of state tensors begin with `state_`; each holds one row per stream. Only the tokens found so
    far grow with the stream.

    Args:
      recognizer: a Recognizer whose model streams.

    Attributes:
      chunk_samples: samples of which a step takes a multiple: an encoder frame, or a chunk that sees itself as a whole.

    Raises:
      ValueError: the model needs the whole utterance.
    """

    def __init__(self, recognizer):
        model = recognizer.model
        if not model.is_streaming:
            raise ValueError(
                "this model's encoder needs the whole utterance: one with a left_context, or a causal LSTM, streams"
            )
        self.recognizer = recognizer
        self.chunk_samples = model.frames_per_step * recognizer.frontend.hop
        # What must follow a stream's last samples until its last encoder frames come out, in whole chunks.
        flush = -(-model.output_delay * model.subsampling // model.frames_per_step)
        self._flush_samples = flush * self.chunk_samples
        # Names of signature arguments hold no slash.
        paths = model.encoder_initial_state(1).keys()
        self._encoder_names = {path: "state_encoder_" + path.replace("/", "_") for path in paths}
        self._context = tf.nest.map_structure(lambda x: x.dtype, model.predictor_start(1))
        self._context_names = _names(self._context, "state_context")
        # Traced once for step and finalize: tracing the encoder takes seconds.
        self._advance = tf.function(
            self._advance,
            input_signature=[AUDIO["waveforms"], tf.TensorSpec([None], tf.int32), self.state_spec()],
            autograph=False,
        )

    def start(self, batch_size):
        """The state before the first sample, for batch_size [] int32 streams: a dictionary of tensors."""
        model = self.recognizer.model
        search = initial_state(model, batch_size=batch_size)
        encoder = model.encoder_initial_state(batch_size)
        return {
            "state_frontend": self.recognizer.frontend.initial_state(batch_size),
            **{name: encoder[path] for path, name in self._encoder_names.items()},
            **self._named_context(search["context"]),
            "state_frame": search["frame"],
            "state_num_features": tf.zeros([batch_size], tf.int32),
            "state_log_prob": tf.zeros([batch_size]),
            "state_num_tokens": tf.zeros([batch_size], tf.int32),
            "state_tokens": tf.zeros([batch_size, 0], tf.int32),
            "state_token_frames": tf.zeros([batch_size, 0], tf.int32),
            "state_token_confidence": tf.zeros([batch_size, 0]),
        }

    def state_spec(self):
        """The state's dictionary of TensorSpecs, batch and number of tokens unknown."""
        spec = {}
        for name, value in self.start(1).items():
            shape = [None, None] if name.removeprefix("state_") in _TOKEN_FIELDS else [None, *value.shape[1:]]
            spec[name] = tf.TensorSpec(shape, value.dtype, name=name)
        return spec

    def step(self, waveforms, **state):
        """The next k chunks, k at least 1.

        Args:
          waveforms: float32 [B, k * chunk_samples].
          **state: from `start` or the step before.

        Returns:
          The new state; text [B] string, of the stream so far; new_tokens, new_token_frames [B, N] int32, 0 beyond
          num_new_tokens [B] int32: what these chunks added. What was found is never taken back.

        Raises:
          tf.errors.InvalidArgumentError: another number of samples.
        """
        count = tf.shape(waveforms)[1]
        # An operation of the graph in a traced function, where it runs before what follows; an exception elsewhere.
        tf.debugging.Assert(
            (count > 0) & (count % self.chunk_samples == 0),
            [f"a step takes a multiple of {self.chunk_samples} samples, finalize takes the rest; the step got", count],
        )
        frames = tf.fill([tf.shape(waveforms)[0]], count // self.recognizer.frontend.hop)
        new, state = self._advance(waveforms, frames, state)
        return {
            **state,
            "text": self.recognizer.text(state["state_tokens"], state["state_num_tokens"]),
            "new_tokens": new.tokens,
            "num_new_tokens": new.num_tokens,
            "new_token_frames": new.token_frames,
        }

    def finalize(self, waveforms, num_samples, **state):
        """The last samples of each stream, any number of them, 0 included.

        Args:
          waveforms: float32 [B, S]; what stands at or beyond num_samples has no influence. num_samples: int32 [B].
          **state: from `start` or the last step.

        Returns:
          What Recognizer.recognise returns for the whole of each stream.
        """
        frontend = self.recognizer.frontend
        # Only the stream that is nothing but this piece can be shorter than a hop.
        alone = drop_less_than_a_hop(num_samples, hop=frontend.hop)
        num_samples = tf.where(state["state_num_features"] == 0, alone, num_samples)
        count = tf.shape(waveforms)[1]
        waveforms = tf.where(tf.range(count)[None, :] < num_samples[:, None], waveforms, 0.0)
        padded = tf.maximum((count + self.chunk_samples - 1) // self.chunk_samples, 1) * self.chunk_samples
        waveforms = tf.pad(waveforms, [[0, 0], [0, padded - count + self._flush_samples]])
        _, state = self._advance(waveforms, frontend.num_frames(num_samples), state)
        return self.recognizer.describe(
            GreedyResult(
                num_tokens=state["state_num_tokens"],
                log_prob=state["state_log_prob"],
                state={},
                **{name: state[f"state_{name}"] for name in _TOKEN_FIELDS},
            )
        )

    def _advance(self, waveforms, num_frames, state):
        """Whole chunks of which num_frames [B] feature frames are real -> (GreedyResult of these, new state)."""
        model = self.recognizer.model
        features, frontend_state = self.recognizer.frontend.step(waveforms, state["state_frontend"])
        encoder_state = {path: state[name] for path, name in self._encoder_names.items()}
        encoded, lengths, encoder_state = model.encode_step(features, num_frames, encoder_state)
        context = tf.nest.pack_sequence_as(self._context, [state[name] for name in self._context_names])
        new = self.recognizer.search(encoded, lengths, state={"context": context, "frame": state["state_frame"]})
        return new, {
            "state_frontend": frontend_state,
            **{name: encoder_state[path] for path, name in self._encoder_names.items()},
            **self._named_context(new.state["context"]),
            "state_frame": new.state["frame"],
            "state_num_features": state["state_num_features"] + num_frames,
            "state_log_prob": state["state_log_prob"] + new.log_prob,
            "state_num_tokens": state["state_num_tokens"] + new.num_tokens,
            **{f"state_{name}": _append(state, new, name) for name in _TOKEN_FIELDS},
        }

    def _named_context(self, context):
        return dict(zip(self._context_names, tf.nest.flatten(context), strict=True))


def _names(nest, prefix):
    """Names for the tensors of a nest of dictionaries, in the order of tf.nest.flatten; without slashes."""
    if not isinstance(nest, Mapping):
        return [prefix]
    return [name for key in sorted(nest) for name in _names(nest[key], f"{prefix}_{key.replace('/', '_')}")]


def _append(state, new, name):
    """[B, U] and [B, N] with their own numbers of valid columns -> [B, longest of the sums], zeros beyond."""
    old = tf.RaggedTensor.from_tensor(state[f"state_{name}"], lengths=state["state_num_tokens"])
    added = tf.RaggedTensor.from_tensor(getattr(new, name), lengths=new.num_tokens)
    return tf.concat([old, added], axis=1).to_tensor()
