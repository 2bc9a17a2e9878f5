"""Context biasing: phrases that a search should favour, as an automaton in the graph (Aho and Corasick 1975)."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class _Automaton(NamedTuple):
    """A trie of M nodes; node 0 is its root, a node stands for the tokens that lead to it.

    following: int32 [M, V], the node of the longest suffix that some phrase begins with, after each symbol.
    earned: int32 [M], tokens of all phrases that end here. pending: int32 [M], tokens after the last phrase's end.
    """

    following: tf.Tensor
    earned: tf.Tensor
    pending: tf.Tensor


class PhraseBias:
    """Each occurrence of a phrase among a hypothesis' tokens is worth `bonus` for each of the phrase's tokens.

    The bonus of a token comes with the token, while a phrase is only begun, and is given back where the hypothesis goes
    on otherwise or ends. Phrases that overlap or lie within others count for themselves. The phrases may be arguments
    of the graph; the automaton is then made at each call, and takes 4 * V bytes for each beginning of a phrase.

    Args:
      phrases: int32 [P, L], tokens; P and L may be 0. num_tokens: int32 [P]; a phrase without tokens, or with any that
        is no symbol but the blank, is left out.
      vocab_size: V.
      bonus: natural-log units for each token.
      name: for `describe`.
    """

    variables: Sequence[tf.Variable] = ()

    def __init__(
        self, phrases: tf.Tensor, num_tokens: tf.Tensor, *, vocab_size: int, bonus: float, name: str = ""
    ):
        self.bonus, self.name = bonus, name
        self._automaton = _build(tf.cast(phrases, tf.int32), tf.cast(num_tokens, tf.int32), vocab_size=vocab_size)

    @classmethod
    def from_token_lists(
        cls, phrases: Sequence[Sequence[int]], *, vocab_size: int, bonus: float
    ) -> "PhraseBias":
        """Of phrases that are known beforehand; their tables become constants of the graph.

        Raises:
          ValueError: a phrase has no tokens or one that is not in 1..V-1.
        """
        for tokens in phrases:
            if not tokens or not 0 < min(tokens) <= max(tokens) < vocab_size:
                raise ValueError(f"a phrase needs tokens in 1..{vocab_size - 1}, got {list(tokens)}")
        counts = [len(tokens) for tokens in phrases]
        table = np.zeros([len(phrases), max(counts, default=0)], np.int32)
        for row, tokens in zip(table, phrases, strict=True):
            row[: len(tokens)] = tokens
        digest = hashlib.sha256(repr([list(map(int, tokens)) for tokens in phrases]).encode()).hexdigest()[:16]
        with tf.init_scope():
            bias = cls(table, counts, vocab_size=vocab_size, bonus=float(bonus), name=f"{len(phrases)}, {digest}")
            bias._automaton = _Automaton(*(tensor.numpy() for tensor in bias._automaton))
        return bias

    def start(self, batch_size: int | tf.Tensor) -> Any:
        return tf.zeros([batch_size], tf.int32)

    def label_scores(self, state: Any) -> tf.Tensor:
        following, earned, pending = self._automaton
        worth = tf.gather(tf.convert_to_tensor(earned) + pending, tf.gather(following, state)[:, 1:])
        return self.bonus * tf.cast(worth - tf.gather(pending, state)[:, None], tf.float32)

    def advance(self, state: Any, tokens: tf.Tensor) -> Any:
        return tf.gather_nd(self._automaton.following, tf.stack([state, tokens], axis=1))

    def final(self, state: Any) -> tf.Tensor:
        return -self.bonus * tf.cast(tf.gather(self._automaton.pending, state), tf.float32)

    def describe(self) -> dict[str, Any]:
        return {"kind": "phrases", "name": self.name, "bonus": float(self.bonus)}


def _build(phrases, num_tokens, *, vocab_size):
    num_phrases, longest = tf.unstack(tf.shape(phrases))
    inside = tf.sequence_mask(num_tokens, longest)
    valid = tf.reduce_all(~inside | ((phrases > 0) & (phrases < vocab_size)), axis=1) & (num_tokens <= longest)
    inside &= valid[:, None]
    nodes = _nodes(phrases, inside)
    num_nodes = tf.reduce_max(tf.concat([[0], tf.reshape(nodes, [-1])], 0)) + 1
    is_end = inside & (tf.range(longest) == num_tokens[:, None] - 1)
    ended = tf.boolean_mask(nodes, is_end)
    ends = tf.scatter_nd(ended[:, None], tf.ones_like(ended), [num_nodes]) > 0

    def level(depth, following, shorter, earned, last_end):
        """Nodes of `depth` + 1 tokens; those of fewer are complete."""
        here = inside[:, depth]
        node, token = tf.boolean_mask(nodes[:, depth], here), tf.boolean_mask(phrases[:, depth], here)
        parent = tf.where(depth > 0, tf.boolean_mask(nodes[:, tf.maximum(depth - 1, 0)], here), 0)
        # The longest proper suffix: of one token it is nothing, though the root leads there already.
        suffix = tf.gather_nd(following, tf.stack([tf.gather(shorter, parent), token], axis=1))
        suffix = tf.where(depth > 0, suffix, 0)
        following = tf.tensor_scatter_nd_update(following, tf.stack([parent, token], axis=1), node)
        following = tf.tensor_scatter_nd_update(following, node[:, None], tf.gather(following, suffix))
        is_end = tf.gather(ends, node)
        new = tf.where(is_end, depth + 1, 0) + tf.gather(earned, suffix)
        reached = tf.where(is_end, depth + 1, tf.gather(last_end, parent))
        shorter, earned, last_end = (
            tf.tensor_scatter_nd_update(old, node[:, None], values)
            for old, values in ((shorter, suffix), (earned, new), (last_end, reached))
        )
        return depth + 1, following, shorter, earned, last_end

    zeros = tf.zeros([num_nodes], tf.int32)
    _, following, _, earned, last_end = tf.while_loop(
        lambda depth, *_: depth < longest, level, (0, tf.zeros([num_nodes, vocab_size], tf.int32), zeros, zeros, zeros)
    )
    lengths = tf.broadcast_to(tf.range(1, longest + 1), tf.shape(nodes))
    depths = tf.tensor_scatter_nd_max(zeros, tf.boolean_mask(nodes, inside)[:, None], tf.boolean_mask(lengths, inside))
    return _Automaton(following, earned, depths - last_end)


def _nodes(phrases, inside):
    """A number from 1 for each distinct beginning, int32 [P, L]; 0 outside."""
    factor = tf.constant(0x5851F42D4C957F2D, tf.int64)
    powers = tf.math.cumprod(tf.fill([tf.shape(phrases)[1]], factor))
    # Equal beginnings have equal sums modulo 2^64, others almost never.
    digests = tf.cumsum(tf.cast(phrases, tf.int64) * powers, axis=1)
    digests = tf.reshape(tf.where(inside, digests, 0), [-1])
    return tf.reshape(tf.unique(tf.concat([tf.zeros([1], tf.int64), digests], 0)).idx[1:], tf.shape(phrases))
