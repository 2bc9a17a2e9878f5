"""The Conformer's parts equal naive forms; batches, stochastic depth, hidden layers; what does not fit is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.models import ConformerEncoder
from tf_rnnt_kd.models.attention import SelfAttention
from tf_rnnt_kd.models.conformer import ConformerBlock
from tf_rnnt_kd.models.convolution import ConvolutionModule
from tf_rnnt_kd.models.normalisation import FrameBatchNormalization
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


def test_a_causal_encoder_sees_as_much_past_as_declared():
    # Feature frame 43 lies in encoder frame 5. Each of two blocks hands it on by 5 (attention) plus 4 (kernel 5), and
    # the two stages before, which look one frame back, by one more at most.
    layer, inputs, lengths = encoder(), features(160), tf.constant([160, 160, 160])
    changed = inputs.copy()
    changed[:, 43] += 1.0
    difference = np.abs(layer(inputs, lengths)[0] - layer(changed, lengths)[0]).max(axis=(0, 2)) > 1e-6
    first, last = np.flatnonzero(difference)[[0, -1]]
    assert first == 5
    assert 5 + 5 <= last <= 5 + 2 * (5 + 4) + 1


def test_batch_equals_one_by_one():
    layer, inputs = encoder(None), features()
    together = layer(inputs, tf.constant(LENGTHS))[0]
    for i, length in enumerate(LENGTHS):
        alone = layer(inputs[i : i + 1, :length], tf.constant([length]))[0]
        np.testing.assert_allclose(together[i, : alone.shape[1]], alone[0], atol=1e-5)


def test_hidden_layers_come_at_the_rate_of_the_output():
    layer = encoder(None, num_layers=3, subsampling=2, time_reduction_after=(0, 1), dropout=0.0)
    frames, lengths, outputs = layer.call_with_layers(features(), tf.constant(LENGTHS))
    assert list(outputs) == ["block_0", "block_1", "block_2"]
    np.testing.assert_array_equal(lengths, -(-LENGTHS // 8))
    for values in outputs.values():
        assert values.shape == frames.shape == [3, 12, 16]
        assert not np.any(values[1, 8:]) and np.all(np.any(values[1, :8], axis=-1))
    np.testing.assert_array_equal(outputs["block_2"], frames)
    # The first block's are at 2 feature frames each: of four of them the first stays.
    cut = layer.call_with_layers(features()[:, :33], tf.constant([33, 33, 1]))[2]["block_0"]
    assert cut.shape[1] == 5


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"left_context": None, "chunk_size": 4}, "left_context"),
        ({"chunk_size": 4, "right_context": 2}, "multiple of chunk_size"),
        ({"left_context": 5, "chunk_size": 2, "time_reduction_after": (0,)}, "left_context 5"),
        ({"time_reduction_after": (2,)}, "time_reduction_after"),
        ({"subsampling": 6}, "power of two"),
        ({"stochastic_depth": 1.0}, "stochastic_depth"),
        ({"position_encoding": "sinus"}, "rotary, relative, none"),
        ({"convolution_norm": "group"}, "layer, batch"),
        ({"left_context": None, "kernel_size": 4}, "odd"),
    ],
)
def test_what_does_not_fit_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        encoder(**settings)


def test_a_step_refuses_part_of_a_chunk():
    layer = encoder(4, chunk_size=2, subsampling=4)
    with pytest.raises(ValueError, match="multiple of 8"):
        layer.step(tf.zeros([1, 4, 7]), tf.constant([4]), layer.get_initial_state(1))


def test_stochastic_depth_skips_blocks_of_utterances_and_grows_with_depth():
    layer = encoder(None, num_layers=4, stochastic_depth=0.8)
    assert [block.settings["depth_dropout"] for block in layer.blocks] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    block = ConformerBlock(2, 3, depth_dropout=0.75)
    block.build((None, None, 8))
    frames = tf.constant(np.random.default_rng(0).normal(size=[400, 3, 8]), tf.float32)
    lengths = tf.fill([400], 3)
    trained = block(frames, lengths, training=True)
    # A block that does nothing leaves the norm of its input.
    skipped = np.abs(trained - block.output_norm(frames)).max(axis=(1, 2)) < 1e-6
    assert 0.67 < skipped.mean() < 0.83
    assert not np.any(np.abs(block(frames, lengths) - block.output_norm(frames)).max(axis=(1, 2)) < 1e-6)


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


def test_batch_norm_equals_its_definition_and_keeps_running_averages():
    layer = FrameBatchNormalization(momentum=0.9)
    layer.build((None, None, 4))
    gamma, beta = np.arange(1.0, 5.0), np.arange(4.0)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    x = np.random.default_rng(0).normal(3.0, 2.0, size=[2, 6, 4]).astype(np.float32)
    valid = np.concatenate([x[0], x[1, :4]]).astype(np.float64)
    mean, variance = valid.mean(axis=0), valid.var(axis=0)
    outputs = layer(x, tf.constant([6, 4]), training=True)
    np.testing.assert_allclose(outputs, (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta, atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, atol=1e-5)
    # A batch with a NaN spoils its own step and no later one.
    before = layer.get_weights()
    layer(np.full_like(x, np.nan), tf.constant([6, 4]), training=True)
    for ours, theirs in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    expected = (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(layer(x, tf.constant([6, 4])), expected, atol=1e-4)


def rotated(vector, position):
    turned = np.empty(4)
    for i in range(2):
        angle = position * 10000.0 ** (-i / 2)
        turned[i] = vector[i] * np.cos(angle) - vector[i + 2] * np.sin(angle)
        turned[i + 2] = vector[i] * np.sin(angle) + vector[i + 2] * np.cos(angle)
    return turned


@pytest.mark.parametrize(
    "context, seen_by",
    [
        ({}, [range(5)] * 5),
        ({"left_context": 2}, [range(1), range(2), range(3), range(1, 4), range(2, 5)]),
        # Chunks 0 1 | 2 3 | 4, two frames before the chunk and two after it.
        (
            {"left_context": 2, "chunk_size": 2, "right_context": 2},
            [range(4), range(4), range(5), range(5), range(2, 5)],
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["rotary", "relative", "none"])
def test_attention_equals_a_loop_over_queries(context, seen_by, encoding):
    layer, length = SelfAttention(2, **context, position_encoding=encoding), 5
    layer.build((None, None, 8))
    random = np.random.default_rng(0)
    if encoding == "relative":
        layer.content_bias.assign(random.normal(size=[2, 4]))
        layer.position_bias.assign(random.normal(size=[2, 4]))
    x = random.normal(size=[1, 6, 8])
    weights = {weight.path.split("/", 1)[1]: weight.numpy().astype(np.float64) for weight in layer.weights}
    projected = x[0] @ weights["query_key_value/kernel"] + weights["query_key_value/bias"]
    query, key, value = np.split(projected.reshape(6, 3, 2, 4), 3, axis=1)

    def score(t, s, head):
        q, k = query[t, 0, head], key[s, 0, head]
        if encoding == "none":
            return q @ k / 2
        if encoding == "rotary":
            # 100: the result must not depend on where positions are counted from.
            return rotated(q, t + 100) @ rotated(k, s + 100) / 2
        angles = (t - s) * 10000.0 ** (-np.arange(4) / 4)
        distance = np.concatenate([np.sin(angles), np.cos(angles)]) @ weights["position_projection/kernel"]
        by_content, by_position = weights["content_bias"][head], weights["position_bias"][head]
        return ((q + by_content) @ k + (q + by_position) @ distance.reshape(2, 4)[head]) / 2

    expected = np.zeros([length, 8])
    for t in range(length):
        for head in range(2):
            scores = [score(t, s, head) for s in seen_by[t]]
            shares = np.exp(scores - np.max(scores))
            mixed = sum(w * value[s, 0, head] for w, s in zip(shares / shares.sum(), seen_by[t], strict=True))
            expected[t, 4 * head : 4 * head + 4] = mixed
    expected = expected @ weights["output_projection/kernel"] + weights["output_projection/bias"]
    outputs = layer(tf.constant(x, tf.float32), tf.constant([length]))
    np.testing.assert_allclose(outputs[0, :length], expected, atol=1e-5)
