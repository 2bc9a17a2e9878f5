"""The depthwise convolution and its gradients against the definition in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.models.depthwise import depthwise_over_time

B, T, K, C = 3, 7, 4, 5


def _inputs(dtype=np.float64):
    random = np.random.default_rng(0)
    return [random.normal(size=size).astype(dtype) for size in ((B, T + K - 1, C), (K, C), (B, T, C))]


def _definition(frames, kernel, upstream):
    """(outputs, gradient to frames, gradient to kernel), one product at a time."""
    outputs, to_frames, to_kernel = np.zeros([B, T, C]), np.zeros_like(frames), np.zeros_like(kernel)
    for t in range(T):
        for k in range(K):
            outputs[:, t] += frames[:, t + k] * kernel[k]
            to_frames[:, t + k] += upstream[:, t] * kernel[k]
            to_kernel[k] += (frames[:, t + k] * upstream[:, t]).sum(0)
    return outputs, to_frames, to_kernel


def _step(frames, kernel, upstream):
    with tf.GradientTape() as tape:
        tape.watch((frames, kernel))
        outputs = depthwise_over_time(frames, kernel)
    return outputs, *tape.gradient(outputs, (frames, kernel), output_gradients=upstream)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_values_and_gradients_are_those_of_the_definition(jit_compile):
    arguments = _inputs(np.float32 if jit_compile else np.float64)
    unknown = [tf.TensorSpec([None, None, C], arguments[0].dtype), tf.TensorSpec([None, C], arguments[0].dtype)]
    step = tf.function(_step, jit_compile=jit_compile, input_signature=[*unknown, unknown[0]])
    for got, want in zip(step(*map(tf.constant, arguments)), _definition(*_inputs()), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5 if jit_compile else 1e-12, atol=1e-5 if jit_compile else 1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_short_floats(dtype):
    arguments = [tf.cast(x, dtype) for x in _inputs()]
    for got, want in zip(_step(*arguments), _definition(*_inputs()), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(tf.cast(got, tf.float64), want, rtol=0.05, atol=0.1)
