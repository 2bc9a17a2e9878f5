"""Distances of hidden representations against loops over frames in numpy float64."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd import losses

LENGTHS = np.array([5, 3, 1, 0], np.int32)
DISTANCES = {
    "mse": lambda s, t: np.sum((s - t) ** 2) / len(t),
    "l1": lambda s, t: np.sum(np.abs(s - t)) / len(t),
    "cosine": lambda s, t: 1.0 - np.dot(s, t) / np.sqrt(np.dot(s, s) * np.dot(t, t)),
}


def _batch(seed=0, *, widths=(4, 3), dtype=np.float64):
    """teacher_hidden [4, 5, D_T], student_hidden [4, 5, D_S], projection [D_S, D_T]."""
    rng = np.random.default_rng(seed)
    shapes = [(4, 5, widths[0]), (4, 5, widths[1]), widths[::-1]]
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def _loops(teacher, student, projection, distance, shift, reduction):
    result = []
    for i, frames in enumerate(LENGTHS):
        values = [
            DISTANCES[distance](student[i, t + shift] @ projection, teacher[i, t])
            for t in range(frames)
            if 0 <= t + shift < frames
        ]
        result.append(sum(values) / (len(values) if reduction == "mean" and values else 1))
    return result


def _value_and_gradients(teacher, student, projection, **options):
    given = [None if x is None else tf.constant(x) for x in (teacher, student, projection)]
    with tf.GradientTape() as tape:
        tape.watch([x for x in given if x is not None])
        value = losses.hidden(given[0], given[1], logit_lengths=LENGTHS, projection=given[2], **options)
        total = tf.reduce_sum(value * tf.cast(tf.range(1, 5), value.dtype))
    return value, tape.gradient(total, [x for x in given if x is not None])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shift", [0, 2, -1, 7])
@pytest.mark.parametrize("distance", DISTANCES)
def test_against_loops_over_frames(distance, shift, reduction):
    batch = _batch(1)
    value, _ = _value_and_gradients(*batch, distance=distance, shift=shift, reduction_over_frames=reduction)
    np.testing.assert_allclose(value, _loops(*batch, distance, shift, reduction), rtol=1e-12)
    same_width = [*_batch(2, widths=(3, 3))[:2], np.eye(3)]
    value, _ = _value_and_gradients(
        *same_width[:2], None, distance=distance, shift=shift, reduction_over_frames=reduction
    )
    np.testing.assert_allclose(value, _loops(*same_width, distance, shift, reduction), rtol=1e-12)


def test_the_default_is_the_published_stage_one_loss():
    teacher, student, projection = _batch(3)
    value, _ = _value_and_gradients(teacher, student, projection)
    norms = np.linalg.norm(student @ projection - teacher, axis=-1) ** 2
    for i, frames in enumerate(LENGTHS[:3]):
        np.testing.assert_allclose(value[i], norms[i, :frames].sum() / (frames * 4), rtol=1e-12)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_against_finite_differences_and_none_for_the_teacher(distance, shift):
    teacher, student, projection = _batch(4)
    _, gradients = _value_and_gradients(teacher, student, projection, distance=distance, shift=shift)
    assert gradients[0] is None

    def total(student, projection):
        return np.dot([1, 2, 3, 4], _loops(teacher, student, projection, distance, shift, "mean"))

    for k, got in enumerate(gradients[1:]):
        inputs = [student, projection]
        for index in np.ndindex(*inputs[k].shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [x.copy() for x in inputs]
                moved[k][index] += step
                ends.append(total(*moved))
            np.testing.assert_allclose(got[index], (ends[0] - ends[1]) / 2e-6, atol=1e-8)


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
@pytest.mark.parametrize("distance", DISTANCES)
def test_garbage_in_padding_more_padding_and_batch_split_change_nothing(distance, garbage):
    teacher, student, projection = _batch(5, dtype=np.float32)
    options = {"distance": distance, "shift": 1}
    value, gradients = _value_and_gradients(teacher, student, projection, **options)
    dirty = [np.pad(x, [[0, 0], [0, 2], [0, 0]]) for x in (teacher, student)]
    for x in dirty:
        x[np.arange(7) >= LENGTHS[:, None]] = garbage
    dirty_value, dirty_gradients = _value_and_gradients(*dirty, projection, **options)
    np.testing.assert_array_equal(value, dirty_value)
    np.testing.assert_array_equal(gradients[1], dirty_gradients[1][:, :5])
    assert not np.any(dirty_gradients[1][:, 5:])
    np.testing.assert_allclose(gradients[2], dirty_gradients[2], rtol=1e-6)  # summed over more rows, of zeros
    for rows in (slice(0, 1), slice(1, 4)):
        part = losses.hidden(
            teacher[rows], student[rows], logit_lengths=LENGTHS[rows], projection=projection, **options
        )
        np.testing.assert_allclose(part, value[rows], rtol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_zero_value_and_gradient_at_equality(distance):
    _, student, _ = _batch(6, dtype=np.float32)
    value, gradients = _value_and_gradients(student, student, None, distance=distance)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_array_equal(gradients[1], 0.0)


def test_cosine_of_parallel_nearly_parallel_and_zero_vectors():
    teacher = np.zeros([1, 5, 2], np.float32)
    teacher[0, :4, 0] = 1.0
    student = np.array([[[3.0, 0.0], [-2.0, 0.0], [1.0, 1e-5], [0.0, 0.0], [1.0, 0.0]]], np.float32)
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        frames = [
            losses.hidden(teacher[:, t : t + 1], student[:, t : t + 1], logit_lengths=[1], distance="cosine")
            for t in range(5)
        ]
        total = tf.add_n(frames)
    # 1 - cos of the third is 5e-11, which 1 - 0.99999999995 in float32 does not hold.
    np.testing.assert_allclose(tf.concat(frames, 0), [0.0, 2.0, 5e-11, 1.0, 1.0], rtol=1e-5)
    gradient = tape.gradient(total, student).numpy()
    assert np.all(np.isfinite(gradient)) and not np.any(gradient[0, 3:])


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision_is_computed_in_float32(dtype):
    halves = [tf.cast(x, dtype) for x in _batch(7, dtype=np.float32)]
    value, gradients = _value_and_gradients(*halves)
    same, same_gradients = _value_and_gradients(*(tf.cast(x, tf.float32) for x in halves))
    assert value.dtype == tf.float32
    np.testing.assert_array_equal(value, same)
    for got, want in zip(gradients[1:], same_gradients[1:], strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, tf.cast(want, dtype))


def test_xla_agrees_with_eager_at_dynamic_shapes_in_one_trace():
    def step(teacher, student, projection, lengths):
        with tf.GradientTape() as tape:
            tape.watch([student, projection])
            value = tf.add_n(
                [
                    losses.hidden(
                        teacher, student, logit_lengths=lengths, projection=projection, distance=distance, shift=1
                    )
                    for distance in DISTANCES
                ]
            )
        return value, tape.gradient(value, [student, projection])

    sequence = tf.TensorSpec([None, None, 3])
    signature = [tf.TensorSpec([None, None, 4]), sequence, tf.TensorSpec([3, 4]), tf.TensorSpec([None], tf.int32)]
    graph = tf.function(step, input_signature=signature, autograph=False)
    for rows in (4, 2):
        given = [*_batch(8, dtype=np.float32), LENGTHS]
        given = [tf.constant(x if k == 2 else x[:rows]) for k, x in enumerate(given)]
        eager = step(*given)
        for other in (graph(*given), tf.function(step, jit_compile=True, autograph=False)(*given)):
            tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), eager, other)
    assert graph.experimental_get_tracing_count() == 1


def test_errors_name_shapes_and_choices():
    teacher, student, projection = _batch(9)
    with pytest.raises(ValueError, match=r"\(4, 5, 4\).*\(4, 5, 3\).*projection \[D_S, D_T\]"):
        losses.hidden(teacher, student, logit_lengths=LENGTHS)
    with pytest.raises(ValueError, match="same frame rate"):
        losses.hidden(teacher[:, :-1], student, logit_lengths=LENGTHS, projection=projection)
    with pytest.raises(ValueError, match="do not fit"):
        losses.hidden(teacher, student, logit_lengths=LENGTHS, projection=projection.T)
    with pytest.raises(ValueError, match="distance='l2'"):
        losses.hidden(teacher, student, logit_lengths=LENGTHS, projection=projection, distance="l2")
    with pytest.raises(ValueError, match="reduction_over_frames='per_frame'"):
        losses.hidden(
            teacher, student, logit_lengths=LENGTHS, projection=projection, reduction_over_frames="per_frame"
        )
