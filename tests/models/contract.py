"""What every layer over time keeps to, whatever it computes: one check of all of it."""

import inspect
import json

import keras
import numpy as np
import tensorflow as tf

from tf_rnnt_kd.models import Encoder

_DIRECTIONS = tf.range(1.0, 65.0)


def verify_contract(
    make, *, shape=(7,), num_outputs=8, subsampling=1, look_ahead=0, look_back=None, streams=True, step_multiple=1,
    delay=0, padding=np.nan, compile_gradients=True, half_tolerance=0.15,
):
    """Verifies a layer that maps (frames [B, T, *shape], lengths [B]) to frames, or to (frames, lengths).

    Values and gradients: padding reaches nothing; steps equal the whole, for several sizes of steps; XLA equals eager,
    traced for any shape. Causality and look-ahead are as declared. It serialises, and runs in half precision.

    Args:
      make: (dtype=None) -> the layer, not built.
      num_outputs: frames of the longest output that is tried.
      subsampling: input frames per output frame.
      look_ahead: input frames that an output needs after its own end; None: all. look_back: before its own beginning,
        None: not stated.
      streams: has get_initial_state and step. step_multiple: of input frames that a step takes. delay: output frames
        by which those of a step come later.
      padding: what stands beyond the lengths; a part that declares finite padding is given a large number.
      compile_gradients: XLA compiles the gradients too; of deep stacks of verified layers that takes long.
      half_tolerance: largest difference in half precision.
    """
    layer = _built(make(), shape)
    num_frames = num_outputs * subsampling
    lengths = np.array([num_frames, num_frames * 5 // 8, 1], np.int32)
    clean = _normal(0, 3, num_frames, *shape)
    clean[~_mask(lengths, num_frames)] = 0
    dirty = np.concatenate([clean, clean[:, : 2 * step_multiple]], axis=1)
    dirty[~_mask(lengths, dirty.shape[1])] = padding
    expected = _value_and_gradients(layer, _whole, clean, lengths)
    assert all(np.isfinite(x).all() for x in expected.values()) and np.abs(expected["values"]).max() > 0.01

    _assert_close(_value_and_gradients(layer, _whole, dirty, lengths), expected)
    _verify_training(layer, dirty, lengths)
    evaluate = _value_and_gradients if compile_gradients else _values
    unknown = [tf.TensorSpec([None, None, *shape], tf.float32), tf.TensorSpec([None], tf.int32)]
    compiled = tf.function(lambda *inputs: evaluate(layer, _whole, *inputs), input_signature=unknown, jit_compile=True)
    _assert_close(compiled(dirty, lengths), expected)
    if streams:
        flush = delay * subsampling
        _assert_close(_value_and_gradients(layer, _streamed(3 * step_multiple, flush), dirty, lengths), expected)
        for size in (step_multiple, num_frames):
            _assert_close(_values(layer, _streamed(size, flush), dirty, lengths), expected)
    _verify_reach(layer, num_frames, shape, subsampling, look_ahead, look_back)
    _verify_serialises(layer, clean, lengths, shape)
    for policy in ("mixed_float16", "bfloat16"):
        half = make(dtype=policy)
        half.build((None, None, *shape))
        half.set_weights(layer.get_weights())
        _verify_half(half, policy, dirty, lengths, expected["values"], half_tolerance)


def _built(layer, shape):
    """The layer with weights that are all in play, those that begin as zeros or ones too."""
    layer.build((None, None, *shape))
    keras.utils.set_random_seed(7)
    for i, variable in enumerate(layer.weights):
        value = variable.numpy().astype(np.float32)
        value += 0.1 * _normal(100 + i, *value.shape) * (1 if value.std() == 0 else 0)
        variable.assign(value)
    return layer


def _whole(layer, frames, lengths, **options):
    inputs = [frames, lengths] if "lengths" in _arguments(layer) or isinstance(layer, Encoder) else [frames]
    outputs = layer(*(tf.convert_to_tensor(x) for x in inputs), **options)
    return outputs if isinstance(outputs, tuple) else (outputs, tf.convert_to_tensor(lengths))


def _arguments(layer):
    return inspect.signature(layer.call).parameters


def _streamed(size, flush):
    """`_whole` by steps of `size` frames, and so many more as bring the last outputs."""

    def run(layer, frames, lengths):
        state, outputs, exists = layer.get_initial_state(len(lengths)), [], []
        shapes = tf.nest.map_structure(lambda x: (x.shape, x.dtype), state)
        count = -(-(int(max(lengths)) + flush) // size) * size
        missing = max(count - frames.shape[1], 0)
        frames = tf.pad(frames, [[0, 0], [0, missing]] + [[0, 0]] * (len(frames.shape) - 2))
        for start in range(0, count, size):
            piece, here = frames[:, start : start + size], np.clip(lengths - start, 0, size)
            if isinstance(layer, Encoder):
                output, found, state = layer.step(piece, tf.constant(here), state)
                valid = tf.sequence_mask(found, output.shape[1])
            else:
                output, valid, state = layer.step(piece, tf.constant(_mask(here, size)), state)
            outputs.append(output)
            exists.append(valid)
            assert tf.nest.map_structure(lambda x: (x.shape, x.dtype), state) == shapes
        outputs, exists = tf.concat(outputs, axis=1), tf.concat(exists, axis=1)
        rows = [tf.boolean_mask(output, valid) for output, valid in zip(outputs, exists, strict=True)]
        found = np.array([len(row) for row in rows], np.int32)
        rest = [[0, 0]] * (len(outputs.shape) - 2)
        return tf.stack([tf.pad(row, [[0, found.max() - len(row)], *rest]) for row in rows]), found

    return run


def _values(layer, run, frames, lengths):
    """{"values": outputs, zero beyond their lengths; "lengths"}."""
    outputs, output_lengths = run(layer, frames, lengths)
    valid = tf.sequence_mask(output_lengths, tf.shape(outputs)[1])
    valid = tf.reshape(valid, [*tf.unstack(tf.shape(valid)), *[1] * (len(outputs.shape) - 2)])
    return {"values": tf.where(valid, outputs, 0), "lengths": output_lengths}


def _value_and_gradients(layer, run, frames, lengths):
    """`_values` and the gradients of a weighted sum of their squares, by name."""
    variables = [variable.value for variable in layer.trainable_variables]
    frames = tf.convert_to_tensor(frames)
    with tf.GradientTape() as tape:
        tape.watch(frames)
        found = _values(layer, run, frames, lengths)
        outputs = found["values"]
        weights = tf.math.cos(tf.range(1, tf.shape(outputs)[1] + 1, dtype=tf.float32)[:, None] * _DIRECTIONS)
        weights = tf.cast(weights[:, : outputs.shape[-1]], outputs.dtype)
        weights = tf.reshape(weights, [-1, *[1] * (len(outputs.shape) - 3), outputs.shape[-1]])
        # Not linear in the outputs: behind a norm the gradient of a sum is nearly zero.
        total = tf.reduce_sum(weights * tf.square(outputs))
    gradients = tape.gradient(total, [frames, *variables])
    names = ["frames", *(variable.path for variable in layer.trainable_variables)]
    return found | {name: tf.convert_to_tensor(x) for name, x in zip(names, gradients, strict=True)}


def _assert_close(got, expected):
    np.testing.assert_array_equal(got["lengths"], expected["lengths"])
    for name in got:
        have, want = np.asarray(got[name]), np.asarray(expected[name])
        if name in ("values", "frames"):
            # What is longer holds padding, whose gradient is zero.
            have, rest = have[:, : want.shape[1]], have[:, want.shape[1] :]
            have = np.pad(have, [[0, 0], [0, want.shape[1] - have.shape[1]]] + [[0, 0]] * (have.ndim - 2))
            assert not np.any(rest), name
        scale = max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(have, want, atol=(3e-5 if name == "values" else 2e-4) * scale, err_msg=name)


def _verify_training(layer, frames, lengths):
    """Dropout and statistics of the batch see no padding either."""
    if "training" not in _arguments(layer):
        return
    before = layer.get_weights()
    with tf.GradientTape() as tape:
        outputs, output_lengths = _whole(layer, frames, lengths, training=True)
        valid = tf.sequence_mask(output_lengths, outputs.shape[1])
        total = tf.reduce_sum(tf.square(tf.boolean_mask(outputs, valid)))
    gradients = tape.gradient(total, [variable.value for variable in layer.trainable_variables])
    assert np.isfinite(total) and all(np.isfinite(gradient).all() for gradient in gradients)
    assert all(np.isfinite(weight).all() for weight in layer.get_weights())
    layer.set_weights(before)


def _verify_reach(layer, num_frames, shape, subsampling, look_ahead, look_back):
    """Changes one input frame at a time and sees which outputs change."""
    frames = _normal(1, 1, num_frames, *shape)
    changed = np.repeat(frames, num_frames, axis=0)
    changed[np.arange(num_frames), np.arange(num_frames)] += 2.0 * _normal(2, num_frames, *shape)
    outputs = _whole(layer, np.concatenate([frames, changed]), np.full([num_frames + 1], num_frames, np.int32))[0]
    difference = np.abs(np.asarray(outputs)[1:] - np.asarray(outputs)[:1])
    reached = difference.reshape(*difference.shape[:2], -1).max(axis=-1) > 1e-6
    assert reached.any(axis=1).all(), "a frame that changes nothing"
    if look_ahead is None:
        assert reached.all(), "full context that does not see everything"
        return
    place = np.arange(num_frames)[:, None] - subsampling * np.arange(reached.shape[1])[None, :]
    assert place[reached].max() - (subsampling - 1) == look_ahead
    if look_back is not None:
        assert -place[reached].min() == look_back


def _verify_serialises(layer, frames, lengths, shape):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(layer) and copy.get_config() == layer.get_config()
    if not copy.built:
        copy.build((None, None, *shape))
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(_whole(copy, frames, lengths)[0], _whole(layer, frames, lengths)[0])


def _verify_half(half, policy, frames, lengths, expected, tolerance):
    found = _value_and_gradients(half, _whole, frames, lengths)
    assert found["values"].dtype == policy.removeprefix("mixed_") == half.compute_dtype
    assert all(np.isfinite(np.asarray(tf.cast(x, tf.float32))).all() for x in found.values())
    values = np.asarray(tf.cast(found["values"], tf.float32))[:, : expected.shape[1]]
    assert np.abs(values - expected).max() < tolerance * max(1.0, np.abs(expected).max())


def _mask(lengths, num_frames):
    return np.arange(num_frames)[None] < np.asarray(lengths)[:, None]


def _normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
