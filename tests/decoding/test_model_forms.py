"""Search with a predictor whose state is a nest, over a joint that multiplies and whose blank is factorised."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.decoding import beam_decode, greedy_decode

WIDTH, SYMBOLS = 5, 4
FORM = {"combination": "multiply", "factorised_blank": True}


class RecurrentTransducer:
    """A predictor with two state tensors of different rank that remember all labels, and the joint above."""

    def __init__(self, seed=0, blank_bias=0.0):
        random = np.random.default_rng(seed)
        self.embedding = random.normal(size=(SYMBOLS, WIDTH)).astype(np.float32)
        self.kernel = (1.5 * random.normal(size=(WIDTH, SYMBOLS))).astype(np.float32)
        self.bias = np.array([blank_bias, 0, 0, 0], np.float32)

    def predictor_start(self, batch_size):
        return {"sum": {"h": tf.ones([batch_size, WIDTH])}, "last": tf.zeros([batch_size], tf.int32)}

    def predictor_project(self, context):
        return context["sum"]["h"] + 0.5 * tf.gather(self.embedding, context["last"])

    def predictor_advance(self, context, tokens):
        h = tf.tanh(0.7 * context["sum"]["h"] + tf.gather(self.embedding, tokens))
        return {"sum": {"h": h}, "last": tokens}

    def joint_logits(self, encoder_projection, predictor_projection):
        logits = tf.tensordot(tf.tanh(encoder_projection * predictor_projection), self.kernel, 1) + self.bias
        return lattice.factorised_log_probs(logits)

    def predict_labels(self, labels):
        """[U] -> [1, U + 1, WIDTH]."""
        context, projections = self.predictor_start(1), []
        for label in (*labels, 0):
            projections.append(self.predictor_project(context))
            context = self.predictor_advance(context, tf.constant([label]))
        return tf.stack(projections, axis=1)


def greedy_reference(model, frames, max_symbols):
    """One utterance [T, H] -> (tokens, log-prob of the path), node by node in float64."""
    state, last, tokens, total = np.ones(WIDTH), 0, [], 0.0
    for frame in frames.astype(np.float64):
        for emitted in range(max_symbols + 1):
            predicted = state + 0.5 * model.embedding[last]
            logits = np.tanh(frame * predicted) @ model.kernel + model.bias
            blank = 1.0 / (1.0 + np.exp(-logits[0]))
            labels = (1.0 - blank) * np.exp(logits[1:]) / np.sum(np.exp(logits[1:]))
            probs = np.concatenate([[blank], labels])
            best = 0 if emitted == max_symbols else int(np.argmax(probs))
            total += np.log(probs[best])
            if best == 0:
                break
            tokens.append(best)
            state, last = np.tanh(0.7 * state + model.embedding[best]), best
    return tokens, total


@pytest.fixture(scope="module")
def encoded():
    return np.random.default_rng(2).normal(size=(3, 8, WIDTH)).astype(np.float32)


def test_greedy_equals_a_node_by_node_decoder_at_once_and_in_pieces(encoded):
    model, lengths = RecurrentTransducer(blank_bias=-0.5), [8, 3, 5]
    found = greedy_decode(model, encoded, lengths, max_symbols_per_frame=2)
    for b, length in enumerate(lengths):
        tokens, log_prob = greedy_reference(model, encoded[b, :length], 2)
        assert found.tokens[b, : found.num_tokens[b]].numpy().tolist() == tokens
        np.testing.assert_allclose(found.log_prob[b], log_prob, rtol=1e-5)
    assert int(tf.reduce_sum(found.num_tokens)) > 5
    first = greedy_decode(model, encoded[:1, :3], [3], max_symbols_per_frame=2)
    second = greedy_decode(model, encoded[:1, 3:], [5], max_symbols_per_frame=2, state=first.state)
    joined = [*first.tokens[0].numpy(), *second.tokens[0].numpy()]
    assert joined == found.tokens[0, : found.num_tokens[0]].numpy().tolist()


def test_one_place_is_greedy_search(encoded):
    model, lengths = RecurrentTransducer(blank_bias=-0.5), [8, 0, 5]
    greedy = greedy_decode(model, encoded, lengths, max_symbols_per_frame=2)
    beam = beam_decode(model, encoded, lengths, beam=1, max_symbols_per_frame=2)
    np.testing.assert_array_equal(beam.tokens[:, 0], greedy.tokens)
    np.testing.assert_allclose(beam.score[:, 0], greedy.log_prob, rtol=1e-5)


def test_scores_of_a_wide_beam_are_the_full_sums_of_the_lattice(encoded):
    """Two frames of at most two symbols: every sequence of at most two labels keeps all of its alignments."""
    model = RecurrentTransducer(seed=1)
    settings = {"beam": 600, "max_symbols_per_frame": 2, "expansion_margin": None}
    found = beam_decode(model, encoded[:1, :2], [2], **settings)
    assert int(found.num_hypotheses[0]) == sum(3**n for n in range(5))
    compared = 0
    for n in range(int(found.num_hypotheses[0])):
        tokens = found.tokens[0, n, : found.num_tokens[0, n]].numpy()
        if len(tokens) > 2:
            continue
        lengths = {"logit_lengths": [2], "label_lengths": [len(tokens)]}
        joint = lattice.Joint(encoded[:1, :2], model.predict_labels(tokens), model.kernel, model.bias, **FORM)
        nodes = lattice.node_log_probs(**joint._asdict(), labels=tokens[None], **lengths)
        np.testing.assert_allclose(found.score[0, n], lattice.full_sum(nodes, **lengths)[0], rtol=1e-5)
        compared += 1
    assert compared == 13
