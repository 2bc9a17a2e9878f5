"""End-point detection: has the speaker of a stream finished? Rules over the blanks of the search, in graph.

Kaldi's online endpointing (its OnlineEndpointRule) for a transducer: frames without a token are the silence, as in k2's
sherpa, whose defaults these are.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class EndpointRule:
    """Holds where all of its conditions do; a stream has reached its end where any of its rules holds.

    Args:
      min_trailing_silence: seconds of frames after that of the last token; where there is no token, all frames.
      min_utterance_length: seconds of frames, all that were decoded.
      must_contain_speech: whether there must be a token.

    Raises:
      ValueError: a time is negative or no number, or the rule would hold before the first frame.
    """

    min_trailing_silence: float = 0.0
    min_utterance_length: float = 0.0
    must_contain_speech: bool = True

    def __post_init__(self):
        for name in ("min_trailing_silence", "min_utterance_length"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"an end-point rule's {name} is {seconds}: give seconds, 0 or more")
        if not (self.min_trailing_silence or self.min_utterance_length or self.must_contain_speech):
            raise ValueError(
                "an end-point rule without any condition ends every stream at once: "
                "give it min_trailing_silence, min_utterance_length or must_contain_speech"
            )


DEFAULT_RULES = (
    EndpointRule(min_trailing_silence=2.4, must_contain_speech=False),
    EndpointRule(min_trailing_silence=1.2),
    EndpointRule(min_utterance_length=20.0, must_contain_speech=False),
)
"""Nobody speaks; somebody has spoken; somebody does not stop."""


class Endpoint(NamedTuple):
    """What detect_endpoint returns, by the names that stream_step gives it.

    is_endpoint: bool [B].
    endpoint_rule: int32 [B], number of the first rule that holds, from 1; 0 where none does.
    trailing_silence_seconds: float32 [B].
    """

    is_endpoint: tf.Tensor
    endpoint_rule: tf.Tensor
    trailing_silence_seconds: tf.Tensor


def rule_table(rules, *, size=None):
    """EndpointRules as an array.

    Args:
      rules: R of them.
      size: rows to fill up to, by rows of zeros, which are no rules; None: R.

    Returns:
      float32 [size, 3]: min_trailing_silence, min_utterance_length, 1 or 0 for must_contain_speech.

    Raises:
      ValueError: there are more rules than rows.
    """
    rules = list(rules)
    size = len(rules) if size is None else size
    if len(rules) > size:
        raise ValueError(f"{len(rules)} end-point rules do not fit in a stream's {size}: leave some out")
    table = np.zeros([size, 3], np.float32)
    for row, rule in zip(table, rules, strict=False):
        row[:] = dataclasses.astuple(rule)
    return table


def detect_endpoint(rules, *, num_frames, last_token_frame, frame_seconds):
    """Which streams have reached their end.

    Args:
      rules: float32 [B, R, 3], each stream's rule_table; R may be 0, and a row of zeros is no rule.
      num_frames: int32 [B], encoder frames decoded.
      last_token_frame: int32 [B], frame of the last token, counted from 0; -1 where there is none.
      frame_seconds: length of an encoder frame.

    Returns:
      An Endpoint.
    """
    silence = num_frames - 1 - last_token_frame
    # Frames times their length may fall short of the same seconds by a rounding error.
    slack = 0.01 * frame_seconds
    silence_seconds = tf.cast(silence, tf.float32) * frame_seconds
    length_seconds = tf.cast(num_frames, tf.float32) * frame_seconds
    holds = (
        (silence_seconds[:, None] + slack >= rules[:, :, 0])
        & (length_seconds[:, None] + slack >= rules[:, :, 1])
        & ((last_token_frame >= 0)[:, None] | (rules[:, :, 2] < 0.5))
        & tf.reduce_any(rules > 0, axis=2)
    )
    is_endpoint = tf.reduce_any(holds, axis=1)
    number = tf.where(holds, tf.range(1, tf.shape(rules)[1] + 1)[None, :], tf.int32.max)
    return Endpoint(
        is_endpoint=is_endpoint,
        endpoint_rule=tf.where(is_endpoint, tf.reduce_min(number, axis=1), 0),
        trailing_silence_seconds=silence_seconds,
    )
