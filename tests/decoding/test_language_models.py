"""N-gram and neural language models against naive readers in plain Python, alone and in a search."""

import gzip
import math

import numpy as np
import pytest
import tensorflow as tf
from toy_transducer import WIDTH, ToyTransducer, enumerated, hypotheses

from tf_rnnt_kd.decoding import BeamSearch, NeuralLanguageModel, NgramLanguageModel, read_arpa

PIECES = ["<blank>", "▁A", "▁B", "C"]

# "C" is listed nowhere, so that <unk> stands for it; D is no piece; back-off weights are left out here and there.
TRIGRAM = """
\\data\\
ngram 1=6
ngram 2=7
ngram 3=5

\\1-grams:
-1.2\t<unk>\t-0.15
-99\t<s>\t-0.4
-0.9\t</s>
-0.6\t▁A\t-0.3
-0.7\t▁B\t-0.25
-1.5\tD\t-0.1

\\2-grams:
-0.35\t<s> ▁A\t-0.2
-0.5\t▁A ▁B\t-0.45
-0.8\t▁B ▁A
-0.65\t▁A </s>
-0.95\t▁B <unk>\t-0.05
-0.4\t<unk> ▁A\t-0.12
-0.2\tD ▁A\t-0.3

\\3-grams:
-0.11\t<s> ▁A ▁B
-0.21\t▁A ▁B ▁A
-0.31\t▁A ▁B </s>
-0.41\t▁B <unk> ▁A
-0.51\t▁B <unk> <unk>

\\end\\
"""
UNIGRAM = "\\data\\\nngram 1=4\n\n\\1-grams:\n-0.5 ▁A\n-0.6 ▁B\n-0.7 C\n-0.9 </s>\n\n\\end\\\n"
BIGRAM_OF_WORDS = (
    "\\data\\\nngram 1=5\nngram 2=2\n\\1-grams:\n-99 <s> -0.2\n-0.9 </s>\n-0.4 UP -0.1\n-0.5 GO -0.3\n-2 <UNK>\n"
    "\\2-grams:\n-0.1 <s> GO\n-0.2 GO UP\n\\end\\\n"
)


class NaiveArpa:
    """{n-gram: (log10 probability, log10 back-off)} and the recursion that defines the format."""

    def __init__(self, text):
        self.rows, self.order = {}, 0
        for line in text.splitlines():
            if line.startswith("\\") and "-grams" in line:
                self.order = int(line[1 : line.index("-")])
            elif self.order and line and not line.startswith("\\"):
                fields = line.split()
                weight = float(fields[self.order + 1]) if len(fields) > self.order + 1 else 0.0
                self.rows[tuple(fields[1 : self.order + 1])] = float(fields[0]), weight

    def log10(self, word, context):
        if (word,) not in self.rows:
            word = "<unk>"
        context = tuple(w if (w,) in self.rows else "<unk>" for w in context)[-(self.order - 1) :]
        return self._log10(word, context if self.order > 1 else ())

    def _log10(self, word, context):
        if (*context, word) in self.rows:
            return self.rows[(*context, word)][0]
        return self.rows.get(context, (0, 0.0))[1] + self._log10(word, context[1:])

    def total(self, tokens, pieces=PIECES):
        """ln P(tokens and the end of the sentence)."""
        words = ["<s>", *(pieces[token] for token in tokens), "</s>"]
        return math.log(10) * sum(self.log10(words[i], words[:i]) for i in range(1, len(words)))


@pytest.fixture
def arpa(tmp_path):
    def write(text, name="lm.arpa"):
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return write


def walk(scorer, tokens):
    """[scores of all next labels before each of `tokens` and after the last], final score: of one hypothesis."""
    state, rows = scorer.start(1), []
    for token in tokens:
        rows.append(scorer.label_scores(state)[0].numpy())
        state = scorer.advance(state, tf.constant([token]))
    rows.append(scorer.label_scores(state)[0].numpy())
    return rows, float(scorer.final(state)[0])


@pytest.mark.parametrize(("text", "name"), [(TRIGRAM, "a.arpa"), (UNIGRAM, "a.arpa"), (TRIGRAM, "a.arpa.gz")])
def test_every_probability_equals_the_definition(arpa, text, name):
    naive = NaiveArpa(text)
    scorer = NgramLanguageModel.from_arpa(arpa(text, name), pieces=PIECES, weight=0.5)
    random = np.random.default_rng(0)
    for length in (0, 1, 2, 3, 9):
        tokens = random.integers(1, 4, size=length).tolist()
        rows, final = walk(scorer, tokens)
        words = ["<s>", *(PIECES[token] for token in tokens)]
        for i, row in enumerate(rows):
            expected = [0.5 * math.log(10) * naive.log10(piece, words[: i + 1]) for piece in PIECES[1:]]
            np.testing.assert_allclose(row, expected, rtol=1e-5)
        np.testing.assert_allclose(final, 0.5 * math.log(10) * naive.log10("</s>", words), rtol=1e-5)


def test_probabilities_of_a_batch_are_those_of_each(arpa):
    scorer = NgramLanguageModel.from_arpa(arpa(TRIGRAM), pieces=PIECES, weight=1.0)
    sequences = np.array([[1, 2, 1], [2, 3, 3], [3, 1, 2], [1, 2, 3]])
    state = scorer.start(4)
    for column in sequences.T:
        state = scorer.advance(state, tf.constant(column, tf.int32))
    together = scorer.label_scores(state)
    for row, tokens in zip(together, sequences, strict=True):
        np.testing.assert_allclose(row, walk(scorer, tokens)[0][-1], rtol=1e-6)


