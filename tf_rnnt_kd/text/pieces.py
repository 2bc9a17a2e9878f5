"""The two ways to cut a text into pieces, and how pieces become text again in graph."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import sentencepiece
import tensorflow as tf

BLANK_PIECE = "<blank>"
WORD_START = "\u2581"


class CharacterCodec:
    """Each word is U+2581 and its characters; ids are positions in `pieces`."""

    def __init__(self, pieces: Sequence[str]):
        self._ids = {piece: index for index, piece in enumerate(pieces) if index}
        self._table: Any = None

    def encode(self, text: str) -> tuple[list[int], list[str]]:
        """Ids of `text`, and the characters (sorted) that have none."""
        characters = [char for word in text.split() for char in (WORD_START, *word)]
        unknown = sorted({char for char in characters if char not in self._ids})
        return [self._ids.get(char, 0) for char in characters], unknown

    def encode_tf(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Strings [B] -> int32 ragged [B, (U)], 0 where there is no id."""
        words = tf.strings.split(strings)  # on white space, [B, (W)]
        marked = tf.strings.reduce_join(tf.strings.join([WORD_START, words]), axis=-1)
        characters = tf.strings.unicode_split(marked, "UTF-8")
        return characters.with_flat_values(self._lookup(characters.flat_values))

    def _lookup(self, characters: tf.Tensor) -> tf.Tensor:
        if self._table is None:
            with tf.init_scope():  # the table must outlive the graph that asks for it first
                keys, values = list(self._ids), list(self._ids.values())
                initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant(values, tf.int64))
                self._table = tf.lookup.StaticHashTable(initializer, default_value=0)
        return tf.cast(self._table.lookup(characters), tf.int32)


class SentencePieceCodec:
    """A SentencePiece model: the Python package outside of graphs, tensorflow-text inside."""

    def __init__(self, model: bytes):
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._in_graph: Any = None

    def encode(self, text: str) -> tuple[list[int], list[str]]:
        """Ids of `text`, and the pieces (sorted) that have none."""
        ids = self._processor.encode(text)
        if 0 not in ids:
            return ids, []
        surfaces = self._processor.encode(text, out_type=str)
        return ids, sorted({piece.strip(WORD_START) for piece, i in zip(surfaces, ids, strict=True) if i == 0})

    def encode_tf(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Strings [B] -> int32 ragged [B, (U)], 0 where there is no id."""
        if self._in_graph is None:
            import tensorflow_text  # slow to import, and only training needs it

            # Its resource must outlive the graph that asks for it first.
            with tf.init_scope(), without_native_lines(b"precompiled_charsmap is empty"):
                self._in_graph = tensorflow_text.SentencepieceTokenizer(self._model, out_type=tf.int32)
        return self._in_graph.tokenize(strings)


def join_pieces(tokens: tf.Tensor, num_tokens: tf.Tensor, *, pieces: Sequence[str]) -> tf.Tensor:
    """int32 [B, U], int32 [B] -> text [B], by plain string operations that every TensorFlow server has."""
    table = tf.constant(["", *pieces[1:]])
    inside = tf.range(tf.shape(tokens)[1])[None] < tf.cast(num_tokens, tf.int32)[:, None]
    joined = tf.strings.reduce_join(tf.gather(table, tf.where(inside, tokens, 0)), axis=-1)
    return tf.strings.strip(tf.strings.regex_replace(joined, f"{WORD_START}+", " "))


@contextlib.contextmanager
def without_native_lines(unwanted: bytes) -> Iterator[None]:
    """Keeps lines with `unwanted` in them off stderr, though C++ writes them there; all others appear at the end.

    The SentencePiece inside of tensorflow-text has a log level that nothing outside can set.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if unwanted not in line:
                    os.write(2, line)
