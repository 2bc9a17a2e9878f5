"""Scores, thresholds, the line of Park's score, and what several utterances have in common.

Scores are compared with brute force, lines with numpy.polyfit, and what a run keeps with what its records say.
"""

import collections
import dataclasses
import hashlib
import json
import random
import types

import numpy as np
import pytest
from labelled_corpus import corpus, dead_letter, label, options, read

from beam_pipelines.transforms.filters import RULES, Filters
from beam_pipelines.transforms.park import ParkLine, fit_line, load_lines, save_lines
from beam_pipelines.transforms.same_text import candidates, judge
from beam_pipelines.transforms.scores import Row, from_tsv, scored, text_agreement, to_tsv, word_errors


def labels(**changed):
    """What a teacher might say of 2 seconds, with the fields that scores read."""
    return types.SimpleNamespace(**{
        "tokens": [3, 4, 5], "text": "ON E  TWO", "log_prob": -4.5, "token_confidence": [0.9, 0.5, 0.8],
        "word_confidence": [0.5, 0.8], "agreement": None, "nbest": None, **changed,
    })  # fmt: skip


def row(name="u", **changed):
    return Row(**{"position": 0, "utterance_id": name, "teacher": "t", "seconds": 2.0, "tokens": 0, **changed})


def edit_distance(one, other):
    """By the definition, without any library."""
    best = {(i, 0): i for i in range(len(one) + 1)} | {(0, j): j for j in range(len(other) + 1)}
    for i, left in enumerate(one, 1):
        for j, right in enumerate(other, 1):
            best[i, j] = min(best[i - 1, j] + 1, best[i, j - 1] + 1, best[i - 1, j - 1] + (left != right))
    return best[len(one), len(other)]


def test_scores_of_an_utterance():
    line = ParkLine(mu=-1.0, beta=0.5, sigma=2.0)
    found = scored(row(reference="ONE TWO"), labels(), park_lines={"t": line, "other": None})
    assert found.confidence == pytest.approx((0.9 * 0.5 * 0.8) ** (1 / 3))
    assert (found.min_word_confidence, found.log_prob, found.log_prob_per_token) == (0.5, -4.5, -1.5)
    assert found.park == pytest.approx((-4.5 + 3.0 - 0.5) / (2.0 * 3**0.5))
    assert (found.tokens, found.tokens_per_second, found.chars_per_second) == (3, 1.5, 3.0)
    assert (found.reference_words, found.word_errors) == (2, 2)  # ONE -> ON, and E is too much
    assert (found.nbest_margin, found.agreement, found.same_text) == (None, None, None)
    alone = scored(row(), labels(word_confidence=[]), park_lines={})
    assert (alone.min_word_confidence, alone.park, alone.word_errors) == (0.5, None, None)
    nbest = types.SimpleNamespace(tokens=([1, 2, 3, 4], [1]), log_prob=np.array([-1.0, -3.0], np.float32))
    assert scored(row(), labels(nbest=nbest), park_lines={}).nbest_margin == 0.5
    one = types.SimpleNamespace(tokens=([1],), log_prob=np.array([-1.0], np.float32))
    assert scored(row(), labels(nbest=one), park_lines={}).nbest_margin == float("inf")


def test_agreement_is_the_edit_distance_over_the_longer_text():
    dice = random.Random(0)
    for _ in range(200):
        one, other = (" ".join(dice.choices("ABC", k=dice.randrange(6))) for _ in range(2))
        distance, longer = edit_distance(one.split(), other.split()), max(len(one.split()), len(other.split()))
        assert text_agreement(one, other=other) == pytest.approx(1 - distance / longer if longer else 1.0)
        assert word_errors(one, hypothesis=other) == (distance, len(one.split()))
    assert text_agreement("It's one, two.", other="IT'S ONE TWO") == 1.0


