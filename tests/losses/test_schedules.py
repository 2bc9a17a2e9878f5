"""Weights that change with the training step, against numbers worked out by hand."""

import math

import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.losses import Schedule

RAMP = {"from": 0.2, "to": 1.0, "begin": 100, "end": 300}
CASES = [
    (0.5, {0: 0.5, 10**6: 0.5}),
    ({"kind": "constant", "to": -2}, {0: -2.0, 7: -2.0}),
    ({"kind": "step", "to": 3.0, "begin": 10}, {0: 0.0, 9: 0.0, 10: 3.0, 11: 3.0}),
    ({"kind": "step", "from": 1.0, "to": 0.0, "begin": 10}, {9: 1.0, 10: 0.0}),
    ({"kind": "step", "from": 1.0, "to": 0.5, "begin": 0}, {0: 0.5, 1: 0.5}),
    ({"kind": "ramp", **RAMP}, {0: 0.2, 100: 0.2, 150: 0.4, 200: 0.6, 300: 1.0, 10**7: 1.0}),
    ({"kind": "ramp", "from": 1.0, "to": 0.0, "end": 4}, {0: 1.0, 1: 0.75, 4: 0.0, 5: 0.0}),
    ({"kind": "cosine", **RAMP}, {0: 0.2, 100: 0.2, 150: 0.6 - 0.4 * math.sqrt(0.5), 200: 0.6, 300: 1.0, 400: 1.0}),
]


@pytest.mark.parametrize(("setting", "values"), CASES)
def test_values(setting, values):
    schedule = Schedule(ml_collections.ConfigDict(setting) if isinstance(setting, dict) else setting)
    traced = tf.function(schedule, input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
    for step, value in values.items():
        for got in (schedule(step), traced(tf.constant(step))):
            assert got.dtype == tf.float32 and got.shape == []
            np.testing.assert_allclose(got, value, rtol=1e-6, err_msg=str(step))
        if value in (0.0, 1.0):  # the ends are the numbers of the config: 0 turns a term off
            assert float(schedule(step)) == value


def test_what_a_graph_can_leave_out():
    constant = [0.0, 1, {"kind": "constant", "to": 2.0}, {"kind": "step", "from": 1.0, "to": 0.0, "begin": 0}]
    constant += [{"kind": "ramp", "from": 1.0, "to": 1.0, "end": 9}]
    assert all(Schedule(setting).is_constant for setting in constant)
    assert not any(Schedule(setting).is_constant for setting, values in CASES if len(set(values.values())) > 1)
    assert [Schedule(setting).is_ever_nonzero for setting in constant] == [False, True, True, False, True]
    assert Schedule({"kind": "step", "from": 1.0, "to": 0.0, "begin": 1}).is_ever_nonzero
    assert not Schedule({"kind": "ramp", "from": 0.0, "to": 0.0, "end": 5}).is_ever_nonzero


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("1.0", "must be a finite number or a schedule such as"),
        (float("inf"), "'to' must be a finite number, got inf"),
        ({"kind": "linear"}, "kind 'linear'; there are constant, step, ramp, cosine"),
        ({"kind": "ramp", "to": 1.0}, r"keys to, end, from \(optional\), begin \(optional\)"),
        ({"kind": "ramp", "to": 1.0, "end": 9, "start": 1}, "got .*'start'"),
        ({"kind": "constant", "to": 1.0, "begin": 5}, "kind 'constant' has the keys to"),
        ({"kind": "cosine", "to": 1.0, "begin": 9, "end": 9}, "must end after it begins, got begin=9 and end=9"),
        ({"kind": "step", "to": 1.0, "begin": 0.5}, "'begin' must be a step, an int of at least 0, got 0.5"),
        ({"kind": "step", "to": float("nan"), "begin": 5}, "'to' must be a finite number"),
    ],
)
def test_errors_name_the_setting(setting, message):
    with pytest.raises(ValueError, match=message) as error:
        Schedule(setting, name="weight of the term 'kd'")
    assert "the weight of the term 'kd'" in str(error.value)
