"""Masks of valid frames."""

import tensorflow as tf


def valid_frames(lengths, num_frames):
    """Booleans [B, T]: frame t of utterance b exists (t < lengths[b])."""
    return tf.range(num_frames)[None, :] < lengths[:, None]


def mask_frames(frames, lengths):
    """Frames [B, T, ...] with everything beyond `lengths` [B] replaced by zeros.

    A selection, not a product, so that NaN in the padding reaches neither values nor gradients.
    """
    num_frames = frames.shape[1] if frames.shape[1] is not None else tf.shape(frames)[1]
    valid = valid_frames(lengths, num_frames)
    valid = tf.reshape(valid, tf.concat([tf.shape(valid), tf.ones([len(frames.shape) - 2], tf.int32)], axis=0))
    return tf.where(valid, frames, tf.zeros([], frames.dtype))
