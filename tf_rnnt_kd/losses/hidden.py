"""Distillation of hidden representations, encoder frame by encoder frame (Tang et al. 2023, arXiv 2306.15171, stage 1;
papers.md 4.2 and section 7, row 19). Needs the same frame rate in both models, but neither a common vocabulary nor
labels."""

from collections.abc import Mapping

import tensorflow as tf

from tf_rnnt_kd.lattice.nodes import lattice_float
from tf_rnnt_kd.lattice.tensors import TensorLike

DISTANCES = ("mse", "l1", "cosine")
REDUCTIONS = ("mean", "sum")
_NO_DIRECTION = 1e-30  # squared length up to which a vector counts as 0; its inverse root is still far from overflow


def hidden(
    teacher_hidden: TensorLike,
    student_hidden: TensorLike,
    *,
    logit_lengths: TensorLike,
    distance: str = "mse",
    projection: TensorLike | None = None,
    shift: int = 0,
    reduction_over_frames: str = "mean",
) -> tf.Tensor:
    """A distance between the teacher's frame h_T(t) and the student's h_S(t + shift) W, over the frames compared.

    With 'mse', 'mean' and no shift it is the published 1 / (T D_T) x sum over t of ||h_S(t) W - h_T(t)||^2.

    Args:
      teacher_hidden: [B, T, D_T] any float dtype, a layer's output; receives no gradient; padding may hold anything.
      student_hidden: [B, T, D_S] any float dtype; the same about padding.
      logit_lengths: [B] int, frames.
      distance: of one frame, computed in float32 (float64 for a float64 student):
        'mse': 1 / D_T x sum over d of (h_S W - h_T)_d^2.
        'l1': 1 / D_T x sum over d of |h_S W - h_T|_d.
        'cosine': 1 - cos(h_S W, h_T), in 0..2, not divided by D_T, computed as half the squared distance of the two
          unit vectors, which does not cancel. 1 with gradient 0 where either vector is 0 (shorter than 1e-15).
      projection: None for W = 1, or the kernel W [D_S, D_T], a variable of the student's training.
      shift: int frames: > 0 lets a streaming student be later. Frames without a partner are left out.
      reduction_over_frames: 'mean' (divides by the number of frames compared, T_b - |shift|), 'sum'.

    Returns:
      [B] float32, at least 0; 0 where no frame is compared.

    Raises:
      ValueError: if the shapes do not fit, or for an unknown distance or reduction.
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance={distance!r} is not one of {', '.join(DISTANCES)}")
    if reduction_over_frames not in REDUCTIONS:
        raise ValueError(f"reduction_over_frames={reduction_over_frames!r} is not one of {', '.join(REDUCTIONS)}")
    student = lattice_float(student_hidden)
    teacher = tf.stop_gradient(tf.cast(teacher_hidden, student.dtype))
    if projection is not None:
        projection = tf.cast(projection, student.dtype)
    _check_shapes(teacher, student, projection)

    shift = int(shift)
    num_frames = tf.shape(student)[1]
    partner = tf.range(num_frames)[None, :] + shift
    compared = tf.sequence_mask(logit_lengths, num_frames)
    compared &= (partner >= 0) & (partner < tf.cast(logit_lengths, tf.int32)[:, None])
    # Masked before the projection, whose gradient 0 x NaN from the padding would reach. So is what rolls round.
    student, teacher = (
        tf.where(compared[..., None], x, tf.zeros([], x.dtype)) for x in (tf.roll(student, -shift, axis=1), teacher)
    )
    if projection is not None:
        student = tf.tensordot(student, projection, 1)
    values = _FRAME_DISTANCES[distance](student, teacher)
    total = tf.reduce_sum(tf.where(compared, values, tf.zeros([], values.dtype)), axis=1)
    if reduction_over_frames == "mean":
        total = tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(compared, total.dtype), axis=1))
    return total


def layer_of(given, layer, name):
    """The one of several layers' tensors that a term of an Objective asks for.

    Args:
      given: a tensor, None, or a mapping {pair of layers: tensor}.
      layer: a key of the mapping, or None where there is only one tensor.
      name: of `given` in LossInputs; 'hidden_projection' may lack a layer.

    Raises:
      ValueError: the mapping lacks the layer or none of several is named, or there is a name without a mapping.
    """
    if not isinstance(given, Mapping):
        if layer is not None and given is not None:
            raise ValueError(f"layer={layer!r}, but {name} is one tensor: leave `layer` out, or give a mapping")
        return given
    names = ", ".join(map(str, given)) or "none"
    if layer is None and len(given) > 1:
        raise ValueError(f"{name} has the layers {names}: name one of them by the option `layer`")
    if layer is None:
        return next(iter(given.values()), None)
    if layer not in given and name != "hidden_projection":
        raise ValueError(f"{name} has no layer {layer!r}; it has {names}")
    return given.get(layer)


def _half_squared_distance_of_unit_vectors(student, teacher):
    squares = [tf.reduce_sum(tf.square(x), axis=-1, keepdims=True) for x in (student, teacher)]
    directed = (squares[0] > _NO_DIRECTION) & (squares[1] > _NO_DIRECTION)
    # The square roots' argument is replaced as well: the gradient of the branch not taken must be finite.
    units = [
        x * tf.math.rsqrt(tf.where(directed, square, tf.ones_like(square)))
        for x, square in zip((student, teacher), squares, strict=True)
    ]
    half = 0.5 * tf.reduce_sum(tf.square(units[0] - units[1]), axis=-1)
    return tf.where(directed[..., 0], half, tf.ones_like(half))


_FRAME_DISTANCES = {  # [B, T, D_T] of student and teacher -> [B, T]
    "mse": lambda student, teacher: tf.reduce_mean(tf.math.squared_difference(student, teacher), axis=-1),
    "l1": lambda student, teacher: tf.reduce_mean(tf.abs(student - teacher), axis=-1),
    "cosine": _half_squared_distance_of_unit_vectors,
}


def _check_shapes(teacher, student, projection):
    fits = teacher.shape.rank == student.shape.rank == 3
    if fits and projection is None:
        fits = teacher.shape.is_compatible_with(student.shape)
    elif fits:
        fits = teacher.shape[:2].is_compatible_with(student.shape[:2]) and projection.shape.is_compatible_with(
            [student.shape[2], teacher.shape[2]]
        )
    if not fits:
        raise ValueError(
            f"teacher_hidden {teacher.shape}, student_hidden {student.shape} and projection "
            f"{None if projection is None else projection.shape} do not fit: expected [B, T, D_T], [B, T, D_S] of the "
            "same frame rate and, where D_S is not D_T, a projection [D_S, D_T]"
        )
