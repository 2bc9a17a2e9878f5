"""How sharp a teacher's distribution is before a student learns it (papers.md section 4.2 and 7, row 20).

A rule takes log-probabilities [R, V] of R nodes and returns smoothed ones. The power transform P^a / sum P^a is a
temperature 1 / a; adaptive rules choose a node by node. Which rule the paper on adaptive two-stage distillation uses
could not be read, so the rule is a setting: a name with options from a config, or any function of that signature.

    soft(teacher, student, ..., smoothing={"rule": "entropy", "nats": 0.5})
"""

import functools
import inspect
from collections.abc import Mapping

import tensorflow as tf


def power(log_probs, *, exponent):
    """P^exponent, normalised again; exponent in (0, 1) is smoother, 1 leaves P as it is."""
    return tf.nn.log_softmax(exponent * log_probs)


def peak(log_probs, *, threshold, exponent):
    """The power transform of nodes whose most probable symbol exceeds `threshold`; others stay as they are."""
    sharp = tf.reduce_max(log_probs, axis=-1, keepdims=True) > tf.math.log(tf.cast(threshold, log_probs.dtype))
    return tf.where(sharp, power(log_probs, exponent=exponent), log_probs)


def max_prob(log_probs, *, at_most, steps=12):
    """The largest exponent <= 1 for which no symbol is more probable than `at_most` (above 1 / V), by bisection."""
    return _bisect(
        log_probs, lambda smoothed: tf.exp(tf.reduce_max(smoothed, axis=-1, keepdims=True)) <= at_most, steps
    )


def entropy(log_probs, *, nats, steps=12):
    """The largest exponent <= 1 for which the entropy is at least `nats` (below log V), by bisection."""
    return _bisect(log_probs, lambda smoothed: entropy_of(smoothed) >= nats, steps)


def entropy_of(log_probs):
    """[..., V] -> [..., 1], nats."""
    return -tf.reduce_sum(tf.math.multiply_no_nan(log_probs, tf.exp(log_probs)), axis=-1, keepdims=True)


def _bisect(log_probs, smooth_enough, steps):
    """The exponent in (0, 1] at which `smooth_enough` begins to fail; 1 where it holds there."""
    low = tf.zeros_like(log_probs[..., :1])
    high = tf.ones_like(low)
    as_it_is = smooth_enough(log_probs)
    for _ in range(steps):
        middle = 0.5 * (low + high)
        enough = smooth_enough(power(log_probs, exponent=middle))
        low, high = tf.where(enough, middle, low), tf.where(enough, high, middle)
    return tf.where(as_it_is, log_probs, power(log_probs, exponent=low))


RULES = {"power": power, "peak": peak, "max_prob": max_prob, "entropy": entropy}


def resolve(smoothing):
    """A function of log-probabilities, or None.

    Args:
      smoothing: None, a function, or a mapping {"rule": name, option: number}.

    Raises:
      ValueError: for an unknown rule, or for options that the rule does not have or lacks.
    """
    if smoothing is None or callable(smoothing):
        return smoothing
    if not isinstance(smoothing, Mapping) and not hasattr(smoothing, "items"):
        raise ValueError(f"smoothing={smoothing!r} is neither a function nor a mapping such as {{'rule': 'power'}}")
    options = dict(smoothing.items())
    name = options.pop("rule", None)
    if name not in RULES:
        raise ValueError(f"smoothing rule {name!r} is not one of {', '.join(sorted(RULES))}")
    return _with_options(name, tuple(sorted(options.items())))


@functools.cache
def _with_options(name, options):
    rule = RULES[name]
    try:
        inspect.signature(rule).bind(None, **dict(options))
    except TypeError as error:
        raise ValueError(f"smoothing rule {name!r}: {error}") from error
    return functools.partial(rule, **dict(options))
