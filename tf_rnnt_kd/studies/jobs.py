"""What a study is made of."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tf_rnnt_kd.stages import as_typed


class Undecided(Exception):
    """What follows depends on results that are not there yet; the text says on which."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
      key: unique; also the name of its marker.
      title: for people.
      kind: corpus, tokenizer, training, export, labelling or evaluation.
      arguments: what follows `python -m`.
      size: of a training, its steps; 1 for others. Jobs of one kind take time in proportion to it.
      config: of a training, all its settings; None for others.
    """

    key: str
    title: str
    kind: str
    arguments: tuple[str, ...]
    size: int = 1
    config: Mapping[str, Any] | None = None

    @property
    def command(self) -> str:
        """As it is typed in a shell."""
        return as_typed(self.arguments)

    @property
    def settings(self) -> dict[str, Any]:
        """`config` as a dictionary; of jobs that are no training an empty one."""
        return dict(self.config or {})

    @property
    def flags(self) -> dict[str, str]:
        """{name: value} of its command."""
        return dict(argument.lstrip("-").partition("=")[::2] for argument in self.arguments[1:])


@dataclasses.dataclass(frozen=True)
class System:
    """Trainings that differ in their seed only.

    Attributes:
      name: in tables.
      folders: training folder by seed.
      note: a few words for the table.
      teaches: whether it only serves others and is not in the table.
    """

    name: str
    folders: Mapping[int, str]
    note: str = ""
    teaches: bool = False

    @property
    def folder(self) -> str:
        """Of the first seed: what teaches others, and what they start from."""
        return self.folders[min(self.folders)]


@dataclasses.dataclass(frozen=True)
class Claim:
    """`better` makes fewer errors than `worse`: said before anything was measured.

    Attributes:
      where: the split, as Study.measure names it; "" for the one of the table.
    """

    text: str
    better: str
    worse: str
    where: str = ""


@dataclasses.dataclass(frozen=True)
class Point:
    """One place of a line: what was found of a system over something.

    Attributes:
      x: a number; a system, for its word error rate in per cent; or labelled records (DIR:split), for the bytes that
        they store of a teacher per hour of audio.
      system: whose word error rate it is.
      against: with it, the share of its errors that `system` saves.
      where: as of Claim.
    """

    x: "float | System | str"
    system: System
    against: System | None = None
    where: str = ""


@dataclasses.dataclass(frozen=True)
class Curve:
    """A picture of lines.

    Attributes:
      title: unique in the study.
      x_label: of the axis. logarithmic: that axis.
      lines: points by name.
      steeper: pairs of names of which the first is said to rise faster; then slopes are fitted.
    """

    title: str
    x_label: str
    lines: Mapping[str, Sequence[Point]]
    logarithmic: bool = False
    steeper: Sequence[tuple[str, str]] = ()

    @property
    def is_gain(self) -> bool:
        """Whether it shows shares of errors saved."""
        return any(point.against is not None for points in self.lines.values() for point in points)
