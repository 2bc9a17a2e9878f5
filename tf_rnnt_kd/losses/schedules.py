"""Numbers that change during training: a loss term's weight as a function of the step.

    Schedule(0.5)                                                              # always 0.5
    Schedule({"kind": "ramp", "from": 0.0, "to": 1.0, "begin": 1000, "end": 5000})
    Schedule({"kind": "step", "from": 1.0, "to": 0.0, "begin": 20_000})        # the end of a first stage

| kind | value at step s | needs |
|---|---|---|
| constant | `to` | `to` |
| step | `from` for s < `begin`, then `to` | `to`, `begin` |
| ramp | `from` up to `begin`, `to` from `end` on, between them a straight line | `to`, `end` |
| cosine | the same with half a period of a cosine between them | `to`, `end` |

`from` and `begin` are 0 where they are not given.
"""

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

_KEYS = {  # kind: (keys it must have, keys it may have)
    "constant": (("to",), ()),
    "step": (("to", "begin"), ("from",)),
    "ramp": (("to", "end"), ("from", "begin")),
    "cosine": (("to", "end"), ("from", "begin")),
}


class Schedule:
    """A number as a function of the training step.

    Attributes:
      kind: 'constant', 'step', 'ramp' or 'cosine'.
      start, final: the values before `begin` and at the end, floats.
      begin, end: steps between which it changes, ints.
    """

    def __init__(self, setting: Any, *, name: str = "weight"):
        """
        Args:
          setting: a finite number, or a mapping (a dict or an ml_collections.ConfigDict), see the module's docstring.
          name: what the schedule is of, for error messages.

        Raises:
          ValueError: for anything else.
        """
        given = setting
        if isinstance(setting, (int, float)):
            setting = {"kind": "constant", "to": setting}
        elif not isinstance(setting, Mapping) and not hasattr(setting, "items"):
            raise ValueError(
                f"the {name} must be a finite number or a schedule such as "
                f"{{'kind': 'ramp', 'from': 0.0, 'to': 1.0, 'begin': 0, 'end': 1000}}, got {given!r}"
            )
        setting = dict(setting.items())
        self.kind = setting.pop("kind", None)
        if self.kind not in _KEYS:
            raise ValueError(f"the {name} has a schedule of kind {self.kind!r}; there are {', '.join(_KEYS)}")
        needed, optional = _KEYS[self.kind]
        missing, unknown = set(needed) - set(setting), set(setting) - set(needed) - set(optional)
        if missing or unknown:
            keys = ", ".join((*needed, *(f"{key} (optional)" for key in optional)))
            raise ValueError(f"the {name}: a schedule of kind {self.kind!r} has the keys {keys}; got {given!r}")
        self.final = _finite(setting["to"], name, "to")
        self.start = _finite(setting.get("from", 0.0), name, "from") if self.kind != "constant" else self.final
        self.begin = _step(setting.get("begin", 0), name, "begin")
        self.end = _step(setting.get("end", self.begin), name, "end")
        if "end" in setting and self.end <= self.begin:
            raise ValueError(
                f"the {name}: a schedule of kind {self.kind!r} must end after it begins, got begin={self.begin} and "
                f"end={self.end}; for a change at once take the kind 'step'"
            )

    @property
    def is_constant(self) -> bool:
        """The same at every step: it is worth no operation in a graph."""
        return self.start == self.final or (self.kind == "step" and self.begin == 0)

    @property
    def is_ever_nonzero(self) -> bool:
        return self.final != 0.0 or (self.start != 0.0 and not self.is_constant)

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """The scalar float32 at `step`, a number or a scalar tensor of steps done; float32 counts to 2^24 of them."""
        if self.is_constant:
            return tf.constant(self.final, tf.float32)
        since = tf.cast(step, tf.float32) - float(self.begin)
        if self.kind == "step":
            return tf.where(since < 0.0, self.start, self.final)
        done = tf.clip_by_value(since / float(self.end - self.begin), 0.0, 1.0)
        if self.kind == "cosine":
            done = 0.5 - 0.5 * tf.cos(math.pi * done)
        # At both ends exactly the numbers of the config, which may be 0.
        between = self.start + (self.final - self.start) * done
        return tf.where(done >= 1.0, self.final, tf.where(done <= 0.0, self.start, between))


def _finite(value, name, key):
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"the {name}: {key!r} must be a finite number, got {value!r}")
    return float(value)


def _step(value, name, key):
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"the {name}: {key!r} must be a step, an int of at least 0, got {value!r}")
    return value
