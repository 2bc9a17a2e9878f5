"""bfloat16 and int8 against their definitions in integers."""

import zlib

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.records import codecs

DAMAGED = (tf.errors.InvalidArgumentError, tf.errors.DataLossError)


def test_bfloat16_rounds_to_nearest_even():
    values = np.random.default_rng(5).normal(size=[7, 3]).astype(np.float32)
    values[0] = [0.0, -1.5, 1 + 2.0**-8]
    encoded = codecs.encode_bfloat16(values)
    # The definition, in integers: add half a step, or one less where the kept part is even, and cut.
    raw = values.view(np.uint32).astype(np.uint64)
    expected = ((raw + 0x7FFF + ((raw >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(codecs.decode_bfloat16(encoded, shape=(7, 3)), expected)
    np.testing.assert_array_equal(codecs.decode_bfloat16_tf(tf.constant(encoded), shape=[7, 3]).numpy(), expected)
    assert (np.abs(expected - values) <= np.abs(values) * 2.0**-8).all()


def test_the_layout_of_bfloat16_is_low_bytes_then_deflated_high_bytes():
    encoded = codecs.encode_bfloat16(np.array([[1.0, -2.0], [0.5, 3.0]]))
    assert encoded[:4] == bytes([0x80, 0x00, 0x00, 0x40])  # of 1, 0.5, -2, 3: time is the last axis
    assert zlib.decompress(encoded[4:]) == bytes([0x3F, 0x3F, 0xC0, 0x40])
    noise = np.random.default_rng(0).normal(size=[300, 128])
    assert len(codecs.encode_bfloat16(noise)) < 0.8 * 2 * noise.size


def test_bfloat16_refuses_what_it_cannot_hold():
    with pytest.raises(ValueError, match=r"1 non-finite values in an array of \(1, 2\)"):
        codecs.encode_bfloat16(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match=r"a matrix of frames or label positions is needed, got shape \(3,\)"):
        codecs.encode_bfloat16(np.zeros(3))
    with pytest.raises(ValueError, match="too large for bfloat16"):
        codecs.encode_bfloat16(np.full([1, 1], 3.4e38))
    encoded = codecs.encode_bfloat16(np.zeros([1, 2]))
    with pytest.raises(ValueError, match="damaged bfloat16 matrix"):
        codecs.decode_bfloat16(encoded, shape=(2, 3))
    longer = encoded[:2] + zlib.compress(bytes(3))
    with pytest.raises(ValueError, match="3 bfloat16 values, expected 2"):
        codecs.decode_bfloat16(longer, shape=(1, 2))
    for broken, shape in ((encoded[:4], [1, 2]), (longer, [1, 2]), (encoded, [2, 3])):
        with pytest.raises(DAMAGED):
            codecs.decode_bfloat16_tf(tf.constant(broken), shape=shape)
    assert codecs.decode_bfloat16(codecs.encode_bfloat16(np.zeros([0, 3])), shape=(0, 3)).shape == (0, 3)


def test_int8_has_one_scale_per_row_and_the_documented_error():
    random = np.random.default_rng(1)
    values = (random.normal(size=[50, 64]) * 10.0 ** random.uniform(-6, 6, [50, 1])).astype(np.float32)
    values[3] = 0.0
    encoded, scale = codecs.encode_int8(values)
    largest = np.abs(values).max(1)
    np.testing.assert_allclose(scale, largest / 127, rtol=1e-6)
    stored = codecs.decode_int8(encoded, scale=scale, shape=(50, 64))
    assert stored.dtype == np.float32
    error = np.abs(stored.astype(np.float64) - values).max(1)
    assert (error <= largest * (1 / 254 + 2.0**-20)).all()
    assert (error[largest > 0] > largest[largest > 0] / 400).all()
    np.testing.assert_array_equal(stored[3], 0.0)
    in_graph = codecs.decode_int8_tf(tf.constant(encoded), scale=tf.constant(scale), shape=[50, 64]).numpy()
    np.testing.assert_array_equal(in_graph, stored)
    codes = np.cumsum(np.frombuffer(zlib.decompress(encoded), np.int8).reshape(64, 50), axis=1, dtype=np.int8).T
    np.testing.assert_array_equal(codes, np.rint(values / np.where(scale > 0, scale, 1)[:, None]))


def test_rows_that_are_alike_take_less():
    random = np.random.default_rng(2)
    walk = np.cumsum(random.normal(size=[200, 32]), axis=0) + 50 * random.normal(size=32)
    shuffled = random.permutation(walk.reshape(-1)).reshape(walk.shape)
    assert len(codecs.encode_int8(walk)[0]) < 0.7 * len(codecs.encode_int8(shuffled)[0])


def test_int8_refuses_what_it_cannot_hold():
    with pytest.raises(ValueError, match="1 non-finite values"):
        codecs.encode_int8(np.array([[1.0, np.inf]]))
    with pytest.raises(ValueError, match=r"a matrix of frames or label positions is needed, got shape \(3,\)"):
        codecs.encode_int8(np.zeros(3))
    encoded, scale = codecs.encode_int8(np.random.default_rng(3).normal(size=[2, 3]))
    with pytest.raises(ValueError, match=r"6 int8 values and 2 scales, expected those of shape \(3, 3\)"):
        codecs.decode_int8(encoded, scale=scale, shape=(3, 3))
    with pytest.raises(ValueError, match="damaged int8 matrix"):
        codecs.decode_int8(encoded[:-8], scale=scale, shape=(2, 3))
    for broken, shape in ((encoded[:-8], [2, 3]), (encoded, [3, 3])):
        with pytest.raises(DAMAGED):
            codecs.decode_int8_tf(tf.constant(broken), scale=tf.constant(scale), shape=shape)
