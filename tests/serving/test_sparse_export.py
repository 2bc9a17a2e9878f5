"""An export states the zeros that its weights have, and is not made where they are fewer than promised."""

import numpy as np
import pytest

from tf_rnnt_kd.serving import describe_model, export_saved_model

CONFIG = {
    "sparsity": {
        "target": 0.5, "initial": 0.0, "begin": 0, "end": 10, "frequency": 5, "block": [1, 1], "scope": "tensor",
        "include": ["expand/kernel"], "exclude": [],
    }
}


@pytest.fixture
def halved(student):
    """The student with half of each matrix that CONFIG prunes at zero."""
    kernels = [weight for weight in student.model.weights if "expand/kernel" in weight.path]
    before = [kernel.numpy() for kernel in kernels]
    for kernel, value in zip(kernels, before, strict=True):
        kernel.assign(np.where(np.arange(value.size).reshape(value.shape) % 2, 0.0, value))
    yield student, kernels
    for kernel, value in zip(kernels, before, strict=True):
        kernel.assign(value)


def test_metadata_states_the_zeros(halved):
    served, kernels = halved
    found = describe_model(served.recognizer, config=CONFIG)["sparsity"]
    assert found["pruned"] == {kernel.path: 0.5 for kernel in kernels} and len(kernels) == 4
    assert (found["target"], found["block"], found["pruned_share"]) == (0.5, [1, 1], 0.5)
    weights = np.concatenate([weight.numpy().ravel() for weight in served.model.trainable_weights])
    np.testing.assert_allclose(found["zero_share"], np.mean(weights == 0))
    assert describe_model(served.recognizer, config={"name": "dense"})["sparsity"]["target"] == 0.0


def test_a_model_that_is_not_as_sparse_as_promised_is_not_exported(halved, tmp_path):
    served, kernels = halved
    kernels[2].assign(np.ones(kernels[2].shape))
    with pytest.raises(ValueError, match=f"{kernels[2].path}: 0.00 %.*sparsity.target is 50.00 %"):
        export_saved_model(
            served.model, tokenizer=served.tokenizer, frontend=served.frontend, config=CONFIG,
            output_dir=tmp_path / "export",
        )
    assert not list(tmp_path.iterdir())