def test_a_vocabulary_of_words_needs_no_marks(arpa):
    pieces = ["<blank>", "▁GO", "▁UP", "▁RARE"]
    scorer = NgramLanguageModel.from_arpa(arpa(BIGRAM_OF_WORDS), pieces=pieces, weight=1.0)
    rows, final = walk(scorer, [1])
    np.testing.assert_allclose(rows[0] / math.log(10), [-0.1, -0.2 - 0.4, -0.2 - 2.0], rtol=1e-5)
    np.testing.assert_allclose(rows[1] / math.log(10), [-0.3 - 0.5, -0.2, -0.3 - 2.0], rtol=1e-5)
    np.testing.assert_allclose(final / math.log(10), -0.3 - 0.9, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "end"),
        ("some text\n\\end\\", "promises"),
        (TRIGRAM.replace("\\end\\", ""), "cut short"),
        (TRIGRAM.replace("-0.21\t", "-0.2x\t"), "line 26"),
        (TRIGRAM.replace("ngram 3=5", "ngram 3=6"), "promises"),
        (TRIGRAM.replace("-0.5\t▁A ▁B\t-0.45", "-0.5\t▁A"), "fields"),
        (UNIGRAM.replace(" C\n", " D\n"), "lacks 1 pieces"),
        (UNIGRAM.replace("▁A", "E").replace("▁B", "F").replace(" C", " G"), "none of the tokenizer's pieces"),
    ],
)
def test_what_is_no_language_model_for_these_pieces_is_refused(arpa, text, message):
    with pytest.raises(ValueError, match=message):
        read_arpa(arpa(text), pieces=PIECES)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        NgramLanguageModel.from_arpa(tmp_path / "no.arpa", pieces=PIECES, weight=1.0)


def neural(weight):
    """A recurrence over all tokens before; and ln P(tokens, end) of it in float64."""
    random = np.random.default_rng(4)
    embedding, kernel = random.normal(size=(4, 3)), random.normal(size=(3, 4))

    def step(tokens, state):
        state = tf.tanh(0.5 * state + tf.gather(embedding.astype(np.float32), tokens))
        return tf.matmul(state, kernel.astype(np.float32)), state

    def total(tokens):
        state, score = np.zeros(3), 0.0
        for read, written in zip((0, *tokens), (*tokens, 0), strict=True):
            state = np.tanh(0.5 * state + embedding[read])
            logits = state @ kernel
            score += logits[written] - np.log(np.sum(np.exp(logits)))
        return weight * score

    return NeuralLanguageModel(step, initial_state=lambda n: tf.zeros([n, 3]), weight=weight, name="toy"), total


@pytest.mark.parametrize("kind", ["n-gram", "neural", "both"])
def test_a_wide_beam_adds_them_exactly_to_each_sequence(arpa, kind):
    naive, (network, network_total) = NaiveArpa(TRIGRAM), neural(-0.3)
    grams = NgramLanguageModel.from_arpa(arpa(TRIGRAM), pieces=PIECES, weight=0.7)
    scorers = {"n-gram": (grams,), "neural": (network,), "both": (grams, network)}[kind]
    model, frames = ToyTransducer(seed=3), np.random.default_rng(1).normal(size=(1, 3, WIDTH)).astype(np.float32)
    exact = enumerated(model, frames[0], 1)
    search = BeamSearch(200, 1, expansion_margin=None, length_bonus=0.2, scorers=scorers)
    traced = tf.function(lambda x: search(model, x, [3]), input_signature=[tf.TensorSpec([None, None, WIDTH])])
    result = traced(frames)
    assert set(hypotheses(result, 0)) == exact.keys()
    expected = {}
    for tokens in exact:
        expected[tokens] = 0.2 * len(tokens)
        expected[tokens] += 0.7 * naive.total(tokens) if grams in scorers else 0.0
        expected[tokens] += network_total(tokens) if network in scorers else 0.0
    for n, tokens in enumerate(hypotheses(result, 0)):
        np.testing.assert_allclose(result.external[0, n], expected[tokens], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(result.score[0, n], exact[tokens] + expected[tokens], rtol=1e-4, atol=1e-4)
    assert hypotheses(result, 0)[0] == max(exact, key=lambda tokens: exact[tokens] + expected[tokens])


def test_they_change_what_a_narrow_beam_finds(arpa):
    model, frames = ToyTransducer(seed=3), np.random.default_rng(2).normal(size=(4, 9, WIDTH)).astype(np.float32)
    grams = NgramLanguageModel.from_arpa(arpa(TRIGRAM), pieces=PIECES, weight=2.0)
    naive, lengths = NaiveArpa(TRIGRAM), [9] * 4
    plain, fused = (BeamSearch(3, scorers=scorers)(model, frames, lengths) for scorers in ((), (grams,)))
    mean = [np.mean([naive.total(hypotheses(result, b)[0]) for b in range(4)]) for result in (plain, fused)]
    assert mean[1] > mean[0] + 1.0


def test_they_say_what_they_are(arpa):
    grams = NgramLanguageModel.from_arpa(arpa(TRIGRAM), pieces=PIECES, weight=0.7)
    told = BeamSearch(scorers=(grams, neural(0.1)[0])).describe()["scorers"]
    assert told[0]["order"] == 3 and told[0]["name"].startswith("lm.arpa ") and told[0]["weight"] == 0.7
    assert told[1] == {"kind": "neural language model", "name": "toy", "weight": 0.1}
