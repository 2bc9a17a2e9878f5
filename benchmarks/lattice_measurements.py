"""What the benchmark of the lattice does in its child processes; every result can be written as JSON."""

import math

import numpy as np

from benchmarks import lattice_exact, measure
from benchmarks.lattice_inputs import SHAPES, Shape
from benchmarks.lattice_rows import ROWS


def floor_slices(*, shape, repetitions):
    """Finds the fastest way to make the three products: {rows at a time ('all'): [seconds]}."""
    measure.one_thread_tensorflow()
    from benchmarks import lattice_calls

    shape = Shape(*shape)
    sizes = [n for n in lattice_calls.FLOOR_ROWS if n is None or n < shape.nodes]
    calls = {str(n or "all"): lattice_calls.floor(shape, rows=n) for n in sizes}
    seconds = measure.interleaved(calls, repetitions=repetitions)
    return {name: values[-repetitions:] for name, values in seconds.items()}


def time_row(*, name, shape, repetitions, floor_rows, mode="graph"):
    """Times a row in turn with its yardstick.

    Returns:
      {'seconds': {name of the call: [CPU seconds]}, 'ratio' to the yardstick, 'floor_ratio' (None if not measured),
      'yardstick_spread', 'ratio_spread', 'first_call' and 'later_call' seconds, 'num_nodes'}. For a ragged row 'ratio'
      is the cost per existing node over the yardstick's.
    """
    measure.one_thread_tensorflow()
    from benchmarks import lattice_calls

    shape = Shape(*shape)
    row = ROWS[name]
    # Another shape first, so that the first call's time holds this shape's tracing and compilation, not XLA's start.
    lattice_calls.problem(name, SHAPES["tiny"], mode=mode).call()
    found = lattice_calls.problem(name, shape, mode=mode)
    first, later = measure.first_and_later(found.call)
    calls, nodes_ratio = {}, 1.0
    if row.yardstick == "copy":
        calls["copy"] = lattice_calls.copy(shape)
    elif row.yardstick == "soft_floor":
        calls["soft_floor"] = lattice_calls.floor(shape, rows=floor_rows, teacher=True)
    elif row.yardstick != "floor":
        other = lattice_calls.problem(row.yardstick, shape, mode=mode)
        calls[row.yardstick], nodes_ratio = other.call, other.num_nodes / found.num_nodes
    else:
        calls["floor"] = lattice_calls.floor(shape, rows=floor_rows)
    calls[name] = found.call
    if row.yardstick != "copy":
        calls.setdefault("floor", lattice_calls.floor(shape, rows=floor_rows))
    seconds = measure.interleaved(calls, repetitions=repetitions)
    medians = {key: measure.median(values) for key, values in seconds.items()}
    return {
        "seconds": seconds,
        "ratio": nodes_ratio * medians[name] / medians[row.yardstick],
        "floor_ratio": medians[name] / medians["floor"] if "floor" in medians else None,
        "ratio_spread": measure.spread(seconds[name]),
        "yardstick_spread": measure.spread(seconds[row.yardstick]),
        "first_call": first,
        "later_call": later,
        "num_nodes": found.num_nodes,
    }


