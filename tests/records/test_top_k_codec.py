"""The K best symbols read back, against float64 softmaxes of the logits that they came from."""

import zlib

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd import lattice, losses
from tf_rnnt_kd.lattice import NEGATIVE_INFINITY
from tf_rnnt_kd.records import codecs


def best_of(logits, k):
    """Symbols, log-probs [.., K] and the rest's, float64, by sorting."""
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    order = np.argsort(-log_probs, axis=-1, kind="stable")
    ordered = np.take_along_axis(log_probs, order, axis=-1)
    rest = np.logaddexp.reduce(ordered[..., k:], axis=-1, initial=-np.inf)
    return order[..., :k], ordered[..., :k], np.maximum(rest, NEGATIVE_INFINITY)


def spread_logits(seed, *, num_frames=60, num_labels=9, vocab_size=40, spread=12.0):
    """From flat nodes to ones that are sure of a symbol."""
    random = np.random.default_rng(seed)
    shape = [num_frames, num_labels + 1, vocab_size]
    return random.normal(size=shape) * random.uniform(0, spread / 3, [*shape[:2], 1])


def encode(found, *, vocab_size=40, **kwargs):
    symbols, log_probs, rest = found
    return codecs.encode_top_k(symbols, log_probs=log_probs, rest=rest, vocab_size=vocab_size, **kwargs)


def kl(exact, stored):
    """Over the K symbols and the rest, [T, U+1]."""
    exact, stored = (np.concatenate([x[1], x[2][..., None]], axis=-1).astype(np.float64) for x in (exact, stored))
    return (np.exp(exact) * (exact - stored)).sum(-1)


def test_the_error_is_what_the_docstring_says():
    exact = best_of(spread_logits(0, num_frames=400), 8)
    stored = codecs.decode_top_k(encode(exact), num_frames=400, num_labels=9)
    np.testing.assert_array_equal(stored.symbols, exact[0])
    assert stored.symbols.dtype == np.int32 and stored.log_probs.dtype == stored.rest.dtype == np.float32
    divergence = kl(exact, stored)
    assert divergence.mean() < 4e-5 and divergence.max() < 3e-4
    for found, wanted in ((stored.log_probs, exact[1]), (stored.rest, exact[2])):
        near = wanted > -12
        assert (np.abs(found - wanted)[near] <= 0.015 * (1 + np.abs(wanted[near]))).all()
    total = np.logaddexp(np.logaddexp.reduce(stored.log_probs.astype(np.float64), axis=-1), stored.rest)
    np.testing.assert_allclose(total, 0.0, atol=1e-6)
    assert (np.diff(stored.log_probs, axis=-1) <= 0).all()


def test_float16_log_probs_would_take_more_and_say_less():
    """The choice of the codec; and its errors lie far below what separates any two models."""
    exact = best_of(spread_logits(1), 8)
    halves = np.concatenate([exact[1], exact[2][..., None]], -1).astype(np.float16)
    symbols = exact[0].astype(np.uint8)
    in_halves = len(zlib.compress(symbols.tobytes() + halves.tobytes(), 6))
    assert len(encode(exact)) < 0.75 * in_halves
    rounded = (exact[0], halves[..., :-1], halves[..., -1])
    stored = codecs.decode_top_k(encode(exact), num_frames=60, num_labels=9)
    assert np.abs(kl(exact, stored)).mean() < 0.6 * np.abs(kl(exact, rounded)).mean()
    logits = spread_logits(2)
    student = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    picked = np.take_along_axis(student, exact[0], -1)
    np.put_along_axis(student, exact[0], -np.inf, -1)
    picked = np.concatenate([picked, np.logaddexp.reduce(student, axis=-1, keepdims=True)], -1)

    def loss(_, log_probs, rest):
        teacher = np.concatenate([log_probs, rest[..., None]], -1).astype(np.float64)
        return (np.exp(teacher) * (teacher - picked)).sum()

    assert loss(*exact) > 1.0
    assert abs(loss(*stored) / loss(*exact) - 1) < 1e-3


