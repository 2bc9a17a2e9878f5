"""Text to token ids and back."""

from tf_rnnt_kd.text.normalise import PROFILES, normalise
from tf_rnnt_kd.text.pieces import BLANK_PIECE, WORD_START
from tf_rnnt_kd.text.selection import train_tokenizer
from tf_rnnt_kd.text.tokenizer import Tokenizer, UnknownCharacters

__all__ = ["BLANK_PIECE", "PROFILES", "WORD_START", "Tokenizer", "UnknownCharacters", "normalise", "train_tokenizer"]
