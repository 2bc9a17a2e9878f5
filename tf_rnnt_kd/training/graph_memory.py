"""How much memory the tensors of a traced function need at most, without running it."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

_SAME_BUFFER = frozenset(
    ("ExpandDims", "Identity", "PreventGradient", "ReadVariableOp", "Reshape", "Squeeze", "StopGradient")
)
# Their kernels write into an input that nobody needs any more.
_IN_PLACE = frozenset(
    (
        "Add", "AddN", "AddV2", "BiasAdd", "Cast", "Exp", "Log", "Log1p", "LogSoftmax", "Maximum", "Minimum", "Mul",
        "Neg", "RealDiv", "Relu", "ReluGrad", "Rsqrt", "RsqrtGrad", "SelectV2", "Sigmoid", "SigmoidGrad", "Softmax",
        "Softplus", "Sqrt", "Square", "SquaredDifference", "Sub", "Tanh", "TanhGrad",
    )
)  # fmt: skip
_INPUTS = frozenset(("Placeholder", "Const"))


@dataclasses.dataclass(frozen=True)
class Peak:
    """Bytes at the fullest moment: all, and of tensors that are live then, by the name of the operation that made them.

    Tensors of unknown shape count nothing, nor does what called functions and loops keep within themselves.
    """

    total: int
    by_operation: Mapping[str, int]


def peak_memory(function: tf.types.experimental.ConcreteFunction) -> Peak:
    """Of a function traced with static shapes, if its operations run in the order in which they were traced.

    A tensor lives from its operation to the last that reads it; the function's inputs and outputs live to the end.
    """
    operations = function.graph.get_operations()
    place = {operation.name: index for index, operation in enumerate(operations)}
    end = len(operations)
    buffers: dict[str, str] = {}  # name of a tensor -> name of the tensor whose buffer it has
    size, maker, last_read = {}, {}, {}
    for index, operation in enumerate(operations):
        for output in operation.outputs:
            shares = operation.type in _SAME_BUFFER and operation.inputs[0].dtype != tf.resource
            buffer = buffers[operation.inputs[0].name] if shares else output.name
            buffers[output.name] = buffer
            if not shares:
                size[buffer], maker[buffer] = _num_bytes(output), operation
                last_read[buffer] = end if operation.type in _INPUTS else index
            reads = [place[reader.name] for reader in output.consumers()]
            last_read[buffer] = max([last_read[buffer], *reads])
    for output in function.graph.outputs:
        last_read[buffers[output.name]] = end
    freed: dict[int, list[str]] = {}
    for buffer, index in last_read.items():
        freed.setdefault(index, []).append(buffer)

    live: set[str] = set()
    at_best: set[str] = set()
    now = best = 0
    for index, operation in enumerate(operations):
        made = {output.name for output in operation.outputs if buffers[output.name] == output.name}
        gone = [buffer for buffer in freed.get(index, ()) if buffer not in made]
        if operation.type in _IN_PLACE:
            live, now = live.difference(gone), now - sum(size[buffer] for buffer in gone)
        live, now = live | made, now + sum(size[buffer] for buffer in made)
        if now > best:
            best, at_best = now, set(live)
        if operation.type not in _IN_PLACE:
            live, now = live.difference(gone), now - sum(size[buffer] for buffer in gone)
        unread = [buffer for buffer in freed.get(index, ()) if buffer in made]
        live, now = live.difference(unread), now - sum(size[buffer] for buffer in unread)
    by_operation: dict[str, int] = {}
    for buffer in at_best:
        name = maker[buffer].name
        by_operation[name] = by_operation.get(name, 0) + size[buffer]
    return Peak(best, by_operation)


def _num_bytes(tensor):
    if tensor.shape.num_elements() is None or tensor.dtype in (tf.resource, tf.variant, tf.string):
        return 0
    return tensor.shape.num_elements() * tensor.dtype.size
