"""Beam search over an RNN-T lattice: batched, in graph, equal prefixes merged, with scores from outside the model.

Time-synchronous (Graves 2012, arXiv 1211.3711) with adaptive expansion (Kim et al. 2020): at a frame, taking the blank
competes with the likeliest tokens for a place in the beam, and tokens far below a hypothesis' best choice are not
followed; where nobody emits, a frame takes one evaluation of the joint. Hypotheses that have left the frame keep their
place while others go on emitting at it; each utterance of a batch goes to its next frame by itself. Hypotheses with the
same tokens, reached along different alignments, are one: their probabilities add up. With one place this is greedy
search. docs/decisions/0018-beam-search.md compares it with others.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from tf_rnnt_kd.decoding.expansion import BeamResult, Search
from tf_rnnt_kd.decoding.scorers import Scorer


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """Settings of a beam search, and the search itself as a callable.

    beam: N, hypotheses kept.
    max_symbols_per_frame: after so many tokens at one frame only the blank is left.
    blank_penalty: natural-log units taken from every blank. Every complete hypothesis has one blank per frame, so this
      changes which of them are found and not their order.
    length_bonus: natural-log units given to every token.
    expansion_margin: natural-log units: a token is followed only if a hypothesis' best choice, blank included, is no
      more than this above it. None: every token may be followed; slower.
    scorers: see Scorer: language models and phrases to favour.

    Raises:
      ValueError: beam or max_symbols_per_frame is less than one, or the margin is negative.
    """

    beam: int = 4
    max_symbols_per_frame: int = 3
    blank_penalty: float = 0.0
    length_bonus: float = 0.0
    expansion_margin: float | None = 5.0
    scorers: tuple[Scorer, ...] = ()

    def __post_init__(self):
        if self.beam < 1 or self.max_symbols_per_frame < 1:
            raise ValueError(
                f"beam ({self.beam}) and max_symbols_per_frame ({self.max_symbols_per_frame}) must be positive"
            )
        if self.expansion_margin is not None and self.expansion_margin < 0:
            raise ValueError(
                f"expansion_margin ({self.expansion_margin}) must not be negative; None follows every token"
            )

    def describe(self) -> dict[str, Any]:
        """The settings as a dictionary that JSON takes, with what each scorer says of itself."""
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**settings, "scorers": [scorer.describe() for scorer in self.scorers]}

    def __call__(
        self, model: Any, encoder_projection: tf.Tensor, lengths: tf.Tensor, *, trim: bool = True
    ) -> BeamResult:
        """The best hypotheses.

        Args:
          model: with predictor_start, predictor_project, predictor_advance and joint_logits, see greedy_decode; the
            number of symbols must be known when the search is traced.
          encoder_projection: [B, T, H]; frames beyond `lengths` may hold anything, NaN too.
          lengths: int32 [B], valid frames of each utterance, 0 allowed.
          trim: True cuts tokens to U, the longest hypothesis, and evaluates the model where it must be. False is for
            XLA: all shapes are static, so tokens have T * max_symbols_per_frame columns, B, T and H must be known, and
            the model is evaluated for all places. An n-gram language model does not go with it.

        Returns:
          A BeamResult.
        """
        return Search(self, model, encoder_projection, lengths, trim).run()


def beam_decode(model: Any, encoder_projection: tf.Tensor, lengths: tf.Tensor, **settings: Any) -> BeamResult:
    """`BeamSearch(**settings)` at once."""
    return BeamSearch(**settings)(model, encoder_projection, lengths)
