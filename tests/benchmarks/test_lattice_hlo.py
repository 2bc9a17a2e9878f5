"""The dumped XLA program comes with what is needed to check it elsewhere."""

import json

import numpy as np
import pytest

from benchmarks import lattice_exact, lattice_hlo, lattice_inputs

_SHAPE = lattice_inputs.Shape(2, 4, 3, 5, 4)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 0.05)])
def test_the_dump_holds_program_inputs_and_results(tmp_path, dtype, tolerance):
    lattice_hlo.dump(tmp_path / "dump", shape=_SHAPE, dtype=dtype)
    meta = json.loads((tmp_path / "dump" / "meta.json").read_text())
    assert [x["dtype"] for x in meta["inputs"]] == [dtype] * 4 + ["int32"] * 3
    assert [x["dtype"] for x in meta["outputs"]] == ["float32"] + [dtype] * 4
    program = (tmp_path / "dump" / "program.hlo.pb").read_bytes()
    assert len(program) > 1000

    arrays = np.load(tmp_path / "dump" / "arrays.npz")
    inputs = [arrays[f"input{i}"] for i in range(7)]
    batch = lattice_inputs.Batch(*inputs)
    nodes = lattice_exact.node_log_probs(batch)
    sums = lattice_exact.sums(nodes, batch)
    np.testing.assert_allclose(arrays["output0"], -sums.log_prob, rtol=1e-5)
    to_logits = lattice_exact.from_nodes(lattice_exact.Nodes(-sums.blank, -sums.label, 0.0 * sums.blank))
    exact = lattice_exact.gradients(batch, to_logits)
    assert lattice_exact.relative_error([arrays[f"output{i}"] for i in range(1, 5)], exact) < tolerance
