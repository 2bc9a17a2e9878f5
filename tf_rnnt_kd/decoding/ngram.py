"""Shallow fusion with an n-gram language model, back-off exact, in graph."""

import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.decoding.arpa import Ngrams, read_arpa
from tf_rnnt_kd.lattice import NEGATIVE_INFINITY


class NgramLanguageModel:
    """weight * log P(token | tokens before), with the end of the sentence where the utterance ends.

    A state is the node [R] int32 of the longest context that the model lists. A search with it does not compile under
    XLA: how many entries a context has differs.

    Args:
      ngrams: from read_arpa.
      weight: of the log-probabilities.
      name: for `describe`.

    Attributes:
      variables: its tables, 20 bytes for each n-gram and 12 for each context. Constants would be in a SavedModel once
        for every operation that reads them.
    """

    def __init__(self, ngrams: Ngrams, *, weight: float, name: str = ""):
        self.weight, self.name = float(weight), name
        self._vocab_size, self._order, self._start = ngrams.vocab_size, ngrams.order, ngrams.start
        # Symbols, and the beginning and the end of a sentence.
        self._num_ids, self._num_entries = ngrams.vocab_size + 2, len(ngrams.entry_id)
        nodes = np.repeat(np.arange(len(ngrams.backoff), dtype=np.int64), np.diff(ngrams.first))
        unigrams = np.full([self._num_ids], NEGATIVE_INFINITY, np.float32)
        of_root = slice(0, ngrams.first[1])
        unigrams[ngrams.entry_id[of_root]] = ngrams.entry_log_prob[of_root]
        self._has_end = bool(unigrams[-1] > NEGATIVE_INFINITY)
        self._tables = {
            name: tf.Variable(values, trainable=False, name=name)
            for name, values in {
                "keys": nodes * self._num_ids + ngrams.entry_id, "unigrams": unigrams, "known": ngrams.known,
                "first": ngrams.first, "backoff": ngrams.backoff, "shorter": ngrams.shorter,
                "entry_id": ngrams.entry_id, "entry_log_prob": ngrams.entry_log_prob, "entry_next": ngrams.entry_next,
            }.items()
        }  # fmt: skip
        self.variables = tuple(self._tables.values())

    @classmethod
    def from_arpa(cls, path: str | os.PathLike, *, pieces: Sequence[str], weight: float) -> "NgramLanguageModel":
        """Reads an ARPA file; see read_arpa."""
        ngrams = read_arpa(path, pieces=pieces)
        digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]
        return cls(ngrams, weight=weight, name=f"{pathlib.Path(path).name} {digest}")

    def start(self, batch_size: int | tf.Tensor) -> Any:
        return tf.fill([batch_size], self._start)

    def label_scores(self, state: Any) -> tf.Tensor:
        log_probs = self._log_probs(state)
        log_probs = tf.where(self._tables["known"], log_probs[:, : self._vocab_size], log_probs[:, :1])
        return self.weight * log_probs[:, 1:]

    def advance(self, state: Any, tokens: tf.Tensor) -> Any:
        keys = tf.convert_to_tensor(self._tables["keys"])
        ids = tf.cast(tf.where(self._look_up("known", tokens), tokens, 0), tf.int64)
        node, following = state, tf.zeros_like(state)
        found = tf.zeros_like(state, tf.bool)
        for _ in range(self._order):
            key = tf.cast(node, tf.int64) * self._num_ids + ids
            entry = tf.minimum(tf.searchsorted(keys, key), self._num_entries - 1)
            here = ~found & (tf.gather(keys, entry) == key)
            following = tf.where(here, self._look_up("entry_next", entry), following)
            found |= here
            node = self._look_up("shorter", node)
        return following

    def final(self, state: Any) -> tf.Tensor:
        if not self._has_end:
            return tf.zeros_like(state, tf.float32)
        return self.weight * self._log_probs(state)[:, -1]

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "n-gram language model", "name": self.name, "order": self._order, "ngrams": self._num_entries,
            "weight": self.weight,
        }  # fmt: skip

    def _look_up(self, table, places):
        return tf.gather(self._tables[table], places)

    def _log_probs(self, state):
        """Of all ids [R, V + 2]: from the shortest context to the longest, what is listed replaces what backs off."""
        contexts = [state]
        for _ in range(self._order - 2):
            contexts.append(self._look_up("shorter", contexts[-1]))
        log_probs = tf.repeat(self._tables["unigrams"][None, :], tf.shape(state)[0], axis=0)
        # Node 0, the empty context, is in the unigrams already.
        for node in reversed(contexts[: max(self._order - 1, 0)]):
            log_probs += tf.where(node > 0, self._look_up("backoff", node), 0.0)[:, None]
            starts, limits = (tf.where(node > 0, self._look_up("first", node + k), 0) for k in (0, 1))
            entries = tf.ragged.range(starts, limits)
            rows = tf.cast(entries.value_rowids(), tf.int32)
            ids = self._look_up("entry_id", entries.flat_values)
            listed = self._look_up("entry_log_prob", entries.flat_values)
            log_probs = tf.tensor_scatter_nd_update(log_probs, tf.stack([rows, ids], axis=1), listed)
        return log_probs
