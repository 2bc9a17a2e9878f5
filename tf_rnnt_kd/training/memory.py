"""The memory that a training will need, before its first step: parts, sum, and a refusal with advice."""

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Callable

import tensorflow as tf

from tf_rnnt_kd.lattice.rows import default_size
from tf_rnnt_kd.models.recompute import MODES
from tf_rnnt_kd.records.schema import SAMPLE_RATE
from tf_rnnt_kd.training.batching import numeric
from tf_rnnt_kd.training.graph_memory import Peak, peak_memory

_BATCHES_UNDER_WAY = 4  # prefetched, being made, and the one of the step
_ENCODER, _JOINT = "encoder activations", "joint and losses"
_SMALLER_BATCHES = (
    "lower data.frames_per_batch, and raise train.accumulate_steps as much to keep the size of an update "
    "(now {} frames)"
)
_ADVICE = {
    _ENCODER: _SMALLER_BATCHES,
    _JOINT: _SMALLER_BATCHES,
    "optimizer": "set optimizer.name=adafactor with optimizer.beta_1=0, whose state is small",
    "data": "lower data.shuffle_buffer",
}


def check(session, *, config, sources, report: Callable[[str], None]) -> dict[str, int]:
    """Tells `report` what the training will need and of how much there is.

    Returns:
      {part: bytes} as `estimate`; {} with a limit below 0, which spares the time of the estimate.

    Raises:
      ValueError: it is more than there is, or than train.memory_limit_gb; says what to do about it.
    """
    if config.train.memory_limit_gb < 0:
        return {}
    parts = estimate(session, config=config, sources=sources)
    total = sum(parts.values())
    limit = int(config.train.memory_limit_gb * 1e9) or device_memory()
    largest = max(session.buckets, key=_weight)
    text = ", ".join(f"{name} {_readable(size)}" for name, size in parts.items() if size)
    of_limit = f" of {_readable(limit)}" if limit else ""
    report(
        f"memory, about, for batches of {largest.batch_size} x {largest.num_frames} frames x {largest.num_labels} "
        f"labels: {text}; in all {_readable(total)}{of_limit}"
    )
    if limit and total > limit:
        advice = "take a smaller model, or more devices (--strategy)"
        largest_part = max(parts, key=parts.__getitem__)
        if largest_part in _ADVICE:
            advice = f"{_ADVICE[largest_part].format(config.data.frames_per_batch)}; or {advice}"
        if largest_part == _ENCODER and config.train.recompute != MODES[-1]:
            left = " or ".join(MODES[MODES.index(config.train.recompute) + 1 :])
            advice = f"set train.recompute={left}, a third more time at most; or {advice}"
        raise ValueError(
            f"the training needs about {_readable(total)} and there are {_readable(limit)} "
            f"(train.memory_limit_gb={config.train.memory_limit_gb:g}, 0 being what the device has). Most is for "
            f"{largest_part}, {_readable(parts[largest_part])}: {advice}"
        )
    return parts


def estimate(session, *, config, sources) -> dict[str, int]:
    """{part: bytes} on the fullest device, for the largest batches; on CPU together with all that this process holds.

    What the encoder and the losses keep for their gradients is found by tracing the step's forward and backward part.
    XLA needs less, since it fuses operations.
    """
    on_cpu = not tf.config.list_logical_devices("GPU") and not tf.config.list_logical_devices("TPU")
    # Virtual CPUs share one memory; of accelerators each has its own.
    replicas = session.num_replicas // session.num_workers if on_cpu else 1
    model, average = session.model.variables, session.average_model.variables
    average = [] if session.average_model is session.model else average
    trained = session.forward.trainable_variables
    optimizer = _bytes_of(session.checkpoint.variables) - _bytes_of(model) - _bytes_of(average)
    bucket = max(session.buckets, key=_weight)
    peak = activation_memory(session, bucket)
    gradients = _bytes_of(trained) * (2 if config.train.accumulate_steps > 1 else 1)
    encoder = sum(size for name, size in peak.by_operation.items() if "encoder" in name)
    parts = {
        "weights": _bytes_of(model), "averaged weights": _bytes_of(average), "optimizer": optimizer,
        "gradients": gradients, _ENCODER: encoder,
        _JOINT: peak.total - encoder + _lattice_workspace(session, bucket),
    }
    parts = {name: size * replicas for name, size in parts.items()}
    if on_cpu:
        held = sum(parts[name] for name in ("weights", "averaged weights", "optimizer"))
        parts["data"] = _data_memory(session, config=config, sources=sources)
        parts["the program itself"] = max(0, resident_memory() - held)
    return parts


