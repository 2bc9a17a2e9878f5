"""SpecAugment from explicit seeds: masks over bins and frames, and a warp of the time axis (Park et al. 2019, 2020).

Nothing here has state: the same seed gives the same result, so a resumed run repeats what the first would have done.
"""

import tensorflow as tf

from tf_rnnt_kd.speech.draws import GENERATOR, normal, uniform

FILLS = ("zero", "mean", "noise")


def spec_augment(
    features: tf.Tensor,
    num_frames: tf.Tensor,
    *,
    seed: tf.Tensor,
    freq_masks: int = 2,
    freq_width: int = 27,
    time_masks: int = 10,
    time_ratio: float = 0.05,
    time_width_max: int | None = None,
    time_masks_per_frame: float = 0.0,
    time_warp: int = 0,
    fill: str = "zero",
) -> tf.Tensor:
    """Warps, then masks random bands of bins and random stretches of frames, each utterance its own (Park et al. 2019).

    A frequency mask is uniformly 0..`freq_width` bins wide, a time mask 0..`time_ratio * num_frames` frames (Park et
    al. 2020, adaptive size); both lie uniformly where they fit. Masks leave the time axis as it is and may be used
    together with stored lattices; a warp may not.

    Args:
        features: float [B, N, F], normalised to mean 0 and standard deviation 1.
        num_frames: int [B]; time masks lie within them.
        seed: int [2].
        freq_masks, time_masks: how many of each; 0 for none.
        freq_width: bins; at most F.
        time_ratio: widest time mask as a share of the utterance.
        time_width_max: widest time mask in frames; None for no limit.
        time_masks_per_frame: above 0, an utterance has this many masks per frame, rounded down, `time_masks` at most
            (Park et al. 2020, adaptive multiplicity).
        time_warp: furthest that a frame is moved; see `warp_time`.
        fill: what masked places hold: "zero"; "mean", that of the utterance; "noise": time masks hold Gaussian noise of
            standard deviation 1, which keeps layers that normalise each frame from amplifying nothing (Park et al.
            2020), frequency masks 0.

    Returns:
        Features of the same shape and dtype.

    Raises:
        ValueError: a negative number, a ratio above 1, `freq_width` above F, or an unknown `fill`.
    """
    bins = features.shape[-1]
    least = min(freq_masks, freq_width, time_masks, time_ratio, time_width_max or 0, time_masks_per_frame, time_warp)
    if least < 0 or time_ratio > 1:
        raise ValueError(
            f"masks and widths must be >= 0 and time_ratio <= 1, got {freq_masks=} {freq_width=} {time_masks=} "
            f"{time_ratio=} {time_width_max=} {time_masks_per_frame=} {time_warp=}"
        )
    if freq_masks and freq_width > bins:
        raise ValueError(f"freq_width={freq_width} is wider than the {bins} bins of the features")
    if fill not in FILLS:
        raise ValueError(f"unknown augment.fill {fill!r}: choose one of {', '.join(FILLS)}")
    batch, length = tf.shape(features)[0], tf.shape(features)[1]
    frames = tf.cast(num_frames, tf.int32)
    freq_seed, time_seed = tf.unstack(tf.random.split(seed, 2, alg=GENERATOR))
    warp_seed, noise_seed = tf.unstack(tf.random.split(time_seed, 2, alg=GENERATOR))
    if time_warp:
        features = warp_time(features, frames, seed=warp_seed, furthest=time_warp)
    value = tf.zeros([], features.dtype)
    if fill == "mean":
        value = _means(features, frames)
    if freq_masks:
        size = tf.fill([batch], bins)
        hit = _stretches(size, tf.fill([batch], freq_width), masks=freq_masks, seed=freq_seed, length=bins)
        features = tf.where(hit[:, None, :], value, features)
    if time_masks:
        widest = tf.cast(tf.cast(frames, tf.float32) * time_ratio, tf.int32)
        if time_width_max is not None:
            widest = tf.minimum(widest, time_width_max)
        count = None
        if time_masks_per_frame:
            count = tf.cast(tf.cast(frames, tf.float32) * time_masks_per_frame, tf.int32)
        hit = _stretches(frames, widest, masks=time_masks, seed=time_seed, length=length, count=count)
        if fill == "noise":
            # The frames come first, so that padding adds numbers and changes none.
            drawn = normal([length, batch, bins], seed=noise_seed)
            value = tf.cast(tf.transpose(drawn, [1, 0, 2]), features.dtype)
        features = tf.where(hit[:, :, None], value, features)
    return features


