"""Arithmetic of sequence scores log P(y|x) that may be -inf, shared by the sequence-level losses."""

import tensorflow as tf

DISTANCES = ("l1", "l2", "huber")


def both_finite(teacher, student):
    """([...] bool where both scores are finite, the two scores with 0 in place of the others)."""
    finite = tf.math.is_finite(teacher) & tf.math.is_finite(student)
    teacher, student = (tf.where(finite, x, tf.zeros([], x.dtype)) for x in (teacher, student))
    return finite, teacher, student


def or_infinite(possible, value):
    """The value, or +inf without gradient where it means nothing."""
    return tf.where(possible, value, tf.constant(float("inf"), value.dtype))


def distance(difference, kind, *, delta=1.0):
    """'l1': |d|; 'l2': d^2 / 2; 'huber': d^2 / 2 up to |d| = delta, from there on delta (|d| - delta / 2)."""
    check_distance(kind, delta)
    size = tf.abs(difference)
    if kind == "l1":
        return size
    if kind == "l2":
        return 0.5 * tf.square(difference)
    inner = tf.minimum(size, delta)
    return inner * (size - 0.5 * inner)


def check_distance(kind, delta=1.0):
    if kind not in DISTANCES:
        raise ValueError(f"distance={kind!r} is not one of {', '.join(DISTANCES)}")
    if not delta > 0:
        raise ValueError(f"delta={delta} must be above 0")
