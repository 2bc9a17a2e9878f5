"""Search over an RNN-T lattice; scores from outside the model; words with times and confidence."""

from tf_rnnt_kd.decoding.arpa import read_arpa
from tf_rnnt_kd.decoding.beam import BeamSearch, beam_decode
from tf_rnnt_kd.decoding.biasing import PhraseBias
from tf_rnnt_kd.decoding.confidence import Calibration
from tf_rnnt_kd.decoding.expansion import BeamResult
from tf_rnnt_kd.decoding.greedy import GreedyResult, GreedySearch, greedy_decode, initial_state
from tf_rnnt_kd.decoding.ngram import NgramLanguageModel
from tf_rnnt_kd.decoding.scorers import NeuralLanguageModel, Scorer
from tf_rnnt_kd.decoding.words import TokenTimes, Words, token_times, words_from_tokens

__all__ = [
    "BeamResult",
    "BeamSearch",
    "Calibration",
    "GreedyResult",
    "GreedySearch",
    "NeuralLanguageModel",
    "NgramLanguageModel",
    "PhraseBias",
    "Scorer",
    "TokenTimes",
    "Words",
    "beam_decode",
    "greedy_decode",
    "initial_state",
    "read_arpa",
    "token_times",
    "words_from_tokens",
]
