"""Masks of valid frames."""

import tensorflow as tf


def count_frames(frames):
    """The T of frames [B, T, ...], as a number where it is known."""
    return frames.shape[1] if frames.shape[1] is not None else tf.shape(frames)[1]


def valid_frames(lengths, num_frames):
    """Booleans [B, T]: frame t of utterance b exists (t < lengths[b])."""
    return tf.range(num_frames)[None, :] < lengths[:, None]


def keep_valid(frames, valid):
    """Frames [B, T, ...] with zeros where `valid` [B, T] is false.

    A selection, not a product, so that NaN in the padding reaches neither values nor gradients.
    """
    valid = tf.reshape(valid, tf.concat([tf.shape(valid), tf.ones([len(frames.shape) - 2], tf.int32)], axis=0))
    return tf.where(valid, frames, tf.zeros([], frames.dtype))


def mask_frames(frames, lengths):
    """Frames [B, T, ...] with everything beyond `lengths` [B] replaced by zeros."""
    return keep_valid(frames, valid_frames(lengths, count_frames(frames)))
