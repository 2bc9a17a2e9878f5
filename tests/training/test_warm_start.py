"""Starting from another training's weights: what matches, what does not, what is refused."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import workdir
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.warm_start import warm_start

MEL_BINS = 12


def settings(**encoder):
    config = default_config()
    config.frontend.num_mel_bins = MEL_BINS
    config.model.encoder.update(width=8, num_layers=2, num_heads=2, kernel_size=3, **encoder)
    config.model.predictor.update(width=4)
    config.model.joint_width = 6
    return config


def build(config, *, seed, vocab_size=4):
    """A model no two of whose weights are the same."""
    model = build_transducer(config.model.to_dict(), vocab_size=vocab_size, num_features=MEL_BINS)
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    return model


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A training's folder as the trainer leaves it; its best weights (seed 0), and those of its checkpoint (seed 1)."""
    folder = tmp_path_factory.mktemp("earlier")
    config = settings()
    tokenizer = Tokenizer.train_sentencepiece(["one", "two", "three"], vocab_size=4, model_type="word")
    tokenizer.save(folder / "tokenizer")
    (folder / "config.json").write_text(json.dumps({"config": config.to_dict()}))
    best, last = (build(config, seed=seed, vocab_size=tokenizer.vocab_size) for seed in (0, 1))
    workdir.save_best(folder, model=best, step=7, dev_wer=0.5)
    # The list goes on with averages and the optimizer's state.
    held = [variable.value for variable in last.variables] + [tf.Variable([1.0, 2.0])]
    tf.train.Checkpoint(variables=held, counters=[tf.Variable(3)]).write(str(folder / "checkpoints" / "ckpt-7"))
    return folder, {weight.path: weight.numpy() for weight in best.weights}, last


def test_equal_models_take_over_everything(earlier):
    folder, best, last = earlier
    checkpoint = {weight.path: weight.numpy() for weight in last.weights}
    sources = {"": best, "best/step-0000007.weights.h5": best, "checkpoints/ckpt-7": checkpoint}
    for path, want in sources.items():
        model = build(settings(), seed=5)
        result = warm_start(model, folder / path)
        assert sorted(result.matched) == sorted(want)
        assert not (result.shape_mismatch or result.missing or result.left_out or result.unused)
        for weight in model.weights:
            np.testing.assert_array_equal(weight.numpy(), want[weight.path], err_msg=f"{path} {weight.path}")


def test_what_does_not_match_is_reported_and_left(earlier):
    folder, best, _ = earlier
    config = settings()
    config.model.encoder.num_layers = 1
    config.model.predictor.width = 5
    config.model.encoder.subsampling = 16
    model = build(config, seed=5)
    before = {weight.path: weight.numpy() for weight in model.weights}
    result = warm_start(model, folder)
    embedding = "transducer/predictor/embedding/embeddings"
    assert result.shape_mismatch[embedding] == {"here": [4, 5], "there": [4, 4]}
    assert all("halving_3" in name for name in result.missing) and result.missing
    assert all("block_1" in name for name in result.unused) and result.unused
    after = {weight.path: weight.numpy() for weight in model.weights}
    for name in result.matched:
        np.testing.assert_array_equal(after[name], best[name])
    for name in [*result.shape_mismatch, *result.missing]:
        np.testing.assert_array_equal(after[name], before[name])
    assert sorted([*result.matched, *result.shape_mismatch, *result.missing]) == sorted(after)
    summary = result.summary()
    assert f"{len(result.matched)} variables taken over" in summary and embedding in summary
    assert f"{len(result.unused)} unused" in summary


def test_patterns_choose(earlier):
    folder, best, _ = earlier
    model = build(settings(), seed=5)
    result = warm_start(model, folder, only=("/encoder/",))
    assert result.matched and all("/encoder/" in name for name in result.matched)
    assert sorted([*result.matched, *result.left_out]) == sorted(best)
    with pytest.raises(ValueError, match="'enkoder' fits none"):
        warm_start(model, folder, only=("enkoder",))


def test_what_is_not_there_is_named(earlier, tmp_path):
    folder, _, _ = earlier
    model = build(settings(), seed=5)
    for path in (tmp_path, tmp_path / "nowhere", folder / "checkpoints" / "ckpt-8", folder / "best" / "no.weights.h5"):
        with pytest.raises(ValueError, match="train.warm_start=.*best/best.json"):
            warm_start(model, path)
    with pytest.raises(ValueError, match="nothing matches.*another/kernel"):
        other = keras.Sequential([keras.layers.Dense(2, name="kernel")], name="another")
        other.build((None, 3))
        warm_start(other, folder)
