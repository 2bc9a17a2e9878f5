"""Random numbers from explicit seeds that are the same under XLA as without, and on every device."""

import hashlib
import math

import tensorflow as tf

GENERATOR = "philox"  # named, since the default differs between XLA and eager, and between devices


def key_of(seed: int, name: str) -> int:
    """A key in the range of int32 for the draws of something with a name, such as a variable's path."""
    return int.from_bytes(hashlib.md5(f"{seed}/{name}".encode()).digest()[:4], "big", signed=True)


def uniform(shape: list, *, seed: tf.Tensor) -> tf.Tensor:
    """float32 in 0..1 (1 excluded) from seed int [2]; TensorFlow's own uniform floats differ under XLA."""
    bits = tf.random.stateless_uniform(shape, seed, None, None, tf.int32, alg=GENERATOR)
    return (
        tf.cast(tf.bitwise.right_shift(tf.bitcast(bits, tf.uint32), tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24
    )


def normal(shape: list, *, seed: tf.Tensor) -> tf.Tensor:
    """float32 of mean 0 and standard deviation 1 (Box and Muller 1958), equal under XLA up to rounding."""
    shares = uniform([*shape, 2], seed=seed)
    return tf.sqrt(-2.0 * tf.math.log(1.0 - shares[..., 0])) * tf.cos(2.0 * math.pi * shares[..., 1])
