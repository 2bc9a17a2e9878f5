"""What a study is made of."""

import dataclasses
from collections.abc import Mapping

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
    """

    key: str
    title: str
    kind: str
    arguments: tuple[str, ...]
    size: int = 1

    @property
    def command(self) -> str:
        """As it is typed in a shell."""
        return as_typed(self.arguments)


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
    """`better` makes fewer errors than `worse`: said before anything was measured."""

    text: str
    better: str
    worse: str
