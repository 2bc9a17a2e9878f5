"""A transducer small enough that all of its token sequences can be listed."""

import numpy as np
import tensorflow as tf

WIDTH, SYMBOLS = 6, 4


class ToyTransducer:
    """The interface that the search needs, over fixed numbers; the predictor sees the last two labels."""

    def __init__(self, seed=0, blank_bias=0.5, sharpness=1.5):
        random = np.random.default_rng(seed)
        self.embedding = random.normal(size=(2, SYMBOLS, WIDTH)).astype(np.float32)
        self.kernel = (sharpness * random.normal(size=(WIDTH, SYMBOLS))).astype(np.float32)
        self.bias = np.array([blank_bias, 0, 0, 0], np.float32)

    def predictor_start(self, batch_size):
        return tf.zeros([batch_size, 2], tf.int32)

    def predictor_project(self, context):
        return tf.gather(self.embedding[0], context[:, 0]) + tf.gather(self.embedding[1], context[:, 1])

    def predictor_advance(self, context, tokens):
        return tf.stack([context[:, 1], tokens], axis=1)

    def joint_logits(self, encoder_projection, predictor_projection):
        return tf.tensordot(tf.tanh(encoder_projection + predictor_projection), self.kernel, 1) + self.bias

    def log_probs(self, frame, tokens):
        """Of all symbols at one frame [H] after `tokens`, float64 [V]."""
        context = (0, 0, *tokens)[-2:]
        hidden = np.tanh(frame.astype(np.float64) + self.embedding[0][context[0]] + self.embedding[1][context[1]])
        logits = hidden @ self.kernel + self.bias
        return logits - np.log(np.sum(np.exp(logits)))


def enumerated(model, frames, max_symbols):
    """{tokens: log of the sum over all alignments with at most `max_symbols` a frame}, node by node in float64."""
    found = {(): 0.0}
    for frame in frames:
        after = {}
        active = dict(found)
        for emitted in range(max_symbols + 1):
            following = {}
            for tokens, score in active.items():
                log_probs = model.log_probs(frame, tokens)
                after[tokens] = np.logaddexp(after.get(tokens, -np.inf), score + log_probs[0])
                if emitted < max_symbols:
                    for symbol in range(1, SYMBOLS):
                        following[(*tokens, symbol)] = score + log_probs[symbol]
            active = following
        found = after
    return found


def hypotheses(result, b):
    """The token sequences of utterance b, best first."""
    count = int(result.num_hypotheses[b])
    return [tuple(result.tokens[b, n, : result.num_tokens[b, n]].numpy().tolist()) for n in range(count)]