def memory_row(*, name, shape, mode="graph", exact=True):
    """Peak memory of a row in a process that has done nothing else of that size, then its gradients' error.

    Two small lattices of the same model come before: programs for its rows are compiled once for lattices of any size.
    Tracing and compiling this lattice belongs to the first call.

    Returns:
      {'memory_first', 'memory': shares of the dense logits' size; 'error': of the gradients against those without a
      threshold, 'error64': against float64 NumPy, None where there is no such reference, 'live': share of live nodes
      or None; for the pruned rows 'loss', 'gradient', 'cosine' of lattice_checks.pruned_distance}.
    """
    measure.one_thread_tensorflow()
    from benchmarks import lattice_calls, lattice_checks

    shape = Shape(*shape)
    row = ROWS[name]
    for frames in (10, 11):
        small = shape._replace(batch=2, frames=min(frames, shape.frames), labels=min(4, shape.labels))
        lattice_calls.problem(name, small, mode=mode).call()
    found = lattice_calls.problem(name, shape, mode=mode)
    first, steady = measure.peak_memory(found.call)
    result = {"memory_first": first / shape.dense_bytes, "memory": steady / shape.dense_bytes}
    result |= {"error": None, "error64": None, "live": None}
    if row.family.startswith("pruned"):
        return result | lattice_checks.pruned_distance(name, shape, mode=mode)
    if not exact:
        return result
    gradients = [x.numpy() for x in found.call()[1]]
    if row.family == "logits":
        return result | {"error64": lattice_checks.given_logits_error(name, shape, *gradients)}
    if row.family == "nodes":
        whole = lattice_calls.problem(name, shape, mode=mode, live_threshold=0.0).call()[1]
        result["error"] = lattice_exact.relative_error(gradients, [x.numpy().astype(np.float64) for x in whole])
    reference, live = lattice_checks.exact_gradients(name, found)
    result["error64"] = lattice_exact.relative_error(gradients, reference)
    return result | {"live": live if row.family == "nodes" else None}


def forward_share(*, shape, repetitions, floor_rows, mode="graph"):
    """{'seconds': ...} of the RNN-T forward pass alone, of RNN-T with gradients, and of a loss that all nodes need."""
    measure.one_thread_tensorflow()
    from benchmarks import lattice_calls

    shape = Shape(*shape)
    calls = {
        "floor": lattice_calls.floor(shape, rows=floor_rows),
        "forward": lattice_calls.forward_only("rnnt_random", shape, mode=mode),
        "rnnt_random": lattice_calls.problem("rnnt_random", shape, mode=mode).call,
        "unmasked": lattice_calls.problem("unmasked", shape, mode=mode).call,
    }
    seconds = measure.interleaved(calls, repetitions=repetitions)
    medians = {name: measure.median(values) for name, values in seconds.items()}
    return {
        "seconds": seconds,
        "of_all_nodes": medians["forward"] / medians["unmasked"],
        "of_rnnt": medians["forward"] / medians["rnnt_random"],
        "of_floor": medians["forward"] / medians["floor"],
    }


def growth(*, shape, repetitions, mode="graph"):
    """How the cost of RNN-T (random initialisation) grows.

    Returns:
      {'batch' | 'frames' | 'positions': {'sizes': [...], 'seconds': [median ...], 'slope': of the straight line through
      log seconds over log sizes}}; positions are U + 1.
    """
    measure.one_thread_tensorflow()
    from benchmarks import lattice_calls

    shape = Shape(*shape)
    series = {
        "batch": [shape._replace(batch=n) for n in _halves(shape.batch)],
        "frames": [shape._replace(frames=n) for n in _halves(shape.frames)],
        "positions": [shape._replace(labels=n) for n in _halves(shape.labels)],
    }
    shapes = {str(each): each for sizes in series.values() for each in sizes}
    calls = {
        key: lattice_calls.problem("rnnt_random", each, mode=mode, corner_of=shape).call
        for key, each in shapes.items()
    }
    smallest = min(shapes, key=lambda key: shapes[key].nodes)
    calls = {smallest: calls.pop(smallest)} | calls
    medians = {key: measure.median(x) for key, x in measure.interleaved(calls, repetitions=repetitions).items()}
    result = {}
    for key, each in series.items():
        sizes = [{"batch": s.batch, "frames": s.frames, "positions": s.labels + 1}[key] for s in each]
        seconds = [medians[str(s)] for s in each]
        result[key] = {"sizes": sizes, "seconds": seconds, "slope": _slope(sizes, seconds)}
    return result


def _halves(size):
    """A quarter, a half and the whole, of what is at least 1 and different."""
    return sorted({max(1, size // 4), max(1, size // 2), size})


def _slope(sizes, seconds):
    x, y = [math.log(v) for v in sizes], [math.log(max(v, 1e-9)) for v in seconds]
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else float("nan")
