"""From waveforms to text: features, encoder, search and detokenising as one graph of plain TensorFlow operations.

These functions are what the SavedModel's signatures run, and what the Python model runs where no SavedModel is made.
All take waveforms [B, S] float32 in -1..1 at the frontend's sample rate and num_samples [B] int32; what stands at or
beyond num_samples, NaN included, has no influence. An utterance shorter than one hop (10 ms) has no frame and no text.
"""

import dataclasses

import tensorflow as tf

from tf_rnnt_kd.decoding import BeamSearch, GreedySearch, PhraseBias, token_times, words_from_tokens
from tf_rnnt_kd.lattice import NEGATIVE_INFINITY, full_sum, node_log_probs

AUDIO = {
    "waveforms": tf.TensorSpec([None, None], tf.float32, name="waveforms"),
    "num_samples": tf.TensorSpec([None], tf.int32, name="num_samples"),
}
TOKENS = {
    "tokens": tf.TensorSpec([None, None], tf.int32, name="tokens"),
    "num_tokens": tf.TensorSpec([None], tf.int32, name="num_tokens"),
}
PHRASES = {
    "phrases": tf.TensorSpec([None, None], tf.int32, name="phrases"),
    "num_phrase_tokens": tf.TensorSpec([None], tf.int32, name="num_phrase_tokens"),
}