def test_the_line_is_the_least_squares_fit():
    random = np.random.default_rng(0)
    lengths = random.integers(1, 60, 400)
    scores = -0.3 * lengths - 1.5 + random.normal(size=400) * 0.7 * np.sqrt(lengths)
    line = fit_line(scores, num_tokens=lengths)
    mu, beta = np.polyfit(lengths, scores, 1)
    np.testing.assert_allclose([line.mu, line.beta], [mu, beta], rtol=1e-9)
    normalised = (scores - mu * lengths - beta) / np.sqrt(lengths)
    np.testing.assert_allclose(line.sigma, normalised.std(), rtol=1e-9)
    assert (abs(line.mu + 0.3) < 0.05) & (abs(line.sigma - 0.7) < 0.07)
    assert line.score(scores[7], num_tokens=lengths[7]) == pytest.approx(normalised[7] / line.sigma)


def test_a_line_needs_points_that_make_one():
    with pytest.raises(ValueError, match="9 hypotheses are too few for a line: label at least 10"):
        fit_line([-1.0] * 9, num_tokens=range(1, 10))
    with pytest.raises(ValueError, match="all 20 hypotheses have 5 tokens"):
        fit_line(-np.arange(20.0), num_tokens=[5] * 20)
    with pytest.raises(ValueError, match="all 20 hypotheses lie on one line"):
        fit_line(-0.1 * np.arange(1, 21) - 3, num_tokens=range(1, 21))
    with pytest.raises(ValueError, match="needs finite log-probs"):
        fit_line([float("nan")] * 20, num_tokens=range(1, 21))


