"""The encoder: streaming equals offline, padding reaches nothing, causality is as declared, parts equal naive forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.models import ConformerEncoder
from tf_rnnt_kd.models.attention import SelfAttention
from tf_rnnt_kd.models.conformer import ConvolutionModule
from tf_rnnt_kd.models.subsampling import HalvingStage

LENGTHS = np.array([96, 61, 1], np.int32)


def encoder(left_context=5, **changes):
    keras.utils.set_random_seed(3)
    settings = {"width": 16, "num_layers": 2, "num_heads": 2, "kernel_size": 5, "channels": 4, "dropout": 0.1}
    layer = ConformerEncoder(**{**settings, "left_context": left_context, **changes})
    layer.build((None, None, 7))
    return layer


def features(num_frames=96, seed=0):
    return np.random.default_rng(seed).normal(size=[3, num_frames, 7]).astype(np.float32)


def stream(layer, inputs, lengths, frames_per_step):
    state, outputs = layer.get_initial_state(len(inputs)), []
    for start in range(0, inputs.shape[1], frames_per_step):
        valid = np.clip(lengths - start, 0, frames_per_step)
        frames, state = layer.step(inputs[:, start : start + frames_per_step], tf.constant(valid), state)
        outputs.append(frames)
    return tf.concat(outputs, axis=1)


@pytest.mark.parametrize("frames_per_step", [8, 24, 48, 96])
def test_streaming_equals_offline_in_values_and_gradients(frames_per_step):
    layer, inputs = encoder(), tf.constant(features())
    variables = [variable.value for variable in layer.trainable_variables]
    weights = np.random.default_rng(1).normal(size=[3, 12, 16]).astype(np.float32)
    valid = (np.arange(12)[None] < (-(-LENGTHS // 8))[:, None])[..., None]

    def value_and_gradients(run):
        with tf.GradientTape() as tape:
            frames = tf.where(valid, run(), 0.0)
            loss = tf.reduce_sum(frames * weights)
        return frames, tape.gradient(loss, variables)

    offline, offline_gradients = value_and_gradients(lambda: layer(inputs, tf.constant(LENGTHS))[0])
    streamed, streamed_gradients = value_and_gradients(lambda: stream(layer, inputs, LENGTHS, frames_per_step))
    np.testing.assert_allclose(streamed, offline, atol=2e-5)
    for ours, theirs in zip(streamed_gradients, offline_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("left_context", [None, 5])
def test_nothing_in_the_padding_reaches_values_or_gradients(left_context):
    layer, clean = encoder(left_context), features()
    dirty = np.concatenate([clean, np.zeros([3, 21, 7], np.float32)], axis=1)
    for row, length in zip(dirty, LENGTHS, strict=True):
        row[length:] = np.nan
    variables = [variable.value for variable in layer.trainable_variables]
    results = []
    for inputs in (clean, dirty):
        with tf.GradientTape() as tape:
            frames, lengths = layer(tf.constant(inputs), tf.constant(LENGTHS))
            loss = tf.reduce_sum(frames**2)
        results.append((frames[:, :12], lengths, tape.gradient(loss, variables)))
    np.testing.assert_array_equal(results[0][1], [12, 8, 1])
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-5)
    for ours, theirs in zip(results[0][2], results[1][2], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(1.0, np.abs(theirs).max()))


def first_changed_and_last_changed(layer, position):
    inputs = features(160)
    lengths = tf.constant([160, 160, 160])
    changed = inputs.copy()
    changed[:, position] += 1.0
    difference = np.abs(layer(inputs, lengths)[0] - layer(changed, lengths)[0]).max(axis=(0, 2)) > 1e-6
    return np.flatnonzero(difference)[[0, -1]]


def test_a_causal_encoder_sees_no_future_and_as_much_past_as_declared():
    # Feature frame 43 lies in encoder frame 5. Each of two blocks hands it on by 5 (attention) plus 4 (kernel 5), and
    # the two stages before, which look one frame back, by one more at most.
    first, last = first_changed_and_last_changed(encoder(), 43)
    assert first == 5
    assert last <= 5 + 2 * (5 + 4) + 1 and last >= 5 + 5


def test_a_full_context_encoder_sees_everything():
    first, last = first_changed_and_last_changed(encoder(None), 83)
    assert first == 0 and last == 19


def test_batch_equals_one_by_one():
    layer, inputs = encoder(None), features()
    together = layer(inputs, tf.constant(LENGTHS))[0]
    for i, length in enumerate(LENGTHS):
        alone = layer(inputs[i : i + 1, :length], tf.constant([length]))[0]
        np.testing.assert_allclose(together[i, : alone.shape[1]], alone[0], atol=1e-5)


def test_xla_equals_eager():
    layer, inputs = encoder(num_layers=1), tf.constant(features())
    compiled = tf.function(lambda x, n: layer(x, n), jit_compile=True)
    lengths = tf.constant(LENGTHS)
    np.testing.assert_allclose(compiled(inputs, lengths)[0], layer(inputs, lengths)[0], atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_runs_in_half_precision_close_to_single(policy):
    single, half = encoder(), encoder(dtype=policy)
    half.set_weights(single.get_weights())
    inputs = tf.constant(features())
    close = np.abs(single(inputs, tf.constant(LENGTHS))[0] - tf.cast(half(inputs, tf.constant(LENGTHS))[0], tf.float32))
    assert half.blocks[0].attention.compute_dtype == policy.removeprefix("mixed_")
    assert close.max() < 0.15


def test_serialises():
    layer = encoder()
    copy = ConformerEncoder.from_config(layer.get_config())
    copy.build((None, None, 7))
    copy.set_weights(layer.get_weights())
    inputs, lengths = tf.constant(features()), tf.constant(LENGTHS)
    np.testing.assert_array_equal(copy(inputs, lengths)[0], layer(inputs, lengths)[0])


def test_a_full_context_layer_refuses_to_stream():
    with pytest.raises(ValueError, match="left_context"):
        encoder(None).get_initial_state(1)


@pytest.mark.parametrize("bins", [8, 5])
def test_halving_stage_equals_a_strided_convolution(bins):
    stage = HalvingStage(6)
    stage.build((None, None, bins, 4))
    x = np.random.default_rng(0).normal(size=[2, 9, bins, 4]).astype(np.float32)
    kernel, bias = stage.convolution.get_weights()
    padded = np.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]).astype(np.float64)
    half = (bins + 1) // 2
    expected = np.zeros([2, 5, half, 6])
    for t in range(5):
        for f in range(half):
            patch = padded[:, 2 * t : 2 * t + 3, 2 * f : 2 * f + 3]
            expected[:, t, f] = np.einsum("bijc,ijco->bo", patch, kernel) + bias
    expected /= 1 + np.exp(-expected)
    outputs, lengths = stage(x, tf.constant([9, 9]))
    np.testing.assert_array_equal(lengths, [5, 5])
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_depthwise_convolution_equals_tensorflows(causal):
    layer = ConvolutionModule(5, causal=causal)
    layer.build((None, None, 4))
    x = np.random.default_rng(0).normal(size=[2, 9, 4]).astype(np.float32)
    gated = layer._gated(x)
    padded = tf.pad(gated, [[0, 0], [4, 0] if causal else [2, 2], [0, 0]])[:, None]
    kernel = tf.reshape(layer.kernel, [1, 5, 4, 1])
    convolved = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], "VALID")[:, 0]
    expected = layer.pointwise(tf.nn.silu(layer.depthwise_norm(convolved)))
    np.testing.assert_allclose(layer(x, tf.constant([9, 9])), expected, atol=1e-5)


@pytest.mark.parametrize("left_context", [None, 2])
def test_attention_equals_a_loop_over_queries(left_context):
    layer = SelfAttention(2, left_context)
    layer.build((None, None, 8))
    x = np.random.default_rng(0).normal(size=[1, 6, 8])
    length = 5
    kernel, bias, out_kernel, out_bias = (w.astype(np.float64) for w in layer.get_weights())
    query, key, value = np.split((x[0] @ kernel + bias).reshape(6, 3, 2, 4), 3, axis=1)

    def rotated(vector, position):
        turned = np.empty(4)
        for i in range(2):
            angle = position * 10000.0 ** (-i / 2)
            turned[i] = vector[i] * np.cos(angle) - vector[i + 2] * np.sin(angle)
            turned[i + 2] = vector[i] * np.sin(angle) + vector[i + 2] * np.cos(angle)
        return turned

    expected = np.zeros([length, 8])
    for t in range(length):
        seen = [s for s in range(length) if left_context is None or t - left_context <= s <= t]
        for head in range(2):
            # 100: the result must not depend on where positions are counted from.
            scores = [rotated(query[t, 0, head], t + 100) @ rotated(key[s, 0, head], s + 100) / 2 for s in seen]
            weights = np.exp(scores - np.max(scores))
            mixed = sum(w * value[s, 0, head] for w, s in zip(weights / weights.sum(), seen, strict=True))
            expected[t, 4 * head : 4 * head + 4] = mixed
    expected = expected @ out_kernel + out_bias
    outputs = layer(tf.constant(x, tf.float32), tf.constant([length]))
    np.testing.assert_allclose(outputs[0, :length], expected, atol=1e-5)
