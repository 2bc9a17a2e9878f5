import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.records import codecs


def test_whole_distributions_come_back_as_float16_holds_them():
    logits = np.random.default_rng(0).normal(size=[7, 4, 11]) * 8
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    log_probs[0, 0, :2] = [-np.inf, -1e30]
    encoded = codecs.encode_dense(log_probs)
    stored = codecs.decode_dense(encoded, num_frames=7, num_labels=3)
    assert stored.dtype == np.float32 and stored.shape == (7, 4, 11)
    finite = log_probs > -1e5
    assert (np.abs(stored - log_probs)[finite] <= 2.0**-11 * np.abs(log_probs[finite]) + 3e-8).all()
    assert (stored[0, 0, :2] == -65504).all() and (np.exp(stored[0, 0, :2]) == 0).all()
    in_graph = codecs.decode_dense_tf(tf.constant(encoded), num_frames=7, num_labels=3)
    np.testing.assert_array_equal(in_graph, stored)


def test_damage_is_reported():
    encoded = codecs.encode_dense(np.random.default_rng(1).normal(size=[3, 2, 5]))
    with pytest.raises(ValueError, match=r"must be \[T, U\+1, V\], got \(3, 2\)"):
        codecs.encode_dense(np.zeros([3, 2]))
    with pytest.raises(ValueError, match="with 30 NaN"):
        codecs.encode_dense(np.full([3, 2, 5], np.nan))
    with pytest.raises(ValueError, match="30 dense log-probs do not fill 4 x 2 nodes"):
        codecs.decode_dense(encoded, num_frames=4, num_labels=1)
    with pytest.raises(ValueError, match="damaged dense lattice"):
        codecs.decode_dense(encoded[:-20], num_frames=3, num_labels=1)
    for broken, frames in ((encoded[:-20], 3), (encoded, 4)):
        with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.DataLossError)):
            codecs.decode_dense_tf(tf.constant(broken), num_frames=frames, num_labels=1)
