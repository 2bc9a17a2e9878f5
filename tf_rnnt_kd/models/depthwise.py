"""Depthwise convolution over time with a gradient of forward convolutions only."""

import tensorflow as tf


def depthwise_over_time(frames, kernel):
    """y[b, t, c] = sum over k of frames[b, t + k, c] kernel[k, c].

    The gradients are convolutions of the same kind: of the padded upstream gradient with the reversed kernel, and of
    the frames, seen as one sequence of B C channels, with the upstream gradient as a kernel of T frames. TensorFlow's
    own kernel gradient takes as long, and has no deterministic form on GPUs.

    Args:
      frames: [B, T + K - 1, C] float.
      kernel: [K, C], of the same dtype.

    Returns:
      [B, T, C].
    """

    @tf.custom_gradient
    def run(frames, kernel):
        def gradient(upstream):
            reach = tf.shape(kernel)[0] - 1
            padded = tf.pad(upstream, [[0, 0], [reach, reach], [0, 0]])
            to_frames = _convolve(padded, tf.reverse(kernel, axis=[0]))
            by_utterance = _convolve(_as_channels(frames)[None], _as_channels(upstream))
            shape = [-1, tf.shape(frames)[0], kernel.shape[1]]
            # At least in float32: the sum is over every frame of the batch.
            wide = tf.float64 if kernel.dtype == tf.float64 else tf.float32
            to_kernel = tf.reduce_sum(tf.cast(tf.reshape(by_utterance[0], shape), wide), axis=1)
            return to_frames, tf.cast(to_kernel, kernel.dtype)

        return _convolve(frames, kernel), gradient

    return run(frames, kernel)


def _convolve(frames, kernel):
    """[B, T + K - 1, C] and [K, C] -> [B, T, C]; time is the width of an image of height one."""
    return tf.nn.depthwise_conv2d(frames[:, None], kernel[None, :, :, None], strides=[1, 1, 1, 1], padding="VALID")[
        :, 0
    ]


def _as_channels(frames):
    """[B, T, C] -> [T, B C]."""
    together = tf.transpose(frames, [1, 0, 2])
    return tf.reshape(together, [tf.shape(frames)[1], tf.shape(frames)[0] * frames.shape[2]])
