"""Recognition of a stream, chunk by chunk, with its whole state in tensors that the caller keeps.

The same frames, encoder and search as offline, so that the same tokens come out whatever the chunks. All streams of one
batch advance together; they may end at different samples of the last piece.
"""

from collections.abc import Mapping

import tensorflow as tf

from tf_rnnt_kd.decoding import GreedyResult, initial_state
from tf_rnnt_kd.decoding.endpoint import DEFAULT_RULES, detect_endpoint, rule_table
from tf_rnnt_kd.serving.recognizer import AUDIO, drop_less_than_a_hop

_TOKEN_FIELDS = ("tokens", "token_frames", "token_confidence")


class StreamingRecognizer:
    """Streams a Recognizer.

    Names of state tensors begin with `state_`; each holds one row per stream. Only the tokens found so
    far grow with the stream. `state_endpoint_rules` may be replaced by as many rules of one's own, see rule_table.

    Args:
      recognizer: a Recognizer whose model streams.
      endpoint_rules: the EndpointRules that a stream begins with.

    Attributes:
      chunk_samples: samples of which a step takes a multiple: an encoder frame, or a chunk that sees itself as a whole.

    Raises:
      ValueError: the model needs the whole utterance.
    """

    def __init__(self, recognizer, *, endpoint_rules=DEFAULT_RULES):
        model = recognizer.model
        if not model.is_streaming:
            raise ValueError(
                "this model's encoder needs the whole utterance: one with a left_context, or a causal LSTM, streams"
            )
        self.recognizer = recognizer
        self._endpoint_rules = rule_table(endpoint_rules)
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
            "state_endpoint_rules": tf.repeat(self._endpoint_rules[None], batch_size, axis=0),
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
          The new state, and
          text [B] string, of the stream so far. Tokens are never taken back, but more of them may lengthen its last
            word; stable_text [B] string, its beginning that stays as it is.
          new_tokens, new_token_frames [B, N] int32, 0 beyond num_new_tokens [B] int32: what these chunks added.
          is_endpoint [B] bool, endpoint_rule [B] int32, trailing_silence_seconds [B] float32: see Endpoint. They tell
            and change nothing: the stream may go on.

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
        text, stable_text = self._texts(state["state_tokens"], state["state_num_tokens"])
        endpoint = detect_endpoint(
            state["state_endpoint_rules"],
            num_frames=state["state_frame"],
            last_token_frame=_last(state["state_token_frames"], state["state_num_tokens"]),
            frame_seconds=self.recognizer.frame_seconds,
        )
        return {
            **state,
            "text": text,
            "stable_text": stable_text,
            "new_tokens": new.tokens,
            "num_new_tokens": new.num_tokens,
            "new_token_frames": new.token_frames,
            **endpoint._asdict(),
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
            **_append(state, new),
            "state_endpoint_rules": state["state_endpoint_rules"],
        }

    def _texts(self, tokens, num_tokens):
        """Tokens [B, U] -> the text [B], and [B] that of all words but the last where tokens may lengthen it."""
        begins_word = self.recognizer.tokenizer.word_start
        if all(begins_word[1:]):
            text = self.recognizer.text(tokens, num_tokens)
            return text, text
        places = tf.range(tf.shape(tokens)[1])[None, :]
        begins = tf.gather(begins_word, tokens) & (places < num_tokens[:, None])
        # The largest of no place at all is below 0.
        stable = tf.maximum(tf.reduce_max(tf.where(begins, places, 0), axis=1), 0)
        both = self.recognizer.text(tf.concat([tokens, tokens], 0), tf.concat([num_tokens, stable], 0))
        return tf.split(both, 2)

    def _named_context(self, context):
        return dict(zip(self._context_names, tf.nest.flatten(context), strict=True))


def _names(nest, prefix):
    """Names for the tensors of a nest of dictionaries, in the order of tf.nest.flatten; without slashes."""
    if not isinstance(nest, Mapping):
        return [prefix]
    return [name for key in sorted(nest) for name in _names(nest[key], f"{prefix}_{key.replace('/', '_')}")]


def _append(state, new):
    """The state's fields of tokens, [B, U] each, with a GreedyResult's [B, N] behind each row's last; zeros beyond."""
    before = state["state_num_tokens"][:, None]
    after = before + new.num_tokens[:, None]
    width = tf.shape(state["state_tokens"])[1]
    places = tf.range(tf.reduce_max(tf.concat([after, [[0]]], 0)))[None, :]
    valid = places < after
    source = tf.where(valid, tf.where(places < before, places, width + places - before), 0)

    def append(name):
        both = tf.concat([state[f"state_{name}"], getattr(new, name)], axis=1)
        return tf.where(valid, tf.gather(both, source, batch_dims=1), tf.zeros([], both.dtype))

    return {f"state_{name}": append(name) for name in _TOKEN_FIELDS}


def _last(values, count):
    """The last of each row's first `count` [B] values [B, U] int32; -1 where there is none."""
    padded = tf.pad(values, [[0, 0], [1, 0]], constant_values=-1)
    return tf.gather(padded, count, batch_dims=1)
