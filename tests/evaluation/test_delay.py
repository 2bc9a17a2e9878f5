"""Emission delays on cases worked out by hand."""

import numpy as np
import pytest

from tf_rnnt_kd.evaluation import delay


def test_only_correct_words_count():
    delays = delay.emission_delays(
        ["GO LEFT NOW", "STOP", ""],
        reference_end_seconds=[[0.5, 1.0, 1.5], [0.4], []],
        hypotheses=["GO RIGHT NOW UP", "", "NO"],
        hypothesis_end_seconds=[[0.56, 1.2, 1.44, 2.0], [], [0.1]],
    )
    np.testing.assert_allclose(delays, [0.06, -0.06])


def test_shifted_alignment_pairs_the_right_words():
    # The first word is missed and one inserted before the last, so positions are off by one in between.
    delays = delay.emission_delays(
        ["A B C D"],
        reference_end_seconds=[[1.0, 2.0, 3.0, 4.0]],
        hypotheses=["B C X D"],
        hypothesis_end_seconds=[[2.25, 3.5, 3.75, 5.0]],
    )
    np.testing.assert_allclose(delays, [0.25, 0.5, 1.0])


def test_summary_and_its_empty_case():
    summary = delay.summarise(np.arange(11) / 10)
    figures = (summary.mean, summary.p50, summary.p90, summary.p95, summary.words)
    assert figures == pytest.approx((0.5, 0.5, 0.9, 0.95, 11))
    empty = delay.summarise(np.zeros([0]))
    assert empty.words == 0 and np.isnan([empty.mean, empty.p50, empty.p90, empty.p95]).all()


@pytest.mark.parametrize("side", ["reference", "hypothesis"])
def test_times_must_match_words(side):
    ends = {"reference_end_seconds": [[1.0, 2.0]], "hypothesis_end_seconds": [[1.0, 2.0]]}
    ends[f"{side}_end_seconds"] = [[1.0]]
    with pytest.raises(ValueError, match=f"1 end times for the 2 words of the {side}"):
        delay.emission_delays(["A B"], hypotheses=["A B"], **ends)
