"""The comparison of searches: what it prints, that a wider beam finds no worse, and its peer against enumeration."""

import numpy as np

from benchmarks import search, search_lattices
from benchmarks.search_peers import AlignmentLengthSearch


def test_searches_of_a_random_joint_are_compared(monkeypatch):
    monkeypatch.setattr(search, "MARGINS", (None,))
    lattices = search_lattices.random_lattices(batch=3, frames=8, vocab=10, width=8)
    figures = search.compared(*lattices, beams=[4], reference_beam=8, repetitions=1)
    assert len(figures) == 4 and min(row["gap"] for row in figures.values()) >= 0.0
    assert figures["reference", 8]["gap"] <= figures["time-synchronous, every token", 4]["gap"] + 1e-4
    assert figures["time-synchronous, every token", 4]["gap"] < figures["greedy", 1]["gap"]
    assert figures["time-synchronous, every token", 4]["mass"] < figures["greedy", 1]["mass"]
    lines = search.report("a joint", figures)
    assert len(lines) == 6 and lines[2].startswith("greedy") and " 1.00 " in lines[2]


def test_training_makes_lattices_surer():
    random = search_lattices.utterances(np.random.default_rng(0), batch=4, frames=12, vocab=8)
    trained = search_lattices.trained_lattices(batch=2, frames=12, vocab=8, width=8, steps=40)[0]
    sums = []
    for model in (search_lattices.SmallTransducer(vocab=8, width=8), trained):
        features, lengths, labels, counts = random
        sums.append(search_lattices.full_sums(model, model.encode(features), lengths, labels, counts).numpy().mean())
    assert sums[1] > sums[0] + 2.0


def test_the_peer_finds_what_enumeration_finds():
    model, encoded, lengths = search_lattices.random_lattices(batch=2, frames=3, vocab=8, width=4, per_frame=0.5)
    lengths = np.array([3, 2])
    tokens, counts, score = AlignmentLengthSearch(60)(model, encoded, lengths)
    for b in range(2):
        rows = np.full([60], b)
        exact = search_lattices.full_sums(
            model, np.asarray(encoded)[rows], lengths[rows], tokens[b].numpy(), counts[b].numpy()
        )
        np.testing.assert_allclose(score[b, :5], exact[:5], atol=0.05)
        every = [(a,) for a in range(1, 8)] + [(a, c) for a in range(1, 8) for c in range(1, 8)]
        table = np.array([[*labels, 0][:2] for labels in every], np.int32)
        listed = search_lattices.full_sums(
            model, np.asarray(encoded)[np.full([56], b)], lengths[np.full([56], b)], table,
            np.array([len(labels) for labels in every]),
        )  # fmt: skip
        assert float(exact[0]) >= float(np.max(listed)) - 1e-4
