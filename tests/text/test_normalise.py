"""Transcripts in one spelling."""

import pytest

from tf_rnnt_kd.text import normalise


@pytest.mark.parametrize(
    ("profile", "text", "expected"),
    [
        ("upper", "  one\ttwo \n three ", "ONE TWO THREE"),
        ("upper", "", ""),
        ("upper", "don't, stop!", "DON'T, STOP!"),
        ("upper", "ｏｎｅ stra\u00dfe", "ONE STRASSE"),
        ("upper", "cafe\u0301", "CAF\u00c9"),
        ("words", "Don\u2019t stop -- 'now', at 5.", "DON'T STOP NOW AT 5"),
        ("words", "...", ""),
        ("verbatim", " One  two ", "One two"),
    ],
)
def test_profiles(profile, text, expected):
    assert normalise(text, profile=profile) == expected
    assert normalise(expected, profile=profile) == expected


def test_upper_is_the_default():
    assert normalise("a b") == "A B"


def test_unknown_profile_names_those_there_are():
    with pytest.raises(ValueError, match="upper, words, verbatim"):
        normalise("a", profile="lower")
