"""Text to token ids and back."""

from tf_rnnt_kd.text.errors import TextError
from tf_rnnt_kd.text.languages import LANGUAGES, language_of
from tf_rnnt_kd.text.normalise import PROFILES, normalise
from tf_rnnt_kd.text.pieces import BLANK_PIECE, WORD_START
from tf_rnnt_kd.text.selection import train_tokenizer
from tf_rnnt_kd.text.tokenizer import Tokenizer, UnknownCharacters

__all__ = [
    "BLANK_PIECE",
    "LANGUAGES",
    "PROFILES",
    "WORD_START",
    "TextError",
    "Tokenizer",
    "UnknownCharacters",
    "language_of",
    "normalise",
    "train_tokenizer",
]
