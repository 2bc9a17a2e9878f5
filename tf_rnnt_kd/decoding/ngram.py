"""Shallow fusion with an n-gram language model, back-off exact, in graph."""

import hashlib
import pathlib

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.decoding.arpa import Ngrams, read_arpa
from tf_rnnt_kd.lattice import NEGATIVE_INFINITY

_MOST_ENTRIES = 50_000_000  # constants of a graph, 20 bytes each: a SavedModel holds less than 2 GB


class NgramLanguageModel:
    """weight * log P(token | tokens before), with the end of the sentence where the utterance ends.

    A state is the node [R] int32 of the longest context that the model lists. The tables are constants of the graph.
    A search with it does not compile under XLA: how many entries a context has differs.

    Args:
      ngrams: from read_arpa.
      weight: of the log-probabilities.
      name: for `describe`.

    Raises:
      ValueError: it has too many n-grams for constants.
    """

    def __init__(self, ngrams: Ngrams, *, weight: float, name: str = ""):
        if len(ngrams.entry_id) > _MOST_ENTRIES:
            raise ValueError(
                f"the language model has {len(ngrams.entry_id):,} n-grams, a graph takes {_MOST_ENTRIES:,}: prune it"
            )
        self.ngrams, self.weight, self.name = ngrams, float(weight), name
        # Symbols, and the beginning and the end of a sentence.
        self._num_ids = ngrams.vocab_size + 2
        nodes = np.repeat(np.arange(len(ngrams.backoff), dtype=np.int64), np.diff(ngrams.first))
        self._keys = nodes * self._num_ids + ngrams.entry_id
        self._unigrams = np.full([self._num_ids], NEGATIVE_INFINITY, np.float32)
        of_root = slice(0, ngrams.first[1])
        self._unigrams[ngrams.entry_id[of_root]] = ngrams.entry_log_prob[of_root]
        self._has_end = self._unigrams[-1] > NEGATIVE_INFINITY

    @classmethod
    def from_arpa(cls, path, *, pieces, weight):
        """Reads an ARPA file; see read_arpa."""
        ngrams = read_arpa(path, pieces=pieces)
        digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]
        return cls(ngrams, weight=weight, name=f"{pathlib.Path(path).name} {digest}")

    def start(self, batch_size):
        return tf.fill([batch_size], self.ngrams.start)

    def label_scores(self, state):
        log_probs = self._log_probs(state)
        log_probs = tf.where(self.ngrams.known, log_probs[:, : self.ngrams.vocab_size], log_probs[:, :1])
        return self.weight * log_probs[:, 1:]

    def advance(self, state, tokens):
        keys = tf.constant(self._keys)
        ids = tf.cast(tf.where(tf.gather(self.ngrams.known, tokens), tokens, 0), tf.int64)
        node, following = state, tf.zeros_like(state)
        found = tf.zeros_like(state, tf.bool)
        for _ in range(self.ngrams.order):
            key = tf.cast(node, tf.int64) * self._num_ids + ids
            entry = tf.minimum(tf.searchsorted(keys, key), len(self._keys) - 1)
            here = ~found & (tf.gather(keys, entry) == key)
            following = tf.where(here, tf.gather(self.ngrams.entry_next, entry), following)
            found |= here
            node = tf.gather(self.ngrams.shorter, node)
        return following

    def final(self, state):
        if not self._has_end:
            return tf.zeros_like(state, tf.float32)
        return self.weight * self._log_probs(state)[:, -1]

    def describe(self):
        return {
            "kind": "n-gram language model", "name": self.name, "order": self.ngrams.order,
            "ngrams": len(self._keys), "weight": self.weight,
        }  # fmt: skip

    def _log_probs(self, state):
        """Of all ids [R, V + 2]: from the shortest context to the longest, what is listed replaces what backs off."""
        ngrams = self.ngrams
        contexts = [state]
        for _ in range(ngrams.order - 2):
            contexts.append(tf.gather(ngrams.shorter, contexts[-1]))
        log_probs = tf.repeat(self._unigrams[None, :], tf.shape(state)[0], axis=0)
        # Node 0, the empty context, is in the unigrams already.
        for node in reversed(contexts[: max(ngrams.order - 1, 0)]):
            log_probs += tf.where(node > 0, tf.gather(ngrams.backoff, node), 0.0)[:, None]
            starts, limits = (tf.where(node > 0, tf.gather(ngrams.first, node + k), 0) for k in (0, 1))
            entries = tf.ragged.range(starts, limits)
            rows = tf.cast(entries.value_rowids(), tf.int32)
            ids = tf.gather(ngrams.entry_id, entries.flat_values)
            listed = tf.gather(ngrams.entry_log_prob, entries.flat_values)
            log_probs = tf.tensor_scatter_nd_update(log_probs, tf.stack([rows, ids], axis=1), listed)
        return log_probs