def warp_time(features: tf.Tensor, num_frames: tf.Tensor, *, seed: tf.Tensor, furthest: int) -> tf.Tensor:
    """Moves one random frame of each utterance, stretching one side and compressing the other (Park et al. 2019).

    The frame is uniform in W..num_frames - 1 - W, its way uniform in -W..W with W = `furthest`, or less than half of
    a short utterance; first and last frame stay. In between frames are interpolated linearly.

    Args:
        features: float [B, N, F]. num_frames: int [B]. seed: int [2].

    Returns:
        Features of the same shape and dtype; what lies beyond `num_frames` is passed on.
    """
    length = tf.shape(features)[1]
    last = tf.cast(tf.maximum(num_frames - 1, 0), tf.float32)
    # The moved frame keeps a frame on each side, or two would fall onto one another.
    bound = tf.maximum(tf.minimum(float(furthest), tf.floor(0.5 * last) - 1.0), 0.0)
    origin_share, way_share = tf.unstack(uniform([2, tf.shape(features)[0]], seed=seed))
    origin = bound + tf.floor(origin_share * (last - 2.0 * bound + 1.0))
    origin = tf.clip_by_value(origin, tf.minimum(1.0, last), tf.maximum(last - 1.0, 0.0))
    target = origin + tf.floor(way_share * (2.0 * bound + 1.0)) - bound
    target = tf.clip_by_value(target, tf.minimum(1.0, last), tf.maximum(last - 1.0, 0.0))[:, None]
    origin, last = origin[:, None], last[:, None]
    position = tf.cast(tf.range(length), tf.float32)[None]
    before = position * tf.math.divide_no_nan(origin, target)
    after = origin + (position - target) * tf.math.divide_no_nan(last - origin, last - target)
    source = tf.clip_by_value(tf.where(position < target, before, after), 0.0, last)
    source = tf.where(position < tf.cast(num_frames, tf.float32)[:, None], source, position)
    left = tf.cast(tf.floor(source), tf.int32)
    share = tf.cast(source - tf.floor(source), features.dtype)[:, :, None]
    right = tf.minimum(left + 1, tf.maximum(length - 1, 0))
    here, there = (tf.gather(features, index, batch_dims=1) for index in (left, right))
    # NaN beyond the end must not reach the last frame with weight 0.
    return tf.where(share > 0, (1 - share) * here + share * there, here)


def _means(features: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
    """[B, 1, 1], over the frames and bins of each utterance."""
    inside = (tf.range(tf.shape(features)[1])[None] < num_frames[:, None])[:, :, None]
    total = tf.reduce_sum(tf.where(inside, tf.cast(features, tf.float32), 0.0), axis=[1, 2])
    mean = tf.math.divide_no_nan(total, tf.cast(num_frames * features.shape[-1], tf.float32))
    return tf.cast(mean, features.dtype)[:, None, None]


def _stretches(size, widest, *, masks: int, seed, length, count=None) -> tf.Tensor:
    """bool [B, length]: the union of random stretches, each 0..widest [B] wide, within 0..size [B].

    There are `masks` of them, or count [B] if that is less.
    """
    width_share, start_share = tf.unstack(uniform([2, tf.shape(size)[0], masks], seed=seed))
    width = tf.cast(width_share * tf.cast(widest[:, None] + 1, tf.float32), tf.int32)
    if count is not None:
        width = tf.where(tf.range(masks)[None] < count[:, None], width, 0)
    start = tf.cast(start_share * tf.cast(size[:, None] - width + 1, tf.float32), tf.int32)
    position = tf.range(length)[None, None, :]
    inside = (position >= start[:, :, None]) & (position < (start + width)[:, :, None])
    return tf.reduce_any(inside, axis=1)
