"""A result's figures against jiwer, its file read back, and comparisons that must be refused."""

import json
import math

import jiwer
import numpy as np
import pytest

from tf_rnnt_kd.evaluation import results
from tf_rnnt_kd.evaluation.corpus import Corpus, Refused
from tf_rnnt_kd.evaluation.systems import Hypothesis, Speed
from tf_rnnt_kd.records.schema import Utterance

_SPEED = Speed(compute_seconds=2.0, audio_seconds=8.0, method="with a stop-watch")


def _result(hypotheses, *, references=("GO LEFT", "STOP", "UP"), name="system", refused=(), ends=None, words=None):
    corpus = Corpus(name="test", source="somewhere", size=len(references) + len(refused))
    corpus.refused = list(refused)
    pairs = []
    for index, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        times = tuple(ends[index]) if ends else tuple(0.0 for _ in hypothesis.split())
        utterance = Utterance(
            f"u{index}", np.zeros(1, np.float32), reference, "s", "test", words=words[index] if words else ()
        )
        pairs.append((utterance, Hypothesis(hypothesis, times)))
    return results.score(pairs, name=name, system="dir", parameters=10, corpus=corpus, speed=_SPEED)


def test_figures_and_file(tmp_path):
    hypotheses = ["go right", "STOP STOP", ""]
    result = _result(hypotheses, refused=[Refused("bad", "truncated", "bad.flac: cut short")])
    assert result.wer == pytest.approx(jiwer.wer(["GO LEFT", "STOP", "UP"], ["GO RIGHT", "STOP STOP", ""]))
    assert (result.substitutions, result.insertions, result.deletions, result.words) == (1, 1, 1, 4)
    assert result.interval[0] <= result.wer <= result.interval[1]
    assert (result.found, result.utterances, result.refused) == (4, 3, {"truncated": 1})
    assert result.real_time_factor == 0.25 and result.delay is None
    result.save(tmp_path / "deep" / "result.json")
    assert results.Result.load(tmp_path / "deep" / "result.json") == result
    content = json.loads((tmp_path / "deep" / "result.json").read_text())
    assert content["refused_utterances"] == [
        {"utterance_id": "bad", "reason": "truncated", "error": "bad.flac: cut short"}
    ]
    assert content["per_utterance"][0]["hypothesis"] == "GO RIGHT"


def test_counts_must_add_up():
    corpus = Corpus(name="test", source="records", size=3)
    pairs = [(Utterance("u", np.zeros(1, np.float32), "A", "s", "test"), Hypothesis("A", (1.0,)))]
    with pytest.raises(ValueError, match="1 scored and 0 refused"):
        results.score(pairs, name="n", system="s", parameters=1, corpus=corpus, speed=_SPEED)
    corpus.refused = [Refused("x", "silence", "")] * 3
    with pytest.raises(ValueError, match="3 silence"):
        results.score([], name="n", system="s", parameters=1, corpus=corpus, speed=_SPEED)


def test_delay_uses_only_fitting_alignments():
    words = [(("GO", 0.0, 0.5), ("LEFT", 0.5, 1.0)), (("HALT", 0.0, 0.4),), ()]
    result = _result(["GO LEFT", "STOP", "UP"], ends=[[0.6, 1.3], [0.4], [0.2]], words=words)
    assert result.delay["words"] == 2 and result.delay["utterances"] == 1
    assert result.delay["mean"] == pytest.approx(0.2)


def test_nan_figures_are_null(tmp_path):
    result = _result(["", "", ""])
    result.real_time_factor = None
    result.save(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["real_time_factor"] is None
    assert math.isclose(result.wer, 1.0) and "-" in results.format_table([result])


def test_comparison():
    references = [f"A B C D{i}" for i in range(60)]
    good = _result(references, references=references, name="good")
    bad = _result(["A X C D"] * 60, references=references, name="bad")
    results.compare(good, others=[bad, good])
    assert good.improvement == {"bad": 1.0, "good": 0.5}
    other = _result(["GO LEFT", "STOP", "UP"], name="other")
    with pytest.raises(ValueError, match="not measured on the same utterances"):
        results.compare(good, others=[other])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"result_version": 1}'])
def test_not_a_result(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ValueError, match="is not a result"):
        results.Result.load(tmp_path / "r.json")


def test_table_has_a_line_for_each():
    table = results.format_table([_result(["GO LEFT", "STOP", "UP"], name="a"), _result(["", "", ""], name="bb")])
    lines = table.splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[2].startswith("a ") and " 0.00 " in lines[2] and " 100.00 " in lines[3]
