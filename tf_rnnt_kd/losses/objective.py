"""Any weighted sum of registered losses from a config.

    objective = Objective({
        "rnnt": {"weight": 1.0, "fastemit_lambda": 0.001},
        "collapsed": {"weight": {"kind": "ramp", "to": 0.01, "end": 5000}, "shift": 2, "adaptive": {"sharpness": 1.0}},
        "pseudo": {"loss": "rnnt", "weight": 0.5, "on": "unlabelled"},
    })
    inputs = LossInputs(student_nodes, teacher=teacher_nodes, is_labelled=..., logit_lengths=..., label_lengths=...)
    total, terms = objective(inputs, weights=objective.weights_at(step))   # [B], {"rnnt": [B], "collapsed": [B], ...}

A term is a dict of the loss's own options and of up to four reserved keys:

- `weight`: a number (default 1) or a schedule, see losses/schedules.py.
- `loss`: the registered name; default the term's key, so that one loss can appear twice under two keys.
- `on`: 'all' (default), 'labelled' or 'unlabelled' utterances. The term is 0 for the others, which still count where
  the caller takes a mean over utterances: a weight means the same for an utterance whatever else its batch holds.
- `adaptive`: the options of `self_adaptive_weight`, which then multiplies the term per utterance.

Unknown names and options are ValueErrors when the Objective is made, missing tensors when it is called;
`objective.needs` says beforehand which it will ask for.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tf_rnnt_kd.losses import registry
from tf_rnnt_kd.losses.adaptive import self_adaptive_weight
from tf_rnnt_kd.losses.inputs import LossInputs
from tf_rnnt_kd.losses.schedules import Schedule

ON = ("all", "labelled", "unlabelled")


class Term(NamedTuple):
    """One term of an Objective.

    loss: registry.Loss.
    weight: Schedule.
    on: 'all', 'labelled' or 'unlabelled'.
    adaptive: options of self_adaptive_weight, or None.
    options: of the loss.
    """

    loss: registry.Loss
    weight: Schedule
    on: str
    adaptive: dict[str, Any] | None
    options: dict[str, Any]


class Objective:
    """A weighted sum of registered losses; see the module's docstring.

    Attributes:
      terms: {key: Term}.
    """

    def __init__(self, terms: Mapping[str, Any]):
        """
        Args:
          terms: mapping of key -> mapping (a dict or an ml_collections.ConfigDict).

        Raises:
          ValueError: for an unknown loss or option, or a weight that is neither a finite number nor a schedule.
        """
        self.terms = {key: _parse(key, term) for key, term in terms.items()}
        if not self.terms:
            raise ValueError(f"no loss term given; registered losses are {', '.join(registry.names())}")

    def weights_at(self, step: int | tf.Tensor) -> dict[str, float | tf.Tensor]:
        """{key: weight} at a training step, for `weights` of a call.

        Args:
          step: number or scalar tensor, training steps done.

        Returns:
          A number for each constant weight, a scalar float32 tensor for each that changes.
        """
        return {
            key: term.weight.final if term.weight.is_constant else term.weight(step)
            for key, term in self.terms.items()
        }

    @property
    def needs(self) -> set[str]:
        """Names that terms must find in LossInputs, beside what every student gives, unless their weight is 0 for ever.

        'teacher' gives teacher_log_prob as well; 'is_labelled' is there for terms that ask which utterances are."""
        live = [term for term in self.terms.values() if term.weight.is_ever_nonzero]
        needed = {name for term in live for name in term.loss.needs}
        if any(term.options.get("weigh_by") is not None for term in live):
            needed.add("teacher")
        if any(term.adaptive is not None for term in live):
            needed.add("teacher_log_prob")
        if any(term.on != "all" for term in live):
            needed.add("is_labelled")
        return needed - LossInputs.ALWAYS_THERE

    def __call__(
        self, inputs: LossInputs, *, weights: Mapping[str, float | tf.Tensor] | None = None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """
        Args:
          inputs: LossInputs.
          weights: {key: number or scalar tensor} that replace the configured weights; needed, as `weights_at` gives
            them, where a weight changes with the step.

        Returns:
          total [B] float32 and {key: [B]}, the unweighted terms. A term whose weight is the number 0 is not computed; a
          tensor that holds 0 leaves it in the graph and removes its every effect on total and gradient, infinities
          included.
        """
        weights = dict(weights or {})
        unknown = sorted(set(weights) - set(self.terms))
        if unknown:
            raise ValueError(f"weights for {', '.join(unknown)}, but the terms are {', '.join(self.terms)}")
        total, values = None, {}
        for key, term in self.terms.items():
            weight = weights[key] if key in weights else _constant_weight(key, term)
            if isinstance(weight, (int, float)) and not weight:
                continue
            values[key] = _where_wanted(key, term.loss(inputs, **term.options), inputs.is_labelled, term.on)
            dtype = values[key].dtype
            weight = tf.cast(weight, dtype) if tf.is_tensor(weight) else tf.constant(weight, dtype)
            if term.adaptive is not None:
                weight *= tf.cast(_trust(inputs, term.adaptive), weight.dtype)
            weighted = tf.math.multiply_no_nan(values[key], weight)
            total = weighted if total is None else total + weighted
        if total is None:
            raise ValueError(f"all weights are 0: {', '.join(self.terms)}")
        return total, values


def _parse(key, term):
    if not isinstance(term, Mapping) and not hasattr(term, "items"):
        raise ValueError(f"the term {key!r} must be a mapping such as {{'weight': 1.0}}, got {term!r}")
    options = dict(term.items())
    weight = Schedule(options.pop("weight", 1.0), name=f"weight of the term {key!r}")
    on, adaptive = options.pop("on", "all"), options.pop("adaptive", None)
    loss = registry.get(options.pop("loss", key))
    loss.check_options(options)
    if on not in ON:
        raise ValueError(f"the term {key!r} is on {on!r} utterances; there are {', '.join(ON)}")
    if adaptive is not None:
        adaptive = dict(adaptive.items())
        unknown = sorted(set(adaptive) - {"sharpness"})
        if unknown:
            raise ValueError(f"`adaptive` of the term {key!r} has no option {', '.join(unknown)}; it has sharpness")
    return Term(loss, weight, on, adaptive, options)


def _constant_weight(key, term):
    if not term.weight.is_constant:
        raise ValueError(
            f"the weight of the term {key!r} changes with the step: call the objective with "
            "weights=objective.weights_at(step)"
        )
    return term.weight.final


def _where_wanted(key, value, is_labelled, on):
    if on == "all":
        return value
    if is_labelled is None:
        raise ValueError(
            f"the term {key!r} is on {on} utterances, but nothing says which are: give is_labelled [B] to LossInputs, "
            "or set on='all'"
        )
    is_labelled = tf.cast(is_labelled, tf.bool)
    # Not multiplied by 0: a hypothesis that no alignment fits is infinitely improbable.
    return tf.where(is_labelled if on == "labelled" else ~is_labelled, value, tf.zeros([], value.dtype))


def _trust(inputs, options):
    if inputs.teacher_log_prob is None:
        raise ValueError("an `adaptive` weight needs teacher_log_prob, or the teacher's nodes: give them to LossInputs")
    return self_adaptive_weight(inputs.teacher_log_prob, inputs.label_lengths, **options)
