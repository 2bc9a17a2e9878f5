"""What is read back is compared with float64 softmaxes of the logits that went in."""

import zlib

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd import lattice, losses
from tf_rnnt_kd.lattice import NEGATIVE_INFINITY
from tf_rnnt_kd.records import codecs


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) - logits.max(
        -1, keepdims=True
    )


def random_nodes(seed, *, num_frames=40, num_labels=9, spread=12.0):
    """Exact log-probs [T, U+1, 3], spread over the whole simplex to its corners; no label mass at u = U."""
    logits = np.random.default_rng(seed).uniform(-spread / 2, spread / 2, [num_frames, num_labels + 1, 3])
    logits[:, -1, 1] = -np.inf
    return log_softmax(logits)


def encode(nodes, **kwargs):
    return codecs.encode_collapsed(nodes[..., 0], label=nodes[..., 1], rest=nodes[..., 2], **kwargs)


def kl(exact, stored):
    probability = np.exp(exact)
    return (probability * np.subtract(exact, stored, where=probability > 0, out=np.zeros_like(exact))).sum(-1)


@pytest.mark.parametrize(
    ("bits", "mean_kl", "largest_kl", "log_prob_error"), [(8, 1.1e-5, 1.3e-4, 0.016), (16, 2e-10, 5e-8, 6.2e-5)]
)
def test_the_error_is_what_the_docstring_says(bits, mean_kl, largest_kl, log_prob_error):
    nodes = random_nodes(0, num_frames=2000, num_labels=9, spread=24.0)
    stored = codecs.decode_collapsed(encode(nodes, bits=bits), num_frames=2000, num_labels=9).astype(np.float64)
    divergence = kl(nodes, stored)
    assert divergence.mean() < mean_kl
    assert divergence.max() < largest_kl
    exact = np.where(np.isinf(nodes), NEGATIVE_INFINITY, nodes)
    assert (np.abs(stored - exact) <= log_prob_error * (1 + np.abs(exact))).all()
    np.testing.assert_allclose(np.exp(stored).sum(-1), 1.0, atol=3e-7)


@pytest.mark.parametrize("bits", [8, 16])
def test_numpy_and_graph_read_the_same(bits):
    nodes = random_nodes(1)
    encoded = encode(nodes, bits=bits)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), *[tf.TensorSpec([], tf.int64)] * 2])
    def decode(encoded, num_frames, num_labels):
        return codecs.decode_collapsed_tf(encoded, num_frames=num_frames, num_labels=num_labels)

    in_graph = decode(encoded, 40, 9).numpy()
    assert in_graph.dtype == np.float32
    np.testing.assert_allclose(in_graph, codecs.decode_collapsed(encoded, num_frames=40, num_labels=9), atol=2e-5)
    (mapped,) = tf.data.Dataset.from_tensors(encoded).map(lambda one: decode(one, 40, 9)).as_numpy_iterator()
    np.testing.assert_array_equal(mapped, in_graph)


def test_the_layout_is_the_documented_one():
    nodes = log_softmax([[[1.0, -1.0, 0.0], [0.5, -np.inf, 0.0]], [[0.0, 20.0, -200.0], [-2.0, -np.inf, 1.0]]])
    encoded = encode(nodes)
    assert encoded[:3] == bytes([8, 0, 0])
    steps = np.frombuffer(zlib.decompress(encoded[3:]), np.int8).reshape(2, 2, 2)
    codes = np.cumsum(steps, axis=2, dtype=np.int8).transpose(0, 2, 1)  # time is the last axis

    def code(log_odds):
        return round(127 * np.arcsinh(np.clip(log_odds, -32, 32)) / np.arcsinh(32.0))

    assert codes[0, 0, 0] == code(1.0 - np.log(np.exp(-1.0) + 1.0))
    assert codes[1, 0, 0] == code(-1.0)
    assert codes[0, 0, 1] == code(0.5)
    assert codes[1, 1, 0] == 127
    assert codes[1, :, 1].tolist() == [0, 0]