def test_lines_are_read_back(tmp_path):
    lines = {"b": ParkLine(-0.1, -2.0, 0.3, 77), "a": ParkLine(0.1, 1 / 3, 5.0, 12)}
    save_lines(lines, path=str(tmp_path / "park.json"), split="dev")
    assert load_lines(str(tmp_path / "park.json")) == lines
    with pytest.raises(ValueError, match=r"--park_line=nowhere.json: no such file; make one with .*fit_filter"):
        load_lines("nowhere.json")
    (tmp_path / "other.json").write_text(json.dumps({"lines": {"a": {"slope": 1}}}))
    with pytest.raises(ValueError, match="other.json was not made by beam_pipelines.fit_filter"):
        load_lines(str(tmp_path / "other.json"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.field)
def test_each_threshold_refuses_what_lies_beyond_it(rule):
    filters = Filters(**{rule.field: 0.5})
    sides = (0.4, 0.5, 0.6) if rule.field.startswith("min") else (0.6, 0.5, 0.4)
    verdicts = [filters.refusal(row(**{rule.score: value})) for value in sides]
    assert verdicts == [(rule.reason, f"{rule.score} is {sides[0]:g}, --{rule.field}=0.5"), None, None]
    reason, error = filters.refusal(row(**{rule.score: float("nan")}))
    assert reason == rule.reason
    assert "nan" in error
    assert Filters().refusal(row(**{rule.score: float("nan")})) is None


def test_the_first_filter_that_refuses_is_counted():
    filters = Filters(min_confidence=0.5, min_word_confidence=0.5, max_tokens_per_second=3.0)
    bad = {"confidence": 0.6, "min_word_confidence": 0.1, "tokens_per_second": 9.0}
    assert filters.refusal(row(**bad))[0] == "low_word_confidence"
    assert filters.refusal(row(**{**bad, "confidence": 0.1}))[0] == "low_confidence"
    assert filters.refusal(row(**{**bad, "min_word_confidence": 0.9}))[0] == "many_tokens_per_second"


def test_filters_that_cannot_work_are_refused():
    for settings, message in (
        ({"min_confidence": 7}, "min_confidence must lie in 0..1, got 7"),
        ({"min_agreement": -1}, "min_agreement must lie in 0..1, got -1"),
        ({"min_tokens_per_second": 4.0, "max_tokens_per_second": 3.0}, "min_tokens_per_second=4 is above max_tokens"),
        ({"max_same_text": 0}, "max_same_text must be 1 or more, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Filters(**settings)
    has = {"teachers": ["t"], "has_nbest": False, "has_agreement": False}
    with pytest.raises(ValueError, match="--min_park needs --park_line"):
        Filters(min_park=0.0).check(**has)
    with pytest.raises(ValueError, match="--park_line has no line for teacher t, only for other"):
        Filters(park_lines={"other": ParkLine(1, 1, 1)}).check(**has)
    with pytest.raises(ValueError, match="--min_nbest_margin needs several hypotheses: add nbest to --artifacts"):
        Filters(min_nbest_margin=0.1).check(**has)
    with pytest.raises(ValueError, match="--min_agreement needs a second teacher"):
        Filters(min_agreement=0.1).check(**has)
    everything = Filters(min_park=0.0, min_nbest_margin=0.1, min_agreement=0.1, park_lines={"t": ParkLine(1, 1, 1)})
    everything.check(teachers=["t"], has_nbest=True, has_agreement=True)


def test_rows_are_read_back_to_the_last_bit():
    rows = [
        row('tab\tquote"line\nend\rü', confidence=1 / 3, nbest_margin=float("inf"), log_prob=-1e-30, text="A  B"),
        row(reason="inference_failed", error="two\nlines", same_text=3, word_errors=0),
        row("None", text="None"),
    ]
    assert from_tsv(to_tsv(rows)) == rows
    assert from_tsv(to_tsv([])) == []
    header, line = to_tsv([row()]).splitlines()
    assert len(header.split("\t")) == len(line.split("\t")) == len(dataclasses.fields(Row))


def verdicts(rows_of_shards, **filters):
    """{id: (how many have its text, reason)} of what `judge` says about the rows of several shards."""
    groups = collections.defaultdict(list)
    names = {}
    for shard, rows in enumerate(rows_of_shards):
        names.update({(("s", shard), one.position): one.utterance_id for one in rows})
        for digest, candidate in candidates(("s", shard), rows=rows):
            groups[digest].append(candidate)
    found = {}
    for group in groups.values():
        random.Random(len(group)).shuffle(group)
        found |= {
            names[key, one.position]: (one.count, one.reason) for key, one in judge(group, filters=Filters(**filters))
        }
    return found


def test_of_the_same_text_those_with_the_smallest_digest_stay():
    def md5(name):
        return hashlib.md5(name.encode()).hexdigest()

    texts = {f"u{i}": ("YES", "NO", "YES", "MAYBE")[i % 4] for i in range(20)}
    shards = [
        [row(f"u{i}", position=i, text=texts[f"u{i}"], audio_md5=f"audio {i}") for i in range(start, 20, 3)]
        for start in range(3)
    ]
    found = verdicts(shards, max_same_text=2)
    counts = collections.Counter(texts.values())
    for text in set(texts.values()):
        stay = sorted((name for name in texts if texts[name] == text), key=md5)[:2]
        assert {name for name in texts if texts[name] == text and not found[name][1]} == set(stay)
    assert {name: count for name, (count, _) in found.items()} == {name: counts[text] for name, text in texts.items()}
    assert verdicts(reversed(shards), max_same_text=2).keys() == found.keys()
    assert all(reason == "" for _, reason in verdicts(shards).values())

    # Rows of a shard that an earlier run completed say what it refused: that changes nothing.
    done = [dataclasses.replace(one, reason=found[one.utterance_id][1]) for one in shards[0]]
    assert verdicts([done, *shards[1:]], max_same_text=2) == found
    # What another filter refused is not counted.
    done = [dataclasses.replace(one, reason="low_confidence") for one in shards[0]]
    assert verdicts([done, *shards[1:]]).keys() == {one.utterance_id for rows in shards[1:] for one in rows}


def test_of_duplicates_one_stays():
    rows = [row(f"u{i}", position=i, text="YES", audio_md5=f"audio {i % 3}") for i in range(9)]
    found = verdicts([rows], drop_duplicates=True)
    stay = [name for name, (_, reason) in found.items() if not reason]
    assert sorted(int(name[1:]) % 3 for name in stay) == [0, 1, 2]
    assert collections.Counter(reason for _, reason in found.values()) == {"": 3, "duplicate_audio": 6}
    both = verdicts([rows], drop_duplicates=True, max_same_text=2)
    assert collections.Counter(reason for _, reason in both.values())[""] == 2


@pytest.fixture(scope="module")
def world(tmp_path_factory, fake_teacher):
    """The labelled corpus without filters."""
    root = tmp_path_factory.mktemp("filters")
    fake_teacher.save(root / "teacher")
    corpus(root / "records")
    label(root, root / "all", options=options("nbest"))
    return root


def scores_of(record):
    """{flag: score} of a stored record, by the definitions."""
    tokens, seconds = len(record["teacher/tokens"]), record["num_samples"][0] / 16000
    words = record["teacher/text"][0].decode()
    log_probs = record["nbest/log_prob"]
    return {
        "min_confidence": np.prod(record["teacher/token_confidence"], dtype=np.float64) ** (1 / tokens),
        "min_word_confidence": min(record["teacher/word_confidence"]),
        "min_nbest_margin": (log_probs[0] - log_probs[1]) / tokens if len(log_probs) > 1 else np.inf,
        "max_tokens_per_second": tokens / seconds,
        "min_tokens_per_second": tokens / seconds,
        "min_chars_per_second": len(words.replace(" ", "")) / seconds,
    }


@pytest.mark.parametrize("flag", [
    "min_confidence", "min_word_confidence", "min_nbest_margin", "max_tokens_per_second", "min_chars_per_second",
])  # fmt: skip
def test_a_run_keeps_what_its_records_say(world, tmp_path, flag):
    values = {name: scores_of(record)[flag] for name, record in read(world / "all").items()}
    # Between two values, for the stored ones are rounded.
    finite = np.unique(np.round([value for value in values.values() if np.isfinite(value)], 5))
    threshold = float(finite[len(finite) // 2 - 1 : len(finite) // 2 + 1].mean())
    info = label(world, tmp_path, options=options("nbest", filters=Filters(**{flag: threshold})))
    kept = {name for name, value in values.items() if (value >= threshold) == flag.startswith("min")}
    assert 0 < len(kept) < len(values)
    assert read(tmp_path).keys() == kept
    (reason,) = {rule.reason for rule in RULES if rule.field == flag}
    assert info.rejected[reason] == len(values) - len(kept)
    refused = {line["id"]: line["error"] for line in dead_letter(tmp_path) if line["reason"] == reason}
    assert refused.keys() == values.keys() - kept
    for name, error in refused.items():
        assert f"{values[name]:.3g}" in error or f"is {values[name]:.4g}" in error
        assert f"--{flag}={threshold:g}" in error


def test_dataset_json_has_a_histogram_of_each_score(world):
    statistics = json.loads((world / "all" / "dataset.json").read_text())["statistics"]
    records = read(world / "all").values()
    for flag in ("min_confidence", "min_word_confidence", "min_tokens_per_second", "min_chars_per_second"):
        name = flag if flag == "min_word_confidence" else flag.removeprefix("min_")
        edges = np.array(statistics[name]["edges"])
        expected = np.histogram([scores_of(record)[flag] for record in records], edges)[0]
        assert statistics[name]["utterances"] == expected.tolist()
    assert sum(statistics["nbest_margin"]["utterances"]) == len(records)
    assert sum(statistics["same_text"]["utterances"]) == len(records)
    assert not statistics.keys() & {"park", "agreement"}
    assert 0 < statistics["padding_share"] < 1
