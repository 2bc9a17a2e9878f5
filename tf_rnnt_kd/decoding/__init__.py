"""Search over an RNN-T lattice; words with times and confidence."""

from tf_rnnt_kd.decoding.beam import BeamResult, BeamSearch, beam_decode
from tf_rnnt_kd.decoding.greedy import GreedyResult, GreedySearch, greedy_decode, initial_state
from tf_rnnt_kd.decoding.words import Words, words_from_tokens

__all__ = [
    "BeamResult",
    "BeamSearch",
    "GreedyResult",
    "GreedySearch",
    "Words",
    "beam_decode",
    "greedy_decode",
    "initial_state",
    "words_from_tokens",
]
