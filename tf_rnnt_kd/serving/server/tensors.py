"""Tensors on the wire: TensorProto of gRPC and nested lists of JSON, to and from NumPy."""

import json

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.serving.server.errors import RequestError
from tf_rnnt_kd.serving.server.limits import check_bytes

_KINDS = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}
"""{NumPy's kind of a dtype: kinds of JSON's numbers that it takes}"""


def from_proto(proto, *, name, limit):
    """TensorProto -> array.

    Args:
      proto: TensorProto. name: of the argument. limit: bytes, of what it may unfold to.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    try:
        dtype = tf.as_dtype(proto.dtype)
        shape = [dim.size for dim in proto.tensor_shape.dim]
        # One number and a large shape are a valid tensor of that number everywhere.
        check_bytes(shape, dtype.size or 1, limit=limit, name=name)
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, IndexError) as error:
        raise RequestError("INVALID_ARGUMENT", f"{name} is no valid TensorProto: {error}") from None


def from_json(value, tensor, *, name):
    """Nested lists of a JSON body -> array of the signature's dtype.

    Args:
      value: numbers or booleans in lists. tensor: model.Tensor. name: of the argument.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    dtype = np.dtype(tensor.dtype.as_numpy_dtype)
    # ml_dtypes' floats (bfloat16) have the kind V.
    takes = "iuf" if tensor.dtype.is_floating else _KINDS.get(dtype.kind, "")
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        raise _refused(name, "its lists differ in length or depth") from None
    if array.size and array.dtype.kind not in takes:
        raise _refused(name, f"it must hold {tensor.dtype.name} and nothing else")
    if dtype.kind in "iu" and array.size:
        range_of = np.iinfo(dtype)
        if array.min() < range_of.min or array.max() > range_of.max:
            raise _refused(name, f"a number is beyond {tensor.dtype.name}")
    if not array.size and array.ndim < len(tensor.shape):
        # Lists say nothing about the sizes within a list without elements.
        array = array.reshape(*array.shape, *(size or 0 for size in tensor.shape[array.ndim :]))
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def predict_arguments(body, *, arguments_of):
    """The body of a :predict request -> (signature, {name: array}, whether it is in row format).

    Args:
      body: bytes. arguments_of: function, signature name -> {name: model.Tensor}.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("INVALID_ARGUMENT", f"JSON parse error: {error}") from None
    if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
        raise RequestError("INVALID_ARGUMENT", "the body must be a JSON object with either 'instances' or 'inputs'")
    unknown = sorted(set(request) - {"signature_name", "instances", "inputs"})
    if unknown:
        raise RequestError("INVALID_ARGUMENT", f"the body has unknown keys: {', '.join(unknown)}")
    signature = request.get("signature_name") or "serving_default"
    if not isinstance(signature, str):
        raise RequestError("INVALID_ARGUMENT", "signature_name must be a string")
    expected = arguments_of(signature)
    in_rows = "instances" in request
    values = _columns(request["instances"], expected) if in_rows else _named(request["inputs"], expected)
    # Names that are unknown stay, for the check of the signature to name them.
    inputs = {
        name: from_json(value, expected[name], name=name) if name in expected else np.zeros([])
        for name, value in values.items()
    }
    return signature, inputs, in_rows


def to_json(outputs, *, in_rows):
    """Results -> the body of the response, bytes.

    Raises:
      RequestError: INVALID_ARGUMENT, row format where the results have no common rows.
    """
    values = {name: _lists(value) for name, value in outputs.items()}
    alone = next(iter(values.values())) if len(values) == 1 else None
    if not in_rows:
        answer = {"outputs": values if alone is None else alone}
    else:
        rows = {value.shape[0] if value.ndim else None for value in outputs.values()}
        if len(rows) != 1 or None in rows:
            raise RequestError("INVALID_ARGUMENT", "the results have no common rows: ask with 'inputs'")
        (count,) = rows
        by_row = [{name: value[row] for name, value in values.items()} for row in range(count)]
        answer = {"predictions": by_row if alone is None else alone}
    return json.dumps(answer, ensure_ascii=False).encode()


def _named(value, expected):
    """The 'inputs' of a request as {name: value}; a single one needs no name."""
    if isinstance(value, dict):
        return value
    if len(expected) != 1:
        raise RequestError("INVALID_ARGUMENT", f"'inputs' must be an object with {', '.join(sorted(expected))}")
    return {next(iter(expected)): value}


def _columns(instances, expected):
    """The 'instances' of a request as {name: list over instances}."""
    if not isinstance(instances, list) or not instances:
        raise RequestError("INVALID_ARGUMENT", "'instances' must be a list with at least one element")
    if not isinstance(instances[0], dict):
        return _named(instances, expected)
    names = set(instances[0])
    if not all(isinstance(instance, dict) and set(instance) == names for instance in instances):
        raise RequestError("INVALID_ARGUMENT", "all instances must be objects with the same names")
    return {name: [instance[name] for instance in instances] for name in sorted(names)}


def _lists(value):
    if value.dtype == object:
        return _decoded(value.tolist())
    # bfloat16 has no Python number of its own.
    return (value.astype(np.float32) if value.dtype.kind == "V" else value).tolist()


def _decoded(value):
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _refused(name, reason):
    return RequestError("INVALID_ARGUMENT", f"{name} cannot be used: {reason}")
