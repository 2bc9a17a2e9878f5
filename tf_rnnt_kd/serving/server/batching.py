"""Several calls of a stream's signatures as one: their rows one below the other, and apart again.

A graph's operations cost much more than the few numbers in one row of them, so that 16 streams in one call take little
longer than one (docs/decisions/0021-server.md). Rows do not see each other: padding and neighbours change no result.
"""

import numpy as np

_COUNTS = {
    "state_token": "state_num_tokens",
    "new_token": "num_new_tokens",
    "token": "num_tokens",
    "word": "num_words",
}
"""{beginning of a result's name: the result that says how many of its columns count}"""


def can_batch(inputs):
    """Whether zeros may be appended to what varies in size among a model's stream_step arguments.

    Args:
      inputs: {name: model.Tensor}.
    """
    varying = [name for name, tensor in inputs.items() if None in tensor.shape[1:] and name != "waveforms"]
    return all(_count_name(name) in inputs for name in varying)


def key_of(signature, inputs):
    """What calls must share to run as one; None for those that run alone.

    Args:
      signature: its name. inputs: {name: array}.
    """
    if signature == "stream_step":
        return signature, inputs["waveforms"].shape[1]
    if signature == "stream_finalize":
        # Of similar length, so that a short rest does not pay for a long one.
        return signature, inputs["waveforms"].shape[1].bit_length()
    return None


def join(calls):
    """Arguments of several calls -> arguments of one.

    Args:
      calls: list of {name: array}, all with the same names; arrays of a name may differ in all sizes but the rank.

    Returns:
      {name: array}, zeros where one was smaller.
    """
    return {name: _stack([call[name] for call in calls]) for name in calls[0]}


def split(outputs, rows):
    """Results of the one call -> those of each.

    Args:
      outputs: {name: array [B, ...]}. rows: how many of B belong to each call.

    Returns:
      List of {name: array}, copies, without the columns that only others needed.
    """
    ends = np.cumsum(rows)
    return [
        _trimmed({name: value[end - count : end] for name, value in outputs.items()})
        for end, count in zip(ends, rows, strict=True)
    ]


def _stack(values):
    shape = [sum(len(value) for value in values), *np.max([value.shape[1:] for value in values], axis=0).astype(int)]
    if all(value.shape[1:] == tuple(shape[1:]) for value in values):
        return np.concatenate(values)
    stacked = np.zeros(shape, values[0].dtype)
    row = 0
    for value in values:
        stacked[(slice(row, row + len(value)), *map(slice, value.shape[1:]))] = value
        row += len(value)
    return stacked


def _trimmed(outputs):
    widths = {name: int(outputs[name].max(initial=0)) for name in set(_COUNTS.values()) & set(outputs)}
    trimmed = {}
    for name, value in outputs.items():
        count = _count_name(name)
        if count in widths and value.ndim > 1:
            value = value[:, : widths[count]]
        trimmed[name] = value.copy()  # a view would keep the rows of all others in memory
    return trimmed


def _count_name(name):
    return next((count for start, count in _COUNTS.items() if name.startswith(start)), None)
