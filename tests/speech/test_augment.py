"""SpecAugment: the statistics of masks and warps, their bounds and what they must leave alone."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.speech.augment import spec_augment, warp_time
from tf_rnnt_kd.speech.policies import POLICIES, policy_arguments

LENGTHS = np.array([100, 60, 7, 0], np.int32)


def mask_of(seed=(1, 2), lengths=LENGTHS, frames=100, **settings):
    """True where masked: features of ones, so only masks are 0."""
    out = spec_augment(tf.ones([len(lengths), frames, 16]), tf.constant(lengths), seed=tf.constant(seed), **settings)
    assert set(np.unique(out)) <= {0.0, 1.0}
    return np.asarray(out) == 0


def test_time_masks_lie_within_the_utterance_and_are_not_too_wide():
    widths = []
    for seed in range(40):
        masked = mask_of((seed, 0), freq_masks=0, time_masks=1, time_ratio=0.2, time_width_max=15)
        rows = masked.all(axis=2)
        assert (rows == masked.any(axis=2)).all()
        for row, length in zip(rows, LENGTHS, strict=True):
            hit = np.flatnonzero(row)
            widths.append(len(hit))
            assert len(hit) <= min(15, int(0.2 * length))
            assert not len(hit) or (hit[-1] < length and hit[-1] - hit[0] + 1 == len(hit))
    widths = np.array(widths).reshape(-1, len(LENGTHS))
    assert widths[:, 0].max() == 15 and widths[:, 1].max() == 12 and widths[:, 2].max() == 1 and not widths[:, 3].any()
    assert widths[:, 0].min() == 0 and 5 < widths[:, 0].mean() < 10


def test_frequency_masks_span_all_frames_and_reach_all_bins():
    share = np.zeros(16)
    for seed in range(60):
        masked = mask_of((seed, 1), freq_masks=1, freq_width=5, time_masks=0)
        columns = masked.all(axis=1)
        assert (columns == masked.any(axis=1)).all()
        assert (columns.sum(axis=1) <= 5).all() and (
            np.abs(np.diff(columns.astype(int), axis=1)).sum(axis=1) <= 2
        ).all()
        share += columns.sum(axis=0)
    assert (share > 0).all()


def test_no_masks_change_nothing():
    assert not mask_of(freq_masks=0, time_masks=0).any()
    assert not mask_of(freq_width=0, time_ratio=0.0).any()


def test_a_seed_decides_and_utterances_differ():
    settings = {"freq_masks": 2, "freq_width": 6, "time_masks": 3, "time_ratio": 0.2}
    first = mask_of(**settings)
    np.testing.assert_array_equal(first, mask_of(**settings))
    assert (first != mask_of((1, 3), **settings)).any() and (first != mask_of((2, 2), **settings)).any()
    assert (first[0] != first[1]).any()
    compiled = tf.function(lambda x, n, s: spec_augment(x, n, seed=s, **settings), jit_compile=True)
    out = compiled(tf.ones([4, 100, 16]), tf.constant(LENGTHS), tf.constant([1, 2]))
    np.testing.assert_array_equal(np.asarray(out) == 0, first)


def test_unmasked_values_pass_and_padding_makes_no_difference():
    features = tf.constant(np.random.default_rng(0).normal(size=[4, 100, 16]).astype(np.float32))
    settings = {"seed": tf.constant([5, 6]), "freq_width": 4, "time_ratio": 0.1}
    out = np.asarray(spec_augment(features, LENGTHS, **settings))
    assert (out[out != 0] == np.asarray(features)[out != 0]).all() and (out == 0).any()
    longer = spec_augment(tf.pad(features, [[0, 0], [0, 30], [0, 0]]), LENGTHS, **settings)
    np.testing.assert_array_equal(longer[:, :100], out)
    assert spec_augment(tf.cast(features, tf.bfloat16), LENGTHS, **settings).dtype == tf.bfloat16


@pytest.mark.parametrize(
    "settings", [{"freq_width": 17}, {"time_ratio": 1.5}, {"time_masks": -1}, {"time_warp": -1}, {"fill": "ones"}]
)
def test_impossible_masks_are_refused(settings):
    with pytest.raises(ValueError, match=r"wider|must be|zero, mean, noise"):
        mask_of(**settings)


def test_the_number_of_time_masks_follows_the_length():
    """Masks of exactly one frame each: as many frames are hit as there are masks, or fewer where they meet."""
    lengths = np.array([100, 49, 24, 1000], np.int32)
    settings = {"freq_masks": 0, "time_masks": 20, "time_masks_per_frame": 0.04, "time_ratio": 1.0, "time_width_max": 1}
    hit = np.array([
        mask_of((seed, 0), lengths=lengths, frames=1000, **settings).all(axis=2).sum(axis=1) for seed in range(60)
    ])  # fmt: skip
    # A mask is 0 or 1 wide with equal probability; floor(0.04 * length) of them, 20 at most.
    np.testing.assert_array_equal(hit.max(axis=0)[:3], [4, 1, 0])
    assert abs(hit[:, 0].mean() - 2) < 0.4 and abs(hit[:, 3].mean() - 10) < 1 and hit[:, 3].max() <= 20


@pytest.mark.parametrize("fill", ["mean", "noise"])
def test_what_masked_places_hold(fill):
    random = np.random.default_rng(3)
    features = random.normal(size=[2, 200, 16]).astype(np.float32) * 0.1 + 5.0
    lengths = np.array([200, 120], np.int32)
    features[1, 120:] = np.nan
    settings = {"seed": tf.constant([1, 7]), "freq_masks": 1, "freq_width": 8, "time_masks": 4, "time_ratio": 0.2}
    zeroed = np.asarray(spec_augment(features, lengths, **settings)) == 0
    out = np.asarray(spec_augment(features, lengths, fill=fill, **settings))
    np.testing.assert_array_equal(out[~zeroed], features[~zeroed])
    columns = zeroed.all(axis=1, keepdims=True)
    rows = zeroed.all(axis=2)
    assert columns.any() and rows.any()
    if fill == "mean":
        for row, mean in zip(range(2), (features[0].mean(), features[1, :120].mean()), strict=True):
            np.testing.assert_allclose(out[row][zeroed[row]], mean, rtol=1e-4)
        return
    noise = out[rows]
    assert abs(noise.std() - 1) < 0.1 and abs(noise.mean()) < 0.1
    assert not out[zeroed & columns & ~rows[:, :, None]].any()
    longer = np.pad(features, [[0, 0], [0, 50], [0, 0]])
    np.testing.assert_array_equal(spec_augment(longer, lengths, fill=fill, **settings)[:, :200], out)


def ramp(frames):
    """Each frame holds its number, so that the output of a warp says where it took each from."""
    return tf.tile(tf.range(frames, dtype=tf.float32)[None, :, None], [len(LENGTHS), 1, 1])


def test_a_warp_moves_one_frame_and_keeps_the_ends():
    moved, origins = [], []
    for seed in range(50):
        source = np.asarray(warp_time(ramp(120), LENGTHS, seed=tf.constant([seed, 1]), furthest=10))[:, :, 0]
        for row, length in zip(source, LENGTHS, strict=True):
            np.testing.assert_array_equal(row[length:], np.arange(length, 120))
            if not length:
                continue
            inside = row[:length]
            assert inside[0] == 0 and abs(inside[-1] - (length - 1)) < 1e-3
            steps = np.diff(inside)
            assert (steps > 0).all()
            assert (np.abs(np.diff(steps)) > 1e-3).sum() <= 1  # two straight lines
            way = inside - np.arange(length)
            assert np.abs(way).max() <= min(10, length // 2)
            if length == 100 and way.any():
                peak = np.abs(way).argmax()
                moved.append(way[peak])
                origins.append(inside[peak])
    assert min(moved) <= -8 and max(moved) >= 8
    assert min(origins) < 25 and max(origins) > 75 and min(origins) >= 9 and max(origins) <= 90


def test_warped_features_are_interpolated_between_their_neighbours():
    random = np.random.default_rng(0)
    features = random.normal(size=[4, 100, 3]).astype(np.float32)
    features[1, 60:] = np.nan
    seed = tf.constant([4, 4])
    source = np.asarray(warp_time(ramp(100), LENGTHS, seed=seed, furthest=20))[:, :, 0]
    out = np.asarray(warp_time(features, LENGTHS, seed=seed, furthest=20))
    for row, length in enumerate(LENGTHS):
        for column in range(3):
            want = np.interp(source[row, :length], np.arange(100), np.nan_to_num(features[row, :, column]))
            np.testing.assert_allclose(out[row, :length, column], want, atol=1e-4)
    assert np.abs(source - np.arange(100)).max() > 1
    settings = {"seed": seed, "freq_width": 3, "time_warp": 20, "fill": "noise"}
    compiled = tf.function(lambda x: spec_augment(x, LENGTHS, **settings), jit_compile=True)
    np.testing.assert_allclose(compiled(features), spec_augment(features, LENGTHS, **settings), atol=1e-4)


PUBLISHED = {  # W, F, m_F, T, p, m_T of Park et al. 2019, table 1; p_S, p_M and the cap of Park et al. 2020
    "LB": (80, 27, 1, 100, 1.0, 1, 0.0),
    "LD": (80, 27, 2, 100, 1.0, 2, 0.0),
    "SM": (40, 15, 2, 70, 0.2, 2, 0.0),
    "SS": (40, 27, 2, 70, 0.2, 2, 0.0),
    "conformer": (0, 27, 2, None, 0.05, 10, 0.0),
    "libri_full_adapt": (80, 27, 2, None, 0.04, 20, 0.04),
}
ORDER = ("time_warp", "freq_width", "freq_masks", "time_width_max", "time_ratio", "time_masks", "time_masks_per_frame")
OWN = {name: None for name in POLICIES["light"]}


@pytest.mark.parametrize("name", PUBLISHED)
def test_policies_are_the_published_ones(name):
    arguments = policy_arguments({"policy": name, "fill": "zero", **OWN})
    assert {**arguments, "fill": "zero"} == {**dict(zip(ORDER, PUBLISHED[name], strict=True)), "fill": "zero"}
    out = spec_augment(tf.ones([2, 300, 80]), tf.constant([300, 200]), seed=tf.constant([1, 2]), **arguments)
    assert (np.asarray(out) == 0).any() and (np.asarray(out)[1, 200:] == 0).all(axis=0).sum() <= 54


def test_settings_of_ones_own_come_before_the_policys():
    augment = {"policy": "LD", "fill": "noise", **OWN, "time_warp": 0, "time_masks": 5}
    arguments = policy_arguments(augment, time_aligned=["teacher"])
    assert (arguments["time_warp"], arguments["time_masks"], arguments["freq_masks"]) == (0, 5, 2)
    assert arguments["fill"] == "noise"


def test_a_warp_is_refused_where_losses_compare_frames():
    with pytest.raises(ValueError, match=r"LD warps the time axis by up to 80 .*teacher.*augment.time_warp=0"):
        policy_arguments({"policy": "LD", "fill": "zero", **OWN}, time_aligned=["teacher"])
    with pytest.raises(ValueError, match="unknown augment.policy 'XL': choose one of light, LB"):
        policy_arguments({"policy": "XL", "fill": "zero", **OWN})
