"""Thresholds on scores: which labels a student shall not see, each refusal with its reason, value and threshold.

All but two look at one utterance. `max_same_text` and `drop_duplicates` compare utterances, see `same_text`.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import NamedTuple

from beam_pipelines.transforms.park import ParkLine
from beam_pipelines.transforms.scores import Row


class Rule(NamedTuple):
    """A field of `Filters`, the score that it bounds, and the reason that is counted. A bound is an allowed value."""

    field: str
    score: str
    reason: str

    @property
    def is_minimum(self) -> bool:
        return self.field.startswith("min_")

    def keeps(self, value: float, *, threshold: float) -> bool:
        """Never true of NaN."""
        return value >= threshold if self.is_minimum else value <= threshold


# In this order: an utterance is counted by the first that applies.
RULES = (
    Rule("min_confidence", "confidence", "low_confidence"),
    Rule("min_word_confidence", "min_word_confidence", "low_word_confidence"),
    Rule("min_park", "park", "low_park"),
    Rule("min_nbest_margin", "nbest_margin", "low_nbest_margin"),
    Rule("min_agreement", "agreement", "low_agreement"),
    Rule("min_tokens_per_second", "tokens_per_second", "few_tokens_per_second"),
    Rule("max_tokens_per_second", "tokens_per_second", "many_tokens_per_second"),
    Rule("min_chars_per_second", "chars_per_second", "few_chars_per_second"),
    Rule("max_chars_per_second", "chars_per_second", "many_chars_per_second"),
)
SAME_TEXT, DUPLICATE = "same_text", "duplicate_audio"
_SHARES = ("min_confidence", "min_word_confidence", "min_agreement")


@dataclasses.dataclass(frozen=True)
class Filters:
    """What labels must be to be stored. None: no such condition. See `scores.Row` for the scores.

    Attributes:
        min_confidence, min_word_confidence, min_agreement: 0 to 1.
        min_park: in standard deviations; needs `park_lines`.
        min_nbest_margin: nats per token; needs the nbest artifact.
        min_tokens_per_second, max_tokens_per_second: a teacher that deletes says too little, one that loops too much.
        min_chars_per_second, max_chars_per_second: the same for characters that are no white space.
        max_same_text: of utterances with the same hypothesis so many are kept, those with the smallest MD5 of their id.
        drop_duplicates: of utterances with the same samples and the same hypothesis only one is kept.
        park_lines: {model id of a teacher: its line}, from `fit_filter`.
    """

    min_confidence: float | None = None
    min_word_confidence: float | None = None
    min_park: float | None = None
    min_nbest_margin: float | None = None
    min_agreement: float | None = None
    min_tokens_per_second: float | None = None
    max_tokens_per_second: float | None = None
    min_chars_per_second: float | None = None
    max_chars_per_second: float | None = None
    max_same_text: int | None = None
    drop_duplicates: bool = False
    park_lines: Mapping[str, ParkLine] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {value}")
        for kind in ("tokens", "chars"):
            low, high = (getattr(self, f"{end}_{kind}_per_second") for end in ("min", "max"))
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{kind}_per_second={low:g} is above max_{kind}_per_second={high:g}: none is left")
        if self.max_same_text is not None and self.max_same_text < 1:
            raise ValueError(f"max_same_text must be 1 or more, got {self.max_same_text}")

    def check(self, *, teachers: Collection[str], has_nbest: bool, has_agreement: bool) -> None:
        """Refuses filters on scores that this run cannot compute.

        Args:
            teachers: model ids of the teachers that label.
            has_nbest: whether they give several hypotheses.
            has_agreement: whether each has another teacher beside it.

        Raises:
            ValueError: naming the flag and what it needs.
        """
        without_line = sorted(set(teachers) - self.park_lines.keys())
        known = ", ".join(self.park_lines)
        for wrong, problem in (
            (
                self.min_park is not None and not self.park_lines,
                "--min_park needs --park_line, a file from python -m beam_pipelines.fit_filter",
            ),
            (
                self.park_lines and without_line,
                f"--park_line has no line for teacher {', '.join(without_line)}, only for {known}: label dev with this "
                "teacher, and fit on that",
            ),
            (
                self.min_nbest_margin is not None and not has_nbest,
                "--min_nbest_margin needs several hypotheses: add nbest to --artifacts",
            ),
            (
                self.min_agreement is not None and not has_agreement,
                "--min_agreement needs a second teacher beside each that labels: --teacher=DIR,DIR2",
            ),
        ):
            if wrong:
                raise ValueError(problem)

    def refusal(self, row: Row) -> tuple[str, str] | None:
        """(reason, error) of the first filter that refuses an utterance by itself, else None."""
        for rule in RULES:
            threshold, value = getattr(self, rule.field), getattr(row, rule.score)
            if threshold is not None and not rule.keeps(value, threshold=threshold):
                return rule.reason, f"{rule.score} is {value:.4g}, --{rule.field}={threshold:g}"
        return None