class Recognizer:
    """A model with all that stands between it and its users.

    Args:
      model: a Transducer (not tracked: a SavedModel must hold its raw variables).
      tokenizer: a Tokenizer of the model's vocabulary.
      frontend: the LogMelFrontend that the model was trained on.
      search: a GreedySearch.
      n_best_search: a BeamSearch, for `n_best`, with the language models and phrases that it favours.
      phrase_bonus: of the phrases of `n_best_biased`, natural-log units for each token.
      calibration: a Calibration of the words' confidences; None: they are the model's own.

    Raises:
      ValueError: the three do not fit together.
    """

    def __init__(
        self, model, *, tokenizer, frontend, search=GreedySearch(), n_best_search=BeamSearch(), phrase_bonus=1.0,
        calibration=None,
    ):
        if tokenizer.vocab_size != model.vocab_size:
            raise ValueError(
                f"the model has {model.vocab_size} symbols and the tokenizer {tokenizer.vocab_size}: "
                "they come from different trainings"
            )
        if frontend.num_mel_bins != model.num_features:
            raise ValueError(
                f"the model takes {model.num_features} features and the frontend gives {frontend.num_mel_bins}"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.frontend = frontend
        self.search_settings = search
        self.n_best_search = n_best_search
        self.phrase_bonus = float(phrase_bonus)
        self.calibration = calibration
        self.frame_seconds = model.subsampling * frontend.hop / frontend.sample_rate
        # Traced once and shared by all signatures: tracing the encoder takes seconds.
        self._encode = tf.function(
            self._encode, input_signature=[AUDIO["waveforms"], AUDIO["num_samples"]], autograph=False
        )
        self._forced = tf.function(
            self._forced,
            input_signature=[
                tf.TensorSpec([None, None, model.joint_width], model.compute_dtype),
                AUDIO["num_samples"],
                TOKENS["tokens"],
                TOKENS["num_tokens"],
            ],
            autograph=False,
        )

    def recognise(self, waveforms, num_samples):
        """The most likely text.

        Returns:
          A dictionary: text [B] string; tokens [B, U] int32, 0 beyond num_tokens [B] int32; log_prob [B] float32 of the
          path found (natural log); token_frames [B, U] int32, token_confidence, token_start_seconds and
          token_end_seconds [B, U] float32, 0 beyond num_tokens;
          words [B, W] string, '' beyond num_words [B] int32; word_start_seconds, word_end_seconds and word_confidence
          [B, W] float32, 0 beyond num_words. decoding.words defines the times.
        """
        return self.describe(self._search(*self._encode(waveforms, num_samples)))

    def teach(self, waveforms, num_samples):
        """`recognise`, and `teacher_forced` on the tokens found."""
        encoded, lengths = self._encode(waveforms, num_samples)
        found = self._search(encoded, lengths)
        return {**self.describe(found), **self._forced(encoded, lengths, found.tokens, found.num_tokens)}

    def teacher_forced(self, waveforms, num_samples, tokens, num_tokens):
        """The lattice of given tokens [B, U] int32, num_tokens [B] int32, in factored form.

        Returns:
          A dictionary: num_frames [B] int32; encoder_projection [B, T, H] and predictor_projection [B, U + 1, H]
          float32, zero beyond num_frames and num_tokens; full_sum_log_prob [B] float32, the natural log of
          P(tokens | audio), -1e30 where there is no path (tokens without any frame).
        """
        encoded, lengths = self._encode(waveforms, num_samples)
        return self._forced(encoded, lengths, tokens, num_tokens)

    def n_best(self, waveforms, num_samples):
        """The N best hypotheses of a beam search, by their exact full-sum probability and what was favoured.

        Returns:
          A dictionary: tokens [B, N, U] int32, 0 beyond num_tokens [B, N] int32; log_prob [B, N] float32, natural log
          of P(tokens | audio); score [B, N] float32, descending, that and what language models, phrases and length
          bonus add, equal to log_prob where there are none; both -1e30 beyond num_hypotheses [B] int32; text [B, N]
          string.
        """
        return self._n_best(waveforms, num_samples, self.n_best_search)

    def n_best_biased(self, waveforms, num_samples, phrases, num_phrase_tokens):
        """`n_best` that also favours phrases, given as tokens [P, L] int32, num_phrase_tokens [P] of each; P may be 0.

        Each occurrence of one is worth `phrase_bonus` for each of its tokens, see PhraseBias.
        """
        bias = PhraseBias(
            phrases, num_phrase_tokens, vocab_size=self.model.vocab_size, bonus=self.phrase_bonus, name="arguments"
        )
        scorers = (*self.n_best_search.scorers, bias)
        return self._n_best(waveforms, num_samples, dataclasses.replace(self.n_best_search, scorers=scorers))

    def _n_best(self, waveforms, num_samples, search):
        encoded, lengths = self._encode(waveforms, num_samples)
        found = search(self.model, encoded, lengths)
        count = search.beam
        shape = tf.shape(found.tokens)
        exists = tf.sequence_mask(found.num_hypotheses, count)
        forced = self._forced(
            tf.repeat(encoded, count, axis=0),
            tf.repeat(lengths, count),
            tf.reshape(found.tokens, [-1, shape[2]]),
            tf.reshape(found.num_tokens, [-1]),
        )
        log_prob = tf.where(exists, tf.reshape(forced["full_sum_log_prob"], shape[:2]), NEGATIVE_INFINITY)
        score = tf.where(exists, log_prob + found.external, NEGATIVE_INFINITY)
        order = tf.argsort(score, axis=1, direction="DESCENDING", stable=True)
        tokens, num_tokens, log_prob, score = (
            tf.gather(x, order, batch_dims=1) for x in (found.tokens, found.num_tokens, log_prob, score)
        )
        text = self.text(tf.reshape(tokens, [-1, shape[2]]), tf.reshape(num_tokens, [-1]))
        return {
            "tokens": tokens,
            "num_tokens": num_tokens,
            "log_prob": log_prob,
            "score": score,
            "num_hypotheses": found.num_hypotheses,
            "text": tf.reshape(text, shape[:2]),
        }

    def hidden(self, waveforms, num_samples):
        """{layer name: [B, T, D] float32, 0 beyond num_frames; num_frames: [B] int32}, each layer of the encoder."""
        layers, lengths = self.model.encoder_layers(*self._features(waveforms, num_samples))
        return {"num_frames": lengths, **{name: tf.cast(x, tf.float32) for name, x in layers.items()}}

    def score(self, waveforms, num_samples, tokens, num_tokens):
        """{log_prob: [B]}, the full-sum natural-log probability of the tokens, as in `teacher_forced`."""
        forced = self.teacher_forced(waveforms, num_samples, tokens, num_tokens)
        return {"log_prob": forced["full_sum_log_prob"]}

    def joint(self):
        """{kernel: [H, V], bias: [V]}; what a lattice.Joint needs besides, metadata.json says under `joint`."""
        return {
            "kernel": tf.cast(tf.convert_to_tensor(self.model.joint_kernel), tf.float32),
            "bias": tf.cast(tf.convert_to_tensor(self.model.joint_bias), tf.float32),
        }

    def describe(self, found):
        """A search's result (any with the fields of GreedyResult) -> the dictionary of `recognise`."""
        words = words_from_tokens(
            found.tokens,
            num_tokens=found.num_tokens,
            token_frames=found.token_frames,
            token_confidence=found.token_confidence,
            pieces=self.tokenizer.pieces,
            frame_seconds=self.frame_seconds,
            calibration=self.calibration,
        )
        times = token_times(found.token_frames, num_tokens=found.num_tokens, frame_seconds=self.frame_seconds)
        return {
            "text": self.text(found.tokens, found.num_tokens),
            "tokens": found.tokens,
            "num_tokens": found.num_tokens,
            "log_prob": found.log_prob,
            "token_frames": found.token_frames,
            "token_confidence": found.token_confidence,
            **times._asdict(),
            **words._asdict(),
        }

    def text(self, tokens, num_tokens):
        """Tokens [B, U] -> [B] string."""
        return self.tokenizer.decode_tf(tokens, num_tokens)

    def search(self, encoded, lengths, *, state):
        """What greedy_decode gives under this recogniser's settings."""
        return self.search_settings(self.model, encoded, lengths, state=state)

    def _search(self, encoded, lengths):
        return self.search(encoded, lengths, state=None)

    def _encode(self, waveforms, num_samples):
        """(encoder projection [B, T, H], lengths [B]); T is at least 1."""
        return self.model.encode(*self._features(waveforms, num_samples))

    def _features(self, waveforms, num_samples):
        num_samples = drop_less_than_a_hop(num_samples, hop=self.frontend.hop)
        # At least one frame, because the encoder does not take tensors without any.
        waveforms = tf.pad(waveforms, [[0, 0], [0, tf.maximum(self.frontend.hop - tf.shape(waveforms)[1], 0)]])
        return self.frontend(waveforms, num_samples)

    def _forced(self, encoded, lengths, tokens, num_tokens):
        tokens = tf.where(tf.sequence_mask(num_tokens, tf.shape(tokens)[1]), tokens, 0)
        predicted = tf.cast(self.model.predict_labels(tokens), tf.float32)
        encoded = tf.cast(encoded, tf.float32)
        joint = self.model.joint(encoded, predicted)
        # A lattice has at least one frame; the sum over one that no utterance has is replaced below.
        at_least_one = tf.maximum(lengths, 1)
        nodes = node_log_probs(
            **joint._asdict(), labels=tokens, logit_lengths=at_least_one, label_lengths=num_tokens
        )
        log_prob = full_sum(nodes, logit_lengths=at_least_one, label_lengths=num_tokens)
        # Nothing was heard: certain if nothing is claimed, impossible otherwise.
        without_frames = tf.where(num_tokens == 0, 0.0, NEGATIVE_INFINITY)
        return {
            "num_frames": lengths,
            "encoder_projection": _zero_beyond(encoded, lengths),
            "predictor_projection": _zero_beyond(predicted, num_tokens + 1),
            "full_sum_log_prob": tf.where(lengths > 0, log_prob, without_frames),
        }


def drop_less_than_a_hop(num_samples, *, hop):
    """num_samples [B], 0 where it is less than `hop`: a click is no speech, whatever the model makes of it."""
    return tf.where(num_samples < hop, 0, num_samples)


def _zero_beyond(values, lengths):
    """[B, N, H] with zeros from lengths [B] on."""
    return tf.where(tf.sequence_mask(lengths, tf.shape(values)[1])[:, :, None], values, 0.0)
