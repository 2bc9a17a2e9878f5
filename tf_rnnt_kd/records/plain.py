"""Functions for tf.data that are traced as they stand."""

import tensorflow as tf

plain = tf.autograph.experimental.do_not_convert
"""Decorator. AutoGraph would rewrite a function and all that it calls, in seconds, to look for Python's control flow
over tensors; where there is none, the graph is the same."""