def activation_memory(session, bucket) -> Peak:
    """Peak of the tensors of one forward and backward pass on a full batch of a bucket, without the weights."""
    trained = [variable.value for variable in session.forward.trainable_variables]

    def gradients(batch, step):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(session.forward(batch, step)["loss"])
        found = tape.gradient(loss, trained)
        # As outputs they would live to the end; they are counted apart.
        return tf.add_n([tf.reduce_sum(tf.cast(value, tf.float32)) for value in found if value is not None])

    spec = _batch_spec(session, bucket)
    traced = tf.function(gradients, autograph=False)
    return peak_memory(traced.get_concrete_function(spec, tf.TensorSpec([], tf.int32)))


def device_memory() -> int | None:
    """Bytes of one accelerator, or of this machine or container; None where that is unknown."""
    if tf.config.list_logical_devices("TPU"):
        return None
    if tf.config.list_logical_devices("GPU"):
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
            listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
            return min(int(line) for line in listed.split()) << 20
        return None
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            machine = min(machine, int(pathlib.Path(path).read_text()))
    return machine


def resident_memory() -> int:
    """Bytes that this process has in memory now; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _weight(bucket):
    """Attention grows with the square of the length, the lattice with frames times labels, which go with frames."""
    return bucket.batch_size * bucket.num_frames**2


def _batch_spec(session, bucket):
    """The numeric part of a batch's specification, with the lengths of a bucket."""
    frames = -(-bucket.num_frames // session.model.subsampling)
    axes = {
        "features": [None, bucket.num_frames], "tokens": [None, bucket.num_labels],
        "nbest_tokens": [None, None, bucket.num_labels], "teacher_predictor": [None, bucket.num_labels + 1],
        "waveforms": [None, round(bucket.num_frames * session.hop_seconds * SAMPLE_RATE)],
    }
    filled = {}
    for name, spec in numeric(session.batch_spec).items():
        # What remains of a teacher lies over encoder frames, and nodes.
        wanted = axes.get(name, [None, frames, bucket.num_labels + 1])
        shape = [bucket.batch_size, *spec.shape[1:]]
        for axis in range(1, len(shape)):
            if shape[axis] is None and axis < len(wanted):
                shape[axis] = wanted[axis]
        filled[name] = tf.TensorSpec(shape, spec.dtype)
    return filled


def _lattice_workspace(session, bucket):
    """What the fused lattice keeps within itself: tables of projections, slices of logits, numbers of each node."""
    width, vocab_size = session.model.joint_width, session.model.vocab_size
    frames = -(-bucket.num_frames // session.model.subsampling)
    projections = bucket.batch_size * (frames + bucket.num_labels + 1) * width
    nodes = bucket.batch_size * frames * (bucket.num_labels + 1)
    rows = min(nodes, default_size(session.model.joint_kernel.value, passes="forward"))
    return 4 * (4 * projections + 3 * rows * (vocab_size + width) + 12 * nodes)


def _data_memory(session, *, config, sources):
    """Records in the shuffle buffer and in unfinished batches, and batches under way."""
    splits = [source.info().split(source.split) for source in sources]
    record = sum(shard.bytes for split in splits for shard in split.shards) / sum(split.utterances for split in splits)
    waiting = min(config.data.shuffle_buffer, sum(split.utterances for split in splits)) + sum(
        bucket.batch_size * session.num_replicas for bucket in session.buckets
    )
    spec = _batch_spec(session, max(session.buckets, key=_weight))
    batch = sum((value.shape.num_elements() or 0) * value.dtype.size for value in spec.values())
    return int(record * waiting + _BATCHES_UNDER_WAY * batch * session.num_replicas / session.num_workers)


def _bytes_of(variables):
    return sum(int(variable.shape.num_elements() or 0) * tf.as_dtype(variable.dtype).size for variable in variables)


def _readable(size):
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
