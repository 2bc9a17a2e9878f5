"""What a study found, against counting by hand."""

import json

import numpy as np
import pytest
from toy_study import WORDS, Execution, result

from tf_rnnt_kd.studies import Runner, page, report
from tf_rnnt_kd.studies.pooling import pooled, pooled_improvement
from tf_rnnt_kd.studies.publish import publish
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
    assert [curve["title"] for curve in summary["curves"]] == ["By steps", "By bytes"]
    folder = tmp_path / "page"
    printed = report.write(study, summary, folder=folder, commands=["python -m x"], about=["It went well."])
    text = (folder / "README.md").read_text()
    assert f"| from the best | {100 / sum(WORDS):.2f} |" in text and "+85.7 %" in text and "    python -m x" in text
    assert "Of 1 claims 1 hold" in text and "It went well." in text and "1 export" in text and str(folder) in printed
    for name in ("word_error_rates.png", "by_steps.png", "by_bytes.png"):
        assert name in text and (folder / name).read_bytes().startswith(b"\x89PNG")
    again = json.loads((folder / "results.json").read_text())
    report.render(again, tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == text, "the page follows from results.json alone"


def test_all_studies_of_a_work_folder_on_one_page(make, tmp_path):
    study = Runner(make, execute=Execution()).run()
    with pytest.raises(ValueError, match="--workdir: no NAME/results.json in"):
        publish(tmp_path / "work", output=tmp_path / "docs")
    report.write(study, summarise(study), folder=tmp_path / "work" / "toy", commands=["python -m x"])
    assert publish(tmp_path / "work", output=tmp_path / "docs") == ["toy"]
    text = (tmp_path / "docs" / "README.md").read_text()
    assert "| [A toy](toy/README.md) | 2 | 4 | from the best |" in text and "a warm start helps" in text
    assert (tmp_path / "docs" / "toy" / "README.md").exists()
    # Another one, from another work folder, later.
    other = summarise(study) | {"name": "second", "title": "B toy"}
    report.write(study, other, folder=tmp_path / "later" / "second", commands=[])
    assert publish(tmp_path / "later", output=tmp_path / "docs") == ["second"]
    text = (tmp_path / "docs" / "README.md").read_text()
    assert text.index("| [B toy](second/README.md)") < text.index("| [A toy](toy/README.md)")
    small = Runner(lambda: make(miniature=True), execute=Execution()).run()
    report.write(small, summarise(small), folder=tmp_path / "work" / "toy", commands=["python -m x"])
    with pytest.raises(ValueError, match="toy in .* are miniatures"):
        publish(tmp_path / "work", output=tmp_path / "docs")


def test_other_places_have_columns_and_claims(make, definition):
    def everywhere(study):
        teacher = study.train("teacher", variant="teacher", data=[study.records("train-labeled")])
        other = study.train("other", variant="other", data=[study.records("train-labeled")])
        study.measure("test")
        study.measure("test", systems=[teacher, other], of="rooms", name="noisy")
        study.measure("test", systems=[teacher], of="lines", name="narrow")
        study.claim("the other one is better in noise", better=other, worse=teacher, where="noisy test")

    study = Runner(lambda: make(definition=definition._replace(get_study=everywhere)), execute=Execution()).run()
    summary = summarise(study)
    assert summary["split"] == "test" and summary["claims"][0]["where"] == "noisy test"
    places = [list(system["elsewhere"]) for system in summary["systems"]]
    assert places == [["noisy test", "narrow test"], ["noisy test"]]
    header, _, teacher, other = page.table(summary)
    assert "noisy test WER %" in header and teacher.count(" (") == 2 and other.count(" (") == 1
    assert "--records=rooms" in " ".join(" ".join(job.arguments) for job in study.jobs.values())


@pytest.mark.parametrize(("errors", "verdict"), [((9, 9, 9, 9), "does not hold"), ((2, 1, 3, 1), "undecided")])
def test_claims_that_do_not_hold_are_said(make, errors, verdict):
    study = Runner(make, execute=Execution()).run()
    for (system, _, _), path in study.results.items():
        if system == "from the best":
            result("worse", list(errors)).save(path)
    assert summarise(study)["claims"][0]["verdict"] == verdict
