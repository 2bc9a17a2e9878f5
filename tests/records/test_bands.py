"""Bands against their definition, window by window."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.records.codecs import bands


def random_path(seed, *, num_frames, num_labels):
    return np.sort(np.random.default_rng(seed).integers(0, num_frames, num_labels))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [2, 5, 8])
def test_a_band_holds_the_whole_alignment_and_climbs_in_step_with_it(seed, width):
    num_frames, num_labels = 40, 12
    frames = random_path(seed, num_frames=num_frames, num_labels=num_labels)
    band = bands.band_around(frames, width=width, num_frames=num_frames)
    assert band.width >= width and band.first.shape == (num_frames,) and band.first.dtype == np.int32
    assert band.width == max(width, 1 + max(np.bincount(frames)))
    visited = [(t, u) for t in range(num_frames) for u in range((frames < t).sum(), (frames <= t).sum() + 1)]
    assert len(visited) == num_frames + num_labels
    assert all(band.first[t] <= u < band.first[t] + band.width for t, u in visited)
    assert band.first[0] == 0 and band.first[-1] == num_labels + 1 - band.width
    assert (np.diff(band.first) >= 0).all()


def test_windows_lie_centred_on_the_alignment():
    band = bands.band_around(np.arange(30) * 3, width=5, num_frames=90)
    middle = band.first[20:70] + 2
    position = np.arange(20, 70) // 3 + 0.5
    assert np.abs(middle - position).max() <= 1.0


def test_a_band_as_wide_as_the_lattice_is_none():
    assert bands.band_around([1, 2], width=3, num_frames=4) is None
    assert bands.band_around([1, 2, 3], width=3, num_frames=4) is not None
    assert bands.band_around([], width=2, num_frames=4) is None
    assert bands.band_around([-1, -1], width=2, num_frames=4) is None
    assert bands.band_around([2, 2, 2, 3], width=2, num_frames=4).width == 4


def test_cutting_and_putting_back_are_inverse_inside():
    array = np.random.default_rng(0).normal(size=[5, 7, 2])
    band = bands.StoredBand(np.array([0, 1, 1, 3, 4], np.int32), 3)
    cut = bands.cut_to_band(array, band)
    for t in range(5):
        np.testing.assert_array_equal(cut[t], array[t, band.first[t] : band.first[t] + 3])
    back = bands.put_back(cut, band, num_labels=6, fill=np.array([-1.0, -2.0]))
    in_graph = bands.put_back_tf(tf.constant(cut), tf.constant(band.first), num_positions=7, fill=[-1.0, -2.0])
    np.testing.assert_array_equal(in_graph, back)
    for t in range(5):
        inside = slice(band.first[t], band.first[t] + 3)
        np.testing.assert_array_equal(back[t, inside], array[t, inside])
        assert (np.delete(back[t], range(7)[inside], axis=0) == [-1.0, -2.0]).all()


def test_steps_are_two_bytes_a_frame():
    band = bands.StoredBand(np.array([0, 0, 2, 300, 70_000 - 5]), 4)
    with pytest.raises(ValueError, match="climbs 69695 positions"):
        bands.encode_steps(band)
    band = band._replace(first=np.array([0, 0, 2, 300, 65_000]))
    encoded = bands.encode_steps(band)
    assert np.frombuffer(encoded, "<u2").tolist() == [0, 0, 2, 298, 64_700]
    np.testing.assert_array_equal(bands.decode_steps(encoded), band.first)
    np.testing.assert_array_equal(bands.decode_steps_tf(tf.constant(encoded)), band.first)
