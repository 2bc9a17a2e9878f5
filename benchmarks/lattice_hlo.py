"""The compiled RNN-T loss on any device that JAX drives: dump the XLA program here, run and time it there.

    python -m benchmarks.lattice_hlo --dump=DIR --shape=large --dtype=float32      # needs TensorFlow, any machine
    python benchmarks/lattice_hlo.py --run=DIR                                     # needs jax only, on the GPU or TPU

The program is loss and gradients with respect to encoder, predictor, kernel and bias, as XLA gets it from TensorFlow,
before any optimisation; DIR also holds its inputs, and the results of this project on the CPU to check against. --run
prints seconds per call next to those of the three matrix products on the same device in the same type. Both leave the
precision of float32 products to XLA, which on NVIDIA takes TF32 (the errors show it): NVIDIA_TF32_OVERRIDE=0 in the
environment makes it float32.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
_PROGRAM, _ARRAYS, _META = "program.hlo.pb", "arrays.npz", "meta.json"


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("dump", None, "A folder to write.", **add)
    flags.DEFINE_string("run", None, "A folder that --dump wrote.", **add)
    flags.DEFINE_string("shape", "medium", "Of benchmarks/lattice_inputs.py.", **add)
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of encoder, predictor, kernel and bias.", **add)
    flags.DEFINE_bool("peaked", False, "Logits x 8.", **add)
    flags.DEFINE_integer("repetitions", 10, "How often a call is timed.", lower_bound=1, **add)


def dump(folder, *, shape, dtype="float32", peaked=False):
    """Writes the program, its inputs and its results.

    Args:
      folder: pathlib.Path.
      shape: lattice_inputs.Shape.
      dtype: 'float32' or 'bfloat16', of the four float inputs.
      peaked: see lattice_inputs.batch.
    """
    import tensorflow as tf

    from benchmarks import lattice_inputs
    from tf_rnnt_kd import lattice, losses

    @tf.function(jit_compile=True, autograph=False)
    def loss_and_gradients(encoder, predictor, kernel, bias, labels, logit_lengths, label_lengths):
        joint = (encoder, predictor, kernel, bias)
        lengths = {"logit_lengths": logit_lengths, "label_lengths": label_lengths}
        with tf.GradientTape() as tape:
            tape.watch(joint)
            values = losses.rnnt(lattice.node_log_probs(*joint, labels=labels, **lengths), **lengths)
        return (values, *tape.gradient(values, joint))

    batch = lattice_inputs.batch(shape, peaked=peaked)
    inputs = [tf.cast(x, dtype) for x in batch.joint] + [tf.constant(x) for x in batch[4:]]
    program = loss_and_gradients.experimental_get_compiler_ir(*inputs)(stage="hlo_serialized")
    outputs = loss_and_gradients(*inputs)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _PROGRAM).write_bytes(program)
    # As float32, since NumPy alone has no bfloat16; the way back is exact.
    wide = [tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x for x in (*inputs, *outputs)]
    names = [f"input{i}" for i in range(len(inputs))] + [f"output{i}" for i in range(len(outputs))]
    np.savez(folder / _ARRAYS, **{name: x.numpy() for name, x in zip(names, wide, strict=True)})
    meta = {
        "shape": shape._asdict(),
        "peaked": peaked,
        "inputs": [{"dtype": x.dtype.name, "shape": x.shape.as_list()} for x in inputs],
        "outputs": [{"dtype": x.dtype.name, "shape": x.shape.as_list()} for x in outputs],
        "tensorflow": tf.__version__,
    }
    (folder / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")


def run(folder, *, repetitions):
    """Compiles and runs the program on JAX's first device.

    Returns:
      {'device', 'compile_seconds', 'seconds': [...], 'floor_seconds': [...], 'ratio', 'temporary' (memory beside inputs
      and results as a share of float32 dense logits, None where the device does not say), 'errors': of the values and
      of each gradient, relative to their largest entry}.
    """
    import jax
    import jax.numpy as jnp

    meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    arrays = np.load(folder / _ARRAYS)
    device = jax.devices()[0]
    inputs = [
        jax.device_put(jnp.asarray(arrays[f"input{i}"], dtype=spec["dtype"]), device)
        for i, spec in enumerate(meta["inputs"])
    ]
    start = time.perf_counter()
    program = _compile((folder / _PROGRAM).read_bytes(), device)
    compile_seconds = time.perf_counter() - start

    def call():
        outputs = program.execute(inputs)
        jax.block_until_ready(outputs)
        return outputs

    outputs = [np.asarray(x, np.float64) for x in call()]
    expected = [arrays[f"output{i}"].astype(np.float64) for i in range(len(outputs))]
    errors = [float(np.max(np.abs(x - y)) / np.max(np.abs(y))) for x, y in zip(outputs, expected, strict=True)]
    floor = _floor(meta["shape"], meta["inputs"][0]["dtype"], device)
    seconds, floor_seconds = [], []
    floor()
    for _ in range(repetitions):
        for clock, function in ((floor_seconds, floor), (seconds, call)):
            start = time.perf_counter()
            function()
            clock.append(time.perf_counter() - start)
    return {
        "device": f"{device.platform} {device.device_kind}",
        "compile_seconds": compile_seconds,
        "seconds": seconds,
        "floor_seconds": floor_seconds,
        "ratio": float(np.median(seconds) / np.median(floor_seconds)),
        "temporary": _temporary_share(program, meta["shape"]),
        "errors": errors,
    }


def _compile(serialized, device):
    """An executable of a serialized HloModuleProto: JAX's client takes StableHLO, so it is translated first."""
    from jax._src.lib import _jax, xla_client

    computation = xla_client.XlaComputation(serialized)
    module = xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
    devices = _jax.DeviceList((device,))
    return device.client.compile_and_load(module, devices, xla_client.CompileOptions())


def _floor(shape, dtype, device):
    import jax
    import jax.numpy as jnp

    nodes = shape["batch"] * shape["frames"] * (shape["labels"] + 1)
    sizes = (nodes, shape["width"]), (shape["width"], shape["symbols"]), (nodes, shape["symbols"])
    hidden, kernel, to_logits = (
        jax.device_put(jax.random.normal(jax.random.key(i), size, jnp.float32).astype(dtype), device)
        for i, size in enumerate(sizes)
    )

    @jax.jit
    def products(hidden, kernel, to_logits):
        return hidden @ kernel, to_logits @ kernel.T, hidden.T @ to_logits

    return lambda: jax.block_until_ready(products(hidden, kernel, to_logits))


def _temporary_share(program, shape):
    try:
        size = int(program.get_compiled_memory_stats().temp_size_in_bytes)
    except (AttributeError, RuntimeError):
        return None
    return size / (4 * shape["batch"] * shape["frames"] * (shape["labels"] + 1) * shape["symbols"])


def main(argv):
    if len(argv) > 1 or (FLAGS.dump is None) == (FLAGS.run is None):
        raise app.UsageError("give one of --dump=DIR and --run=DIR, and nothing else but flags")
    if FLAGS.run:
        found = run(Path(FLAGS.run), repetitions=FLAGS.repetitions)
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    from benchmarks.lattice_inputs import SHAPES

    if FLAGS.shape not in SHAPES:
        raise app.UsageError(f"--shape={FLAGS.shape}: known are {', '.join(SHAPES)}")
    dump(Path(FLAGS.dump), shape=SHAPES[FLAGS.shape], dtype=FLAGS.dtype, peaked=FLAGS.peaked)


if __name__ == "__main__":
    define_flags(FLAGS)  # and not our command_line: this file also runs where nothing else of the project is
    app.run(main)
