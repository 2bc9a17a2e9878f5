"""Text to token ids and back, in Python and in graph, with the blank at id 0.

Ids are those of the RNN-T's output: 0 is the blank and never stands for text. A SentencePiece model is trained so that
its unknown symbol has id 0 and there are no other control symbols; its ids are then ours as they are, and an id 0 that
comes out of encoding says "unknown", which nothing may train on.

A piece that begins with U+2581 begins a word. `tokenizer.json` holds kind, pieces and hash; `sentencepiece.model` lies
beside it where there is one.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece
import tensorflow as tf

from tf_rnnt_kd.text.pieces import BLANK_PIECE, WORD_START, CharacterCodec, SentencePieceCodec, join_pieces
from tf_rnnt_kd.text.training import train_sentencepiece_model

CHARACTERS = "characters"
SENTENCEPIECE = "sentencepiece"
TOKENIZER_FILE = "tokenizer.json"
MODEL_FILE = "sentencepiece.model"


class UnknownCharacters(ValueError):
    """A text holds what the vocabulary lacks; `unknown` lists it (characters, or words for a vocabulary of words)."""

    def __init__(self, text: str, *, unknown: Sequence[str]):
        self.text = text
        self.unknown = tuple(unknown)
        listed = ", ".join(repr(item) for item in self.unknown[:10])
        super().__init__(
            f"{text[:60]!r} has {listed}, which the vocabulary lacks: normalise the text, or train a tokenizer on it"
        )


class Tokenizer:
    """A vocabulary of V tokens, the blank included. Make one with `train_sentencepiece`, `train_characters` or `load`.

    Attributes:
        kind: "sentencepiece" or "characters".
        pieces: V strings, `pieces[0] == "<blank>"`; U+2581 marks the start of a word.
        hash: 16 hex digits of the SHA-256 of kind, pieces and model: equal hashes mean equal ids for every text.
        word_start: bool [V], numpy: the token begins a word.
    """

    def __init__(self, *, kind: str, pieces: Sequence[str], model: bytes | None = None):
        if kind not in (SENTENCEPIECE, CHARACTERS) or (kind == SENTENCEPIECE) != (model is not None):
            raise ValueError(f"kind {kind!r}: {SENTENCEPIECE!r} needs a model, {CHARACTERS!r} has none")
        if len(pieces) < 2 or pieces[0] != BLANK_PIECE or len(set(pieces)) != len(pieces):
            raise ValueError(f"pieces must be distinct and begin with {BLANK_PIECE!r}, got {list(pieces)[:5]}")
        self.kind = kind
        self.pieces = list(pieces)
        self._model = model
        self._codec = CharacterCodec(self.pieces) if model is None else SentencePieceCodec(model)
        content = json.dumps([kind, self.pieces], ensure_ascii=True).encode() + (model or b"")
        self.hash = hashlib.sha256(content).hexdigest()[:16]
        self.word_start = np.array([piece.startswith(WORD_START) for piece in self.pieces])

    @property
    def vocab_size(self) -> int:
        """V, with the blank."""
        return len(self.pieces)

    @classmethod
    def train_characters(cls, texts: Iterable[str]) -> "Tokenizer":
        """One token per character of `texts`, in order of code points, and one (U+2581) that begins each word.

        Raises:
            ValueError: no text at all.
        """
        characters = sorted({char for text in texts for char in text} - set(" \t\r\n\f\v"))
        if not characters:
            raise ValueError("no text to train a tokenizer on: are these splits labelled?")
        return cls(kind=CHARACTERS, pieces=[BLANK_PIECE, WORD_START, *[c for c in characters if c != WORD_START]])

    @classmethod
    def train_sentencepiece(cls, texts: Iterable[str], *, vocab_size: int, model_type: str = "unigram") -> "Tokenizer":
        """A SentencePiece vocabulary of `texts` (normalised already; SentencePiece itself changes no character).

        The same texts in the same order give the same model, byte for byte.

        Args:
            texts: transcripts.
            vocab_size: V with the blank; an upper bound, since small corpora may not have so many pieces.
            model_type: "unigram", "bpe", "char" or "word".

        Raises:
            ValueError: no text, an unknown model type, or a `vocab_size` that SentencePiece refuses.
        """
        model = train_sentencepiece_model(texts, vocab_size=vocab_size, model_type=model_type)
        return cls.from_sentencepiece(model)

    @classmethod
    def from_sentencepiece(cls, model: bytes) -> "Tokenizer":
        """Wraps a serialised SentencePiece model.

        Raises:
            ValueError: not such a model, or its unknown symbol is not id 0, or it has other control symbols.
        """
        try:
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError(f"not a SentencePiece model ({len(model)} bytes): {error}") from error
        size = processor.get_piece_size()
        control = [processor.id_to_piece(i) for i in range(1, size) if processor.is_control(i)]
        if processor.unk_id() != 0 or control:
            raise ValueError(
                f"a SentencePiece model for RNN-T needs unk_id 0 (it becomes the blank) and no control symbols, this "
                f"one has unk_id {processor.unk_id()} and {control}: train it with Tokenizer.train_sentencepiece"
            )
        pieces = [BLANK_PIECE, *[processor.id_to_piece(i) for i in range(1, size)]]
        return cls(kind=SENTENCEPIECE, pieces=pieces, model=model)

    @classmethod
    def load(cls, directory: str | os.PathLike) -> "Tokenizer":
        """Reads what `save` wrote.

        Raises:
            ValueError: no tokenizer there, or its files do not belong together.
        """
        path = f"{directory}/{TOKENIZER_FILE}"
        if not tf.io.gfile.exists(path):
            raise ValueError(
                f"{directory} holds no {TOKENIZER_FILE}: make it with python -m tf_rnnt_kd.train_tokenizer"
            )
        with tf.io.gfile.GFile(path) as file:
            content = json.loads(file.read())
        if content["kind"] == SENTENCEPIECE:
            with tf.io.gfile.GFile(f"{directory}/{MODEL_FILE}", "rb") as file:
                tokenizer = cls.from_sentencepiece(file.read())
        else:
            tokenizer = cls(kind=content["kind"], pieces=content["pieces"])
        if tokenizer.hash != content["hash"]:
            raise ValueError(
                f"the tokenizer in {directory} was changed: its content has hash {tokenizer.hash}, "
                f"{TOKENIZER_FILE} says {content['hash']}; copy the whole folder again"
            )
        return tokenizer

    def save(self, directory: str | os.PathLike) -> None:
        """Writes the folder; `tokenizer.json` comes last, in one step."""
        tf.io.gfile.makedirs(str(directory))
        if self._model is not None:
            with tf.io.gfile.GFile(f"{directory}/{MODEL_FILE}", "wb") as file:
                file.write(self._model)
        content = {"kind": self.kind, "hash": self.hash, "blank_index": 0, "pieces": self.pieces}
        temporary = f"{directory}/{TOKENIZER_FILE}.tmp"
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        tf.io.gfile.rename(temporary, f"{directory}/{TOKENIZER_FILE}", overwrite=True)

    def encode(self, text: str) -> list[int]:
        """Ids of a normalised text, none of them 0; an empty text has none.

        Raises:
            UnknownCharacters: the vocabulary lacks something in it.
        """
        ids, unknown = self._codec.encode(text)
        if unknown:
            raise UnknownCharacters(text, unknown=unknown)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; blanks (0) say nothing. Words are separated by one space, whatever the ids.

        Raises:
            ValueError: an id outside 0..V-1.
        """
        listed = [int(i) for i in ids]
        if listed and not 0 <= min(listed) <= max(listed) < self.vocab_size:
            raise ValueError(f"token ids must lie in 0..{self.vocab_size - 1}, got {listed[:20]}")
        text = "".join(self.pieces[i] for i in listed if i)
        return " ".join(text.replace(WORD_START, " ").split())

    def encode_tf(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """In graph: normalised strings [B] -> int32 ragged [B, (U)]. What is unknown appears as id 0: check for it."""
        return self._codec.encode_tf(strings)

    def decode_tf(self, tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
        """In graph, with plain TensorFlow string operations only: int32 [B, U] and [B] -> strings [B].

        Equal to `decode` of each row's first `num_tokens` ids; what stands behind them has no influence.
        """
        return join_pieces(tokens, num_tokens, pieces=self.pieces)
