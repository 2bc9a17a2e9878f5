"""Scores from outside the model that a beam search adds up: what a scorer is, and neural language models as one."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf


class Scorer(Protocol):
    """Adds something to each hypothesis for its tokens; blanks are free.

    R hypotheses are seen at once, of any utterances. A state is a tensor [R, ...] or a nest of such.

    Attributes:
      variables: what it reads, and a SavedModel must hold.
    """

    variables: Sequence[tf.Variable]

    def start(self, batch_size: int | tf.Tensor) -> Any:
        """The state before the first token."""

    def label_scores(self, state: Any) -> tf.Tensor:
        """float32 [R, V - 1]: what each symbol but the blank would add, in natural-log units, weight included."""

    def advance(self, state: Any, tokens: tf.Tensor) -> Any:
        """The state after `tokens` [R] int32."""

    def final(self, state: Any) -> tf.Tensor:
        """float32 [R]: what is added where the utterance ends."""

    def describe(self) -> dict[str, Any]:
        """What it is, for JSON."""


class NeuralLanguageModel:
    """Shallow fusion: weight * log P(token | tokens before) of any model with a state.

    Args:
      step: (tokens [R] int32, state) -> (logits [R, V], new state) over the transducer's own symbols. Symbol 0, which
        is no token, stands for the beginning of the sentence where it is read and for its end where it is predicted.
      initial_state: batch_size -> the state before the beginning, a tensor [R, ...] or a nest of such.
      weight: of the log-probabilities; a negative one takes away, as for an internal language model.
      name: for `describe`.
      variables: those of the model.
    """

    def __init__(
        self, step: Callable, *, initial_state: Callable, weight: float, name: str = "neural",
        variables: Sequence[tf.Variable] = (),
    ):
        self._step, self._initial_state = step, initial_state
        self.weight, self.name = float(weight), name
        self.variables = tuple(variables)

    def start(self, batch_size: int | tf.Tensor) -> Any:
        return self._advanced(tf.zeros([batch_size], tf.int32), self._initial_state(batch_size))

    def label_scores(self, state: Any) -> tf.Tensor:
        return state["scores"][:, 1:]

    def advance(self, state: Any, tokens: tf.Tensor) -> Any:
        return self._advanced(tokens, state["model"])

    def final(self, state: Any) -> tf.Tensor:
        return state["scores"][:, 0]

    def describe(self) -> dict[str, Any]:
        return {"kind": "neural language model", "name": self.name, "weight": self.weight}

    def _advanced(self, tokens, model_state):
        # Kept, so that a hypothesis that takes a blank costs nothing.
        logits, model_state = self._step(tokens, model_state)
        return {"scores": self.weight * tf.nn.log_softmax(tf.cast(logits, tf.float32)), "model": model_state}
