"""What a study found, against counting by hand."""

import json

import numpy as np
import pytest
from toy_study import WORDS, Execution, result

from tf_rnnt_kd.studies import Runner, page
from tf_rnnt_kd.studies.pooling import pooled, pooled_improvement
from tf_rnnt_kd.studies.results import summarise


def test_seeds_are_pooled_utterance_by_utterance():
    counts = pooled([result("a", [1, 0, 2, 0]), result("a", [0, 0, 1, 1])])
    np.testing.assert_array_equal(counts.errors, [1, 0, 3, 1])
    np.testing.assert_array_equal(counts.words, 2 * np.array(WORDS))
    with pytest.raises(ValueError, match="not measured on the same utterances"):
        other = result("a", [0, 0, 0, 0])
        other.per_utterance[0]["reference"] = "another"
        pooled([result("a", [0, 0, 0, 0]), other])


def test_improvement_is_over_utterances_with_all_their_seeds():
    # Better in one seed by as much as worse in the other: nothing is known.
    first, second = result("a", [1, 1, 1, 1]), result("a", [0, 0, 0, 0])
    assert pooled_improvement([first, second], [second, first]) == 0.5
    assert pooled_improvement([second], [first, second]) == 1.0, "of as many seeds as both have"


def test_the_page_says_what_was_found(make, tmp_path):
    study = Runner(make, execute=Execution()).run()
    summary = json.loads(json.dumps(summarise(study), allow_nan=False))
    systems = {system["name"]: system for system in summary["systems"]}
    assert list(systems) == ["teacher", "few", "many", "from the best"]
    assert systems["many"]["wer"] == pytest.approx(7 / sum(WORDS))
    assert systems["many"]["by_seed"] == [systems["many"]["wer"]] * 2 and systems["many"]["spread"] == 0
    assert systems["teacher"]["spread"] is None and systems["teacher"]["dev_wer"] == pytest.approx(0.47)
    (claim,) = summary["claims"]
    assert claim["verdict"] == "holds" and claim["seeds_better"] == [2, 2]
    assert claim["relative"] == pytest.approx(1 - 1 / 7)
    text = page.render(summary, picture="rates.png", commands=["python -m x"], about=["Revision y."])
    assert f"| from the best | {100 / sum(WORDS):.2f} |" in text and "+85.7 %" in text and "    python -m x" in text
    page.draw(summary, tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("errors", "verdict"), [((9, 9, 9, 9), "does not hold"), ((2, 1, 3, 1), "undecided")])
def test_claims_that_do_not_hold_are_said(make, errors, verdict):
    study = Runner(make, execute=Execution()).run()
    for (system, _, _), path in study.results.items():
        if system == "from the best":
            result("worse", list(errors)).save(path)
    assert summarise(study)["claims"][0]["verdict"] == verdict
