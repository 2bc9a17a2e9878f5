"""Types of arguments."""

import tensorflow as tf

TensorLike = tf.types.experimental.TensorLike
"""Whatever TensorFlow turns into a tensor: its own, NumPy arrays, nested lists of numbers."""