def test_a_confident_node_keeps_its_small_masses():
    """In float32 1 - p_blank - p_label is 0 here; the stored masses are right to their order of magnitude."""
    exact = np.log([[[1 - 1.01e-8, 1e-8, 1e-10], [1 - 1e-9, 0.0, 1e-9]]], where=[[[1, 1, 1], [1, 0, 1]]],
                   out=np.full([1, 2, 3], -np.inf))
    stored = codecs.decode_collapsed(encode(exact), num_frames=1, num_labels=1)
    np.testing.assert_allclose(stored[0, 0, 1:], exact[0, 0, 1:], atol=0.4)
    np.testing.assert_allclose(stored[0, 1, 2], exact[0, 1, 2], atol=0.4)
    assert stored[0, 1, 1] == np.float32(NEGATIVE_INFINITY)


def test_extreme_nodes_stay_finite():
    nodes = np.array([[[0.0, -np.inf, -np.inf], [0.0, np.nan, -np.inf]], [[-1e4, 0.0, -1e4], [-np.inf, 3.0, 0.0]]])
    for bits in (8, 16):
        stored = codecs.decode_collapsed(encode(nodes, bits=bits), num_frames=2, num_labels=1)
        assert np.isfinite(stored).all()
        np.testing.assert_allclose(stored[0, :, 0], 0.0, atol=1e-6)
        np.testing.assert_allclose(stored[1, 0], [-32, 0, -32], atol=0.5)
        assert stored[1, 1, 2] == pytest.approx(0.0, abs=1e-6)


def test_only_proportions_are_stored():
    nodes = random_nodes(2)
    assert encode(nodes) == encode(nodes + 0.7)


def test_the_sum_over_alignments_survives():
    """log P(y given x) of a 60 x 8 lattice, summed in float64, from the stored nodes and from the exact ones."""
    def full_sum(nodes):
        alpha = np.full(nodes.shape[:2], -np.inf)
        for t in range(nodes.shape[0]):
            for u in range(nodes.shape[1]):
                arcs = [0.0] if t == u == 0 else []
                arcs += [alpha[t - 1, u] + nodes[t - 1, u, 0]] if t else []
                arcs += [alpha[t, u - 1] + nodes[t, u - 1, 1]] if u else []
                alpha[t, u] = np.logaddexp.reduce(arcs)
        return alpha[-1, -1] + nodes[-1, -1, 0]

    nodes = random_nodes(3, num_frames=60, num_labels=8, spread=8.0)
    exact = full_sum(nodes)
    for bits, tolerance in ((8, 0.2), (16, 1e-3)):
        stored = codecs.decode_collapsed(encode(nodes, bits=bits), num_frames=60, num_labels=8)
        assert abs(full_sum(stored.astype(np.float64)) - exact) < tolerance


def band_of(first, width):
    return codecs.StoredBand(np.array(first, np.int32), width)


@pytest.mark.parametrize("bits", [8, 16])
def test_of_a_band_its_nodes_come_back_and_no_others(bits):
    nodes = random_nodes(5, num_frames=6, num_labels=7)
    band = band_of([0, 0, 2, 3, 3, 5], 3)
    whole = codecs.decode_collapsed(encode(nodes, bits=bits), num_frames=6, num_labels=7)
    encoded = encode(nodes, bits=bits, band=band)
    stored = codecs.decode_collapsed(encoded, num_frames=6, num_labels=7)
    for t in range(6):
        for u in range(8):
            inside = band.first[t] <= u < band.first[t] + 3
            expected = whole[t, u] if inside else np.full(3, NEGATIVE_INFINITY, np.float32)
            np.testing.assert_array_equal(stored[t, u], expected)
    in_graph = codecs.decode_collapsed_tf(tf.constant(encoded), num_frames=6, num_labels=7).numpy()
    np.testing.assert_allclose(in_graph, stored, atol=2e-5)


def test_nodes_outside_a_band_are_not_even_read():
    nodes = random_nodes(6, num_frames=4, num_labels=5)
    band = band_of([0, 1, 2, 3], 3)
    outside = np.ones([4, 6], bool)
    for t, first in enumerate(band.first):
        outside[t, first : first + 3] = False
    broken = np.where(outside[..., None], np.nan, nodes)
    assert encode(broken, band=band) == encode(nodes, band=band)


