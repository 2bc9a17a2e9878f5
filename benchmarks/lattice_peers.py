"""The RNN-T losses of other toolkits at the lattice benchmark's shapes, each against its own framework's products.

    python -m benchmarks.lattice_peers --shape=medium
    python -m benchmarks.lattice_peers --shape=large --device=cuda --dtype=float32,bfloat16 --json=peers.json

A row is joint and loss, forward and backward, with gradients to encoder, predictor, kernel and bias. Its floor is the
three matrix products of its own framework, device and dtype, in turn with it in the same process. On CPU: one thread,
CPU time, growth of the resident set. On CUDA: time between synchronisations, growth of the allocator's peak. What is
not installed is named, with a hint; none of it is a dependency of this project. Peers that take no bfloat16 logits get
them cast to float32.
"""

import importlib.util
import sys
import time

from absl import flags

from benchmarks import lattice_exact, lattice_inputs, measure, outputs
from benchmarks.lattice_inputs import SHAPES, Shape
from benchmarks.torch_peers import PEERS as TORCH_PEERS
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
TENSORFLOW_ROWS = {
    "this project": "lattice.node_log_probs and losses.rnnt",
    "tensorflow scan": "dense log-softmax and a tf.scan under XLA, as a plain TensorFlow implementation has it",
}
_HEADER = ("peer", "device", "dtype", "x its floor", "floor s", "memory, first call", "memory, later", "loss differs")


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_list("shape", ["medium"], f"Of {', '.join(SHAPES)}.", **add)
    flags.DEFINE_list("peers", [], "Only these; all if empty.", **add)
    flags.DEFINE_enum(
        "device", "cpu", ["cpu", "cuda"], "Where the torch peers run; the TensorFlow rows run on cpu only.", **add
    )
    flags.DEFINE_list("dtype", ["float32"], "float32, bfloat16: of the joint, for the torch peers.", **add)
    flags.DEFINE_bool("peaked", False, "Logits x 8.", **add)
    flags.DEFINE_integer("repetitions", 5, "How often each call is timed.", lower_bound=1, **add)
    outputs.define_flags(values)


def installed():
    """([names that can run], {missing name: how to install it})."""
    missing = {} if _found("tensorflow") else dict.fromkeys(TENSORFLOW_ROWS, "This project's own environment has it.")
    missing |= {name: peer.hint for name, peer in TORCH_PEERS.items() if not _found("torch") or not _found(peer.module)}
    return [name for name in (*TENSORFLOW_ROWS, *TORCH_PEERS) if name not in missing], missing


def time_peer(*, name, shape, repetitions, device="cpu", dtype="float32", peaked=False):
    """{'seconds': {'floor': [...], name: [...]}, 'ratio': of the medians, 'values_error': of the sum of the losses}."""
    shape = Shape(*shape)
    calls, clock = _calls(name, shape, device, dtype, peaked)
    seconds = measure.interleaved({"floor": calls["floor"], name: lambda: calls["run"]()}, repetitions=repetitions,
                                  clock=clock)  # fmt: skip
    batch = lattice_inputs.batch(shape, peaked=peaked)
    exact = -lattice_exact.sums(lattice_exact.node_log_probs(batch, "float32"), batch).log_prob.sum()
    ratio = measure.median(seconds[name]) / measure.median(seconds["floor"])
    return {"seconds": seconds, "ratio": ratio, "values_error": abs(calls["run"]() / exact - 1.0)}


def memory_of_peer(*, name, shape, device="cpu", dtype="float32", peaked=False):
    """{'memory_first', 'memory'}: peak growth as shares of float32 dense logits."""
    shape = Shape(*shape)
    _calls(name, SHAPES["tiny"], device, dtype, peaked)[0]["run"]()
    run = _calls(name, shape, device, dtype, peaked)[0]["run"]
    if device == "cuda":
        from benchmarks import torch_peers

        first, later = torch_peers.cuda_peak(run)
    else:
        first, later = measure.peak_memory(run)
    return {"memory_first": first / shape.dense_bytes, "memory": later / shape.dense_bytes}


