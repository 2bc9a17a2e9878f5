"""Generations of teachers and students, declared as a study whose next round depends on the last."""

import dataclasses
from typing import Any

from tf_rnnt_kd.studies.definition import load_module
from tf_rnnt_kd.studies.jobs import Point, System
from tf_rnnt_kd.studies.plan import Study


@dataclasses.dataclass
class Rounds:
    """What happens in each round; see tf_rnnt_kd/generations.py for the settings.

    Attributes:
      history: {round, probability of improvement on dev, promoted} of each round that was decided.
      last: the teacher after the last round that was.
    """

    teacher: str
    count: int
    labelled: str
    unlabelled: str
    dev: str
    test: str
    artifacts: str
    label_flags: tuple[str, ...]
    promote_above: float
    warm_start: bool
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    last: System | None = None

    def declare(self, study: Study) -> None:
        """Of a Study that was made anew."""
        teachers: list[Point] = []
        students: list[Point] = []
        self.history = []
        self.last = study.given("first teacher", self.teacher)
        for number in range(1, self.count + 1):
            labels = study.label(self.last, split=self.unlabelled, artifacts=self.artifacts, flags=self.label_flags)
            student = study.train(
                f"round {number}", variant="", data=[study.records(self.labelled), labels],
                warm_start=self.last if self.warm_start else None,
            )  # fmt: skip
            teachers, students = [*teachers, Point(number, self.last)], [*students, Point(number, student)]
            probability = study.improvement(student, self.last, split=self.dev)
            promoted = probability >= self.promote_above
            self.history.append({"round": number, "probability": probability, "promoted": promoted})
            if not promoted:
                break
            self.last = student
        study.measure(self.test)
        study.curve("Over the rounds", x_label="round", lines={"the teacher": teachers, "its student": students})
        study.export(self.last)

    def lines(self) -> list[str]:
        """What was decided, in words."""
        return [
            f"Round {each['round']}: improves on its teacher with probability {each['probability']:.3f} on {self.dev}, "
            + ("promoted." if each["promoted"] else f"less than {self.promote_above:g}: the rounds end.")
            for each in self.history
        ]


def load_config(text: str):
    """The ConfigDict of FILE or FILE:VARIANT.

    Raises:
      ValueError: there is no such file.
    """
    path, _, variant = text.partition(":")
    get_config = load_module(path).get_config
    return get_config(variant) if variant else get_config()