@pytest.mark.parametrize(("vocab_size", "k"), [(40, 5), (300, 3), (3, 3), (300, 1)])
@pytest.mark.parametrize("width", [0, 4])
def test_numpy_and_graph_read_the_same(vocab_size, k, width):
    exact = best_of(spread_logits(3, num_frames=12, vocab_size=vocab_size), k)
    band = codecs.band_around(np.arange(9), width=width, num_frames=12) if width else None
    encoded = encode(exact, vocab_size=vocab_size, band=band)
    assert codecs.top_k_size(encoded) == k
    stored = codecs.decode_top_k(encoded, num_frames=12, num_labels=9)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), *[tf.TensorSpec([], tf.int64)] * 2])
    def decode(encoded, num_frames, num_labels):
        return codecs.decode_top_k_tf(encoded, num_frames=num_frames, num_labels=num_labels)

    in_graph = decode(encoded, 12, 9)
    np.testing.assert_array_equal(in_graph.symbols, stored.symbols)
    np.testing.assert_allclose(in_graph.log_probs, stored.log_probs, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(in_graph.rest, stored.rest, rtol=1e-5, atol=2e-5)
    if vocab_size == k:
        assert (stored.rest == np.float32(NEGATIVE_INFINITY)).all()
    if width:
        outside = np.ones([12, 10], bool)
        for t, first in enumerate(band.first):
            outside[t, first : first + band.width] = False
        assert (stored.log_probs[outside] == np.float32(NEGATIVE_INFINITY)).all()
        assert (stored.symbols[outside] == np.arange(k)).all()
        np.testing.assert_array_equal(stored.symbols[~outside], exact[0][~outside])
        assert (stored.log_probs[~outside][:, 0] > -10).all()


def test_a_confident_node_keeps_its_small_masses():
    """In float32 1 - p is 0 here."""
    log_probs = np.log([[[1 - 3e-9, 2e-9]]])
    encoded = encode((np.array([[[7, 3]]]), log_probs, np.log([[1e-9]])))
    stored = codecs.decode_top_k(encoded, num_frames=1, num_labels=0)
    np.testing.assert_allclose(stored.log_probs[0, 0, 1], np.log(2e-9), atol=0.2)
    np.testing.assert_allclose(stored.rest[0, 0], np.log(1e-9), atol=0.4)


def test_what_the_lattice_gives_can_be_stored_and_serves_the_loss():
    """From a joint to the record and back, the loss is that of the live teacher."""
    random = np.random.default_rng(4)

    def joint(scale):
        arrays = [random.normal(size=shape).astype(np.float32) for shape in ([1, 12, 6], [1, 5, 6], [6, 30], [30])]
        return lattice.Joint(*arrays[:2], scale * arrays[2], arrays[3])

    teacher, student = joint(3.0), joint(1.0)
    lengths = {"logit_lengths": [12], "label_lengths": [4]}
    live = lattice.top_k(teacher, k=6, **lengths)
    encoded = encode([x[0].numpy() for x in live], vocab_size=30)
    stored = lattice.TopK(*(tf.constant(x[None]) for x in codecs.decode_top_k(encoded, num_frames=12, num_labels=4)))
    expected = losses.top_k(live, student, **lengths).numpy()
    np.testing.assert_allclose(losses.top_k(stored, student, **lengths), expected, rtol=1e-3)


def test_damage_and_nonsense_are_reported():
    exact = best_of(spread_logits(5, num_frames=3, num_labels=2), 4)
    encoded = encode(exact)
    with pytest.raises(ValueError, match="needs|must be"):
        codecs.encode_top_k(exact[0], log_probs=exact[1][:, :1], rest=exact[2], vocab_size=40)
    with pytest.raises(ValueError, match="for at most 65535 symbols, this vocabulary has 70000"):
        encode(exact, vocab_size=70000)
    symbols, log_probs, rest = exact
    for wrong in (
        (symbols, log_probs[..., ::-1], rest),
        (symbols + 40, log_probs, rest),
        (symbols, np.where(np.arange(3)[:, None, None] == 1, np.nan, log_probs), rest),
        (symbols, np.full_like(log_probs, -np.inf), rest),
        (symbols, log_probs, np.full_like(rest, np.nan)),
    ):
        with pytest.raises(ValueError, match=r"frame \d holds no K best of 40 symbols"):
            encode(wrong)
    with pytest.raises(ValueError, match="bytes of top_k, expected those of 4 symbols at 4 x 3 nodes"):
        codecs.decode_top_k(encoded, num_frames=4, num_labels=2)
    with pytest.raises(ValueError, match="damaged top_k lattice"):
        codecs.decode_top_k(encoded[:-6], num_frames=3, num_labels=2)
    with pytest.raises(ValueError, match="not the K best symbols"):
        codecs.decode_top_k(b"\x03", num_frames=3, num_labels=2)
    for broken, frames in ((encoded[:-6], 3), (b"\x07" + encoded[1:], 3), (encoded, 4)):
        with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.DataLossError)):
            codecs.decode_top_k_tf(tf.constant(broken), num_frames=frames, num_labels=2)
