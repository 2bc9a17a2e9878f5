"""Reliability against a count word by word, fitted curves against a search of all, and their place in results."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tf_rnnt_kd.decoding import Calibration
from tf_rnnt_kd.evaluation import calibration, confidence, report, results
from tf_rnnt_kd.evaluation.corpus import Corpus
from tf_rnnt_kd.evaluation.systems import Hypothesis, Speed
from tf_rnnt_kd.records.schema import Utterance


def overconfident(count, seed=0):
    """(confidence, correct): a word is right with probability sigmoid(0.5 * logit(confidence) - 0.4)."""
    random = np.random.default_rng(seed)
    logit = random.normal(1.5, 2.0, size=count)
    true = 1 / (1 + np.exp(-(0.5 * logit - 0.4)))
    return 1 / (1 + np.exp(-logit)), random.uniform(size=count) < true


def cross_entropy(p, correct):
    return -np.mean(np.where(correct, np.log(p), np.log(1 - p)))


def test_reliability_equals_a_count_word_by_word():
    sure, correct = overconfident(400)
    found = confidence.reliability(sure, correct=correct, num_bins=5)
    gap = total = 0.0
    for k in range(5):
        inside = [i for i in range(400) if k / 5 <= sure[i] < (k + 1) / 5]
        right = sum(bool(correct[i]) for i in inside) / len(inside)
        mean = sum(sure[i] for i in inside) / len(inside)
        assert found["bins"][k] == pytest.approx({"words": len(inside), "confidence": mean, "accuracy": right})
        gap, total = gap + len(inside) * abs(right - mean), total + len(inside)
    assert found["ece"] == pytest.approx(gap / total) and found["words"] == total == 400
    share = correct.mean()
    expected = 1 - cross_entropy(sure, correct) / cross_entropy(np.full(400, share), correct)
    assert found["nce"] == pytest.approx(expected)


def test_edges_of_reliability():
    assert confidence.reliability(np.array([]), correct=np.array([])) is None
    found = confidence.reliability(np.array([0.0, 1.0, 1.0]), correct=np.array([False, True, True]))
    assert found["ece"] == 0.0 and found["nce"] == pytest.approx(1.0, abs=1e-5) and len(found["bins"]) == 2
    assert confidence.reliability(np.array([0.5]), correct=np.array([True]))["nce"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_words_are_right_by_the_alignment_of_the_word_error_rate():
    found = confidence.correct_words(["GO LEFT NOW", "", "STOP"], hypotheses=["GO RIGHT NOW NOW", "UP", ""])
    assert found[0][:2] == [True, False] and sum(found[0]) == 2 and found[1:] == [[False], []]


def test_platt_finds_the_curve_and_no_other_is_better():
    sure, correct = overconfident(20_000)
    fitted = calibration.fit(sure, correct=correct)
    assert fitted.scale == pytest.approx(0.5, abs=0.05) and fitted.offset == pytest.approx(-0.4, abs=0.08)
    best = cross_entropy(fitted(sure).numpy(), correct)
    for scale, offset in ((0.05, 0), (-0.05, 0), (0, 0.05), (0, -0.05), (0.03, -0.04)):
        other = Calibration(fitted.scale + scale, fitted.offset + offset)
        assert cross_entropy(other(sure).numpy(), correct) > best
    before, after = (confidence.reliability(p, correct=correct) for p in (sure, fitted(sure).numpy()))
    assert before["ece"] > 0.15 and after["ece"] < 0.02 and after["nce"] > 0.05 > before["nce"]


def test_temperature_fits_the_scale_alone():
    sure, correct = overconfident(5000)
    fitted = calibration.fit(sure, correct=correct, method="temperature")
    assert fitted.offset == 0.0
    grid = np.arange(0.02, 2.0, 0.02)
    losses = [cross_entropy(Calibration(scale, 0.0)(sure).numpy(), correct) for scale in grid]
    assert fitted.scale == pytest.approx(grid[int(np.argmin(losses))], abs=0.021)


@pytest.mark.parametrize("method", calibration.METHODS)
def test_few_or_perfect_words_give_a_curve_still(method):
    perfect = np.linspace(0.3, 0.9, 40), [True] * 40
    for sure, correct in (([0.9], [True]), ([0.2, 0.9], [False, True]), ([1.0] * 50, [True] * 50), perfect):
        fitted = calibration.fit(sure, correct=correct, method=method)
        assert np.isfinite([fitted.scale, fitted.offset]).all() and fitted.scale > 0.1


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="choose of platt, temperature"):
        calibration.fit([0.5], correct=[True], method="isotonic")
    with pytest.raises(ValueError, match="at least one"):
        calibration.fit([], correct=[])
    sure = np.linspace(0.01, 0.99, 200)
    with pytest.raises(ValueError, match="not more often right"):
        calibration.fit(sure, correct=sure < 0.5)


def result_of(sure, correct, *, split="dev", **settings):
    """A result of utterances of three words each."""
    corpus = Corpus(name=split, source="somewhere", size=len(sure) // 3)
    pairs = []
    for i in range(corpus.size):
        rows = slice(3 * i, 3 * i + 3)
        text = " ".join("YES" if right else "NO" for right in correct[rows])
        utterance = Utterance(f"u{i:04d}", np.zeros(1, np.float32), "YES YES YES", "s", split)
        pairs.append((utterance, Hypothesis(text, (0.0,) * 3, word_confidence=tuple(sure[rows]))))
    return results.score(
        pairs, name="a", system="dir", parameters=1, corpus=corpus, speed=Speed(1.0, 1.0, "a watch"), **settings
    )


def test_results_hold_confidences_before_and_after_calibration(tmp_path):
    sure, correct = overconfident(600)
    curve = Calibration(0.5, -0.4)
    result = result_of(sure, correct, calibration=curve)
    kept = np.array([round(float(value), 6) for value in sure])
    assert result.confidence == confidence.reliability(kept, correct=correct)
    expected = confidence.reliability(curve(kept).numpy(), correct=correct)
    assert result.calibrated_confidence["ece"] == pytest.approx(expected["ece"], abs=1e-6)
    assert result.calibration == {"scale": 0.5, "offset": -0.4}
    values, rights = confidence.words_of(result.per_utterance)
    np.testing.assert_allclose(values, sure, atol=1e-6)
    np.testing.assert_array_equal(rights, correct)
    result.save(tmp_path / "r.json")
    assert results.Result.load(tmp_path / "r.json") == result


def test_a_system_without_confidences_has_none():
    utterance = Utterance("u", np.zeros(1, np.float32), "YES", "s", "dev")
    corpus = Corpus(name="dev", source="somewhere", size=1)
    settings = {"name": "a", "system": "d", "parameters": 1, "corpus": corpus, "speed": Speed(1.0, 1.0, "")}
    result = results.score([(utterance, Hypothesis("YES", (0.0,)))], **settings, calibration=Calibration(0.5, 0.0))
    assert result.confidence is None and result.calibrated_confidence is None
    assert "word_confidence" not in result.per_utterance[0]


def test_the_report_shows_them():
    sure, correct = overconfident(600)
    result = result_of(sure, correct, calibration=Calibration(0.5, -0.4))
    summary = report.summarise([result], baseline="a", pseudo_labels={})
    page = report.render(summary, results=[result], title="t", logs={})
    assert "Confidence of words" in page and page.count("data:image/svg+xml") == 2
    for found in (result.confidence, result.calibrated_confidence):
        assert f"<td>{100 * found['ece']:.2f}</td>" in page
    plain = results.score(
        [(Utterance("u", np.zeros(1, np.float32), "YES", "s", "dev"), Hypothesis("YES", (0.0,)))],
        name="a", system="d", parameters=1, corpus=Corpus(name="dev", source="x", size=1), speed=Speed(1.0, 1.0, ""),
    )  # fmt: skip
    summary = report.summarise([plain], baseline="a", pseudo_labels={})
    assert "Confidence of words" not in report.render(summary, results=[plain], title="t", logs={})


def test_the_binary_fits_on_one_result_and_measures_on_another(tmp_path):
    for name, seed in (("dev", 0), ("test", 1)):
        result_of(*overconfident(3000, seed), split=name).save(tmp_path / f"{name}.json")
    command = [sys.executable, "-m", "tf_rnnt_kd.calibrate", f"--result={tmp_path}/dev.json"]
    run = subprocess.run(
        [*command, f"--output={tmp_path}/c.json", f"--test_results={tmp_path}/test.json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    fitted = Calibration.load(tmp_path / "c.json")
    assert fitted.scale == pytest.approx(0.5, abs=0.1) and fitted.offset == pytest.approx(-0.4, abs=0.15)
    assert json.loads((tmp_path / "c.json").read_text())["fitted_on"] == "dev"
    lines = run.stdout.splitlines()
    assert len(lines) == 3 and lines[1].startswith("dev: 3000 words") and lines[2].startswith("test: 3000 words")