def test_losses_on_a_stored_band_see_what_they_would_see_of_the_lattice_in_that_band():
    """The same two losses of live nodes that `lattice.in_band` has cut."""
    nodes = random_nodes(7, num_frames=9, num_labels=6, spread=4.0)
    path = [1, 2, 4, 4, 6, 8]
    band = codecs.band_around(path, width=4, num_frames=9)
    stored = codecs.decode_collapsed(encode(nodes, bits=16, band=band), num_frames=9, num_labels=6)
    lengths = {"logit_lengths": [9], "label_lengths": [6]}
    live = lattice.NodeLogProbs(*(tf.constant(x[None], tf.float32) for x in np.moveaxis(nodes, -1, 0)))
    student = lattice.NodeLogProbs(*(tf.constant(x[None], tf.float32) for x in np.moveaxis(
        random_nodes(8, num_frames=9, num_labels=6, spread=4.0), -1, 0)))  # fmt: skip
    cut = lattice.in_band(live, lattice.Band(tf.constant(band.first[None]), band.width))
    back = lattice.NodeLogProbs(*(tf.constant(x[None]) for x in np.moveaxis(stored, -1, 0)))
    for loss in (losses.collapsed, losses.alignment_kl):
        expected = loss(cut, student, **lengths).numpy()
        np.testing.assert_allclose(loss(back, student, **lengths), expected, rtol=1e-3)
        assert abs(expected - loss(live, student, **lengths).numpy()) > 0.05
    expected = losses.collapsed(cut, student, reduction_over_nodes="mean", **lengths).numpy()
    mean = losses.collapsed(back, student, reduction_over_nodes="mean", **lengths)
    np.testing.assert_allclose(mean, expected, rtol=1e-3)


def test_a_band_makes_long_lattices_small():
    nodes = random_nodes(9, num_frames=200, num_labels=40)
    band = codecs.band_around(np.arange(40) * 5, width=5, num_frames=200)
    assert len(encode(nodes, band=band)) < 0.15 * len(encode(nodes))


def test_damage_is_reported():
    nodes = random_nodes(4, num_frames=3, num_labels=2)
    encoded = encode(nodes)
    with pytest.raises(ValueError, match="bits must be 8 or 16, got 4"):
        encode(nodes, bits=4)
    with pytest.raises(ValueError, match=r"must all be \[T, U\+1\]"):
        codecs.encode_collapsed(nodes[..., 0], label=nodes[:, :1, 1], rest=nodes[..., 2])
    with pytest.raises(ValueError, match=r"node \(t=1, u=0\) has log mass nan"):
        codecs.encode_collapsed(
            np.where(np.arange(3)[:, None] == 1, np.nan, nodes[..., 0]), label=nodes[..., 1], rest=nodes[..., 2]
        )
    with pytest.raises(ValueError, match="a collapsed lattice of 9 nodes, expected 4 x 3"):
        codecs.decode_collapsed(encoded, num_frames=4, num_labels=2)
    with pytest.raises(ValueError, match="damaged"):
        codecs.decode_collapsed(encoded[:-6], num_frames=3, num_labels=2)
    with pytest.raises(ValueError, match="not a collapsed lattice"):
        codecs.decode_collapsed(b"", num_frames=3, num_labels=2)
    with pytest.raises(ValueError, match=r"a band of 2 windows of 2 does not fit a lattice \(3, 3\)"):
        encode(nodes, band=band_of([0, 1], 2))
    with pytest.raises(ValueError, match=r"does not fit a lattice \(3, 3\)"):
        encode(nodes, band=band_of([0, 1, 2], 2))
    for broken, frames in ((encoded[:-6], 3), (b"\x07" + encoded[1:], 3), (encoded, 4)):
        with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.DataLossError)):
            codecs.decode_collapsed_tf(tf.constant(broken), num_frames=frames, num_labels=2)
