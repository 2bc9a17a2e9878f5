"""One thing that was looked at."""

from typing import NamedTuple

OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"


class Finding(NamedTuple):
    """What was found, and what to do about it.

    Attributes:
      level: OK; NOTE, which concerns only who wants it; WARNING, where something will be slow or lost; ERROR, where
        something will not work.
      text: for people, one line.
      remedy: what mends it, "" where nothing has to be.
    """

    level: str
    text: str
    remedy: str = ""
