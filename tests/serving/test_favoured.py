"""Language model, phrases and calibration on their way from files into an export."""

import math

import numpy as np
import pytest

from tf_rnnt_kd.decoding import BeamSearch, Calibration
from tf_rnnt_kd.serving import Recognizer, describe_model
from tf_rnnt_kd.serving.favoured import read_phrases, scorers_from_files
from tf_rnnt_kd.text import Tokenizer

ARPA = """\\data\\
ngram 1=4

\\1-grams:
-99 <s>
-0.5 </s>
-1.0 <unk>
-0.2 G

\\end\\
"""


def recogniser(student, **settings):
    return Recognizer(student.model, tokenizer=student.tokenizer, frontend=student.frontend, **settings)


def test_phrases_are_tokenised_line_by_line(tmp_path):
    tokenizer = Tokenizer.train_characters(["GO STOP"])
    path = tmp_path / "phrases.txt"
    path.write_text("go stop\n\n  Pots \n", encoding="utf-8")
    found = read_phrases(path, tokenizer=tokenizer)
    assert [tokenizer.decode(tokens) for tokens in found] == ["GO STOP", "POTS"]


@pytest.mark.parametrize(
    ("content", "hint"),
    [(None, "cannot be read"), ("\n \n", "holds no phrase"), ("GO\nZOO\n", "line 2: 'ZOO' has 'Z'")],
)
def test_phrases_that_cannot_be_used(content, hint, tmp_path):
    path = tmp_path / "phrases.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=hint):
        read_phrases(path, tokenizer=Tokenizer.train_characters(["GO STOP"]))


def test_what_is_favoured_changes_scores_and_the_model_id(student, audio, tmp_path):
    (tmp_path / "lm.arpa").write_text(ARPA)
    (tmp_path / "phrases.txt").write_text("GO\n")
    files = {"lm": tmp_path / "lm.arpa", "lm_weight": 0.5, "phrases": tmp_path / "phrases.txt", "phrase_bonus": 2.0}
    scorers = scorers_from_files(student.tokenizer, **files)
    search = BeamSearch(4, 2, scorers=scorers)
    favouring = recogniser(student, n_best_search=search)
    found = {name: x.numpy() for name, x in favouring.n_best(*audio).items()}
    phrase, letter = student.tokenizer.encode("GO"), student.tokenizer.pieces.index("G")
    for b, count in enumerate(found["num_hypotheses"]):
        for n in range(count):
            tokens = found["tokens"][b, n, : found["num_tokens"][b, n]].tolist()
            # A unigram model: one number for G, one for all else, one for the end.
            lm = -0.5 + sum(-0.2 if token == letter else -1.0 for token in tokens)
            phrases = sum(tokens[i : i + len(phrase)] == phrase for i in range(len(tokens)))
            expected = found["log_prob"][b, n] + 0.5 * math.log(10) * lm + 2.0 * len(phrase) * phrases
            np.testing.assert_allclose(found["score"][b, n], expected, rtol=1e-4, atol=1e-3)
    described = describe_model(favouring, config={})
    assert [scorer["kind"] for scorer in described["n_best"]["scorers"]] == ["n-gram language model", "phrases"]
    plain = describe_model(recogniser(student, n_best_search=BeamSearch(4, 2)), config={})
    assert plain["n_best"]["scorers"] == [] and plain["model_id"] != described["model_id"]
    assert scorers_from_files(student.tokenizer) == ()


def test_a_calibration_maps_the_confidence_of_words_alone(student, audio):
    plain = recogniser(student).recognise(*audio)
    calibrated = recogniser(student, calibration=Calibration(scale=0.5, offset=-0.3))
    found = calibrated.recognise(*audio)
    np.testing.assert_array_equal(found["token_confidence"], plain["token_confidence"])
    for b, count in enumerate(found["num_words"].numpy()):
        before = plain["word_confidence"][b, :count].numpy().astype(np.float64)
        expected = 1.0 / (1.0 + np.exp(0.3 - 0.5 * np.log(before / (1.0 - before))))
        np.testing.assert_allclose(found["word_confidence"][b, :count], expected, rtol=1e-3)
        assert not np.any(found["word_confidence"][b, count:])
    metadata = describe_model(calibrated, config={})
    assert metadata["calibration"] == {"scale": 0.5, "offset": -0.3}
    assert metadata["model_id"] != describe_model(recogniser(student), config={})["model_id"]