def main():
    peers = [*TENSORFLOW_ROWS, *TORCH_PEERS]
    for flag, known in (("shape", SHAPES), ("dtype", ("float32", "bfloat16")), ("peers", peers)):
        unknown = [x for x in FLAGS[flag].value if x not in known]
        if unknown:
            raise ValueError(f"--{flag}={','.join(unknown)}: known are {', '.join(known)}")
    present, missing = installed()
    names = [name for name in present if FLAGS.device == "cpu" or name in TORCH_PEERS]
    names = [name for name in names if not FLAGS.peers or name in FLAGS.peers]
    results = []
    for shape in FLAGS.shape:
        for dtype in FLAGS.dtype:
            results += [_measured(name, shape, dtype) for name in names if dtype == "float32" or name in TORCH_PEERS]
    outputs.keep({"rows": results, "missing": missing})
    from benchmarks.lattice_table import render

    for shape in FLAGS.shape:
        lines = [_cells(row) for row in results if row["shape"] == shape]
        inputs = "logits x 8" if FLAGS.peaked else "random initialisation"
        sys.stdout.write(f"{shape} ({SHAPES[shape]}), {inputs}, {_device(FLAGS.device)}\n\n")
        sys.stdout.write("\n".join(render([_HEADER, *lines], FLAGS.markdown)) + "\n\n")
    for name, hint in missing.items():
        sys.stdout.write(f"missing: {name}. {hint}\n")
    return int(any("failed" in row for row in results))


def _measured(name, shape, dtype):
    row = {"name": name, "shape": shape, "dtype": dtype, "device": FLAGS.device}
    arguments = {"name": name, "shape": SHAPES[shape], "device": FLAGS.device, "dtype": dtype, "peaked": FLAGS.peaked}
    # Without huge pages, torch's fresh gigabytes cost more in page faults than in arithmetic.
    tunables = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} if name in TORCH_PEERS else {}
    child = "benchmarks.lattice_peers:"
    try:
        row |= measure.in_child(
            child + "time_peer", environment=tunables, repetitions=FLAGS.repetitions, **arguments
        ) | measure.in_child(child + "memory_of_peer", **arguments)
        sys.stderr.write(f"{shape}: {name} {dtype} {row['ratio']:.3g} x floor\n")
    except RuntimeError as error:
        row["failed"] = str(error)
        sys.stderr.write(f"{shape}: {name} {dtype}: {error}\n")
    return row


def _cells(row):
    start = (row["name"], row["device"], row["dtype"])
    if "failed" in row:
        return (*start, "FAILED", "", "", "", row["failed"])
    figures = [row["ratio"], measure.median(row["seconds"]["floor"])]
    figures += [row[key] for key in ("memory_first", "memory", "values_error")]
    return (*start, *(f"{x:.3g}" for x in figures))


def _calls(name, shape, device, dtype, peaked):
    """({'run': () -> sum of the losses, 'floor': ()}, clock)."""
    batch = lattice_inputs.batch(shape, peaked=peaked)
    if name in TENSORFLOW_ROWS:
        measure.one_thread_tensorflow()
        from benchmarks import lattice_calls, tensorflow_scan

        floor = measure.fastest(lattice_calls.floor(shape, rows=rows) for rows in lattice_calls.FLOOR_ROWS)
        if name == "this project":
            run = lattice_calls.problem("rnnt_peaked" if peaked else "rnnt_random", shape).call
        else:
            run = tensorflow_scan.call(batch)
        return {"run": lambda: float(sum(run()[0].numpy())), "floor": floor}, time.process_time
    from benchmarks import torch_peers

    calls = {
        "run": torch_peers.call(name, batch, device, dtype),
        "floor": torch_peers.floor(shape, device, dtype),
    }
    return calls, time.process_time if device == "cpu" else time.perf_counter


def _device(device):
    if device == "cpu":
        return f"{measure.processor()}, one thread"
    import torch

    return torch.cuda.get_device_name()


def _found(module):
    return importlib.util.find_spec(module) is not None


if __name__ == "__main__":
    command_line.start(main, define_flags)
