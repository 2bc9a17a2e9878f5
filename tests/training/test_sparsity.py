"""Pruning: the cubic schedule, which weights go, masks that survive a checkpoint, and the count of zeros."""

import keras
import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.training import blocks
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.sparsity import Sparsity, scheduled
from tf_rnnt_kd.training.true_sparsity import true_sparsity

SHAPES = {"first_kernel": (6, 8), "second_kernel": (2, 5, 7), "depthwise_kernel": (3, 4), "bias": (8,)}


class Weights(keras.Model):
    def __init__(self, seed):
        super().__init__(name="model")
        rng = np.random.default_rng(seed)
        for name, shape in SHAPES.items():
            self.add_weight(name=name, shape=shape, initializer="zeros").assign(rng.normal(size=shape))
        self.built = True


def settings(**changes):
    config = default_config().sparsity
    config.update({"target": 0.75, "begin": 2, "end": 10, "frequency": 4, **changes})
    return config


def train(config, *, updates, model=None, sparsity=None, first=0, jit_compile=False):
    """Random updates with pruning after each; (model, sparsity, weights after each update)."""
    model = model or Weights(0)
    sparsity = sparsity or Sparsity(config, model.trainable_variables, steps=99)

    @tf.function(jit_compile=jit_compile)
    def step(changes, count):
        for variable, change in zip(model.trainable_variables, changes, strict=True):
            variable.value.assign_add(change)
        sparsity.after_update(count)

    seen = []
    for count in range(first, first + updates):
        rng = np.random.default_rng(1000 + count)
        step([tf.constant(0.1 * rng.normal(size=s), tf.float32) for s in SHAPES.values()], tf.constant(count))
        seen.append({variable.name: variable.numpy() for variable in model.weights})
    return model, sparsity, seen


def cubic(config, count):
    """Zhu and Gupta 2017, equation 1, in float64."""
    if count <= config.begin:
        return config.initial
    share = min(1.0, (count - config.begin) / (config.end - config.begin))
    return config.target + (config.initial - config.target) * (1 - share) ** 3


def test_the_schedule_is_cubic():
    config = settings(initial=0.2, begin=20, end=120)
    for count in (0, 20, 21, 50, 119, 120, 1000):
        np.testing.assert_allclose(scheduled(config, tf.constant(count)), cubic(config, count), rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_zeros_follow_the_schedule_and_never_come_back(jit_compile):
    config = settings()
    _, sparsity, seen = train(config, updates=14, jit_compile=jit_compile)
    for index, arrays in enumerate(seen):
        count = index + 1
        # Masks are made after 2, 6 and 10 updates.
        at = max([point for point in (2, 6, 10) if point <= count], default=None)
        for name in ("first_kernel", "second_kernel"):
            size = arrays[name].size
            kept = size if at is None else round((1 - cubic(config, at)) * size)
            assert np.count_nonzero(arrays[name]) == kept, (name, count)
            if index:
                assert not np.any((seen[index - 1][name] == 0) & (arrays[name] != 0))
        for name in ("depthwise_kernel", "bias"):
            assert np.all(arrays[name] != 0)
    np.testing.assert_allclose(sparsity.share(), 0.75, atol=0.01)
    assert sparsity.is_reached


def test_the_smallest_go():
    config = settings(begin=0, end=1, target=0.5)
    model = Weights(0)
    sparsity = Sparsity(config, model.trainable_variables, steps=99)
    before = {variable.name: variable.numpy() for variable in model.weights}
    sparsity.after_update(tf.constant(0))
    for variable in sparsity.pruned:
        magnitude = np.abs(before[variable.name])
        gone = variable.numpy() == 0
        assert magnitude[gone].max() < magnitude[~gone].min()
        np.testing.assert_array_equal(variable.numpy()[~gone], before[variable.name][~gone])


def test_a_global_threshold_prunes_the_weaker_matrix_more():
    config = settings(begin=0, end=1, scope="global")
    model = Weights(0)
    model.weights[0].assign(model.weights[0] * 0.1)
    sparsity = Sparsity(config, model.trainable_variables, steps=99)
    together = np.concatenate([np.abs(variable.numpy()).ravel() for variable in sparsity.pruned])
    threshold = np.sort(together)[round(0.75 * together.size)]
    want = [np.abs(variable.numpy()) >= threshold for variable in sparsity.pruned]
    sparsity.after_update(tf.constant(0))
    for variable, kept in zip(sparsity.pruned, want, strict=True):
        np.testing.assert_array_equal(variable.numpy() != 0, kept)
    first, second = (np.mean(variable.numpy() == 0) for variable in sparsity.pruned)
    assert first > 0.9 > second


def test_blocks_go_together_the_edges_too():
    config = settings(begin=0, end=1, target=0.5, block=(4, 3))
    model = Weights(0)
    sparsity = Sparsity(config, model.trainable_variables, steps=99)
    second = sparsity.pruned[1]
    matrix = second.numpy().reshape(10, 7)
    sparsity.after_update(tf.constant(0))
    pruned = second.numpy().reshape(10, 7)
    scores, zero = {}, {}
    for row in range(0, 10, 4):
        for column in range(0, 7, 3):
            place = (slice(row, row + 4), slice(column, column + 3))
            scores[row, column] = np.abs(matrix[place]).mean()
            zero[row, column] = np.all(pruned[place] == 0)
            assert zero[row, column] or np.array_equal(pruned[place], matrix[place])
    # Of 9 blocks round(4.5) = 4 stay.
    weakest = sorted(scores, key=scores.get)[:5]
    assert {place for place, gone in zero.items() if gone} == set(weakest)
    np.testing.assert_allclose(blocks.zero_share(second.numpy(), block=(4, 3)), 5 / 9)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_of_equal_weights_exactly_as_many_go(value):
    model = Weights(0)
    kernel = model.weights[0]
    kernel.assign(np.full(kernel.shape, value))
    Sparsity(settings(begin=0, end=1), model.trainable_variables, steps=99).after_update(tf.constant(0))
    np.testing.assert_array_equal(kernel.numpy().ravel(), [value] * 12 + [0.0] * 36)


def test_averages_get_the_same_zeros():
    model, averaged = Weights(0), Weights(1)
    sparsity = Sparsity(
        settings(begin=0, end=1), model.trainable_variables, steps=99, averages=[averaged.trainable_variables]
    )
    sparsity.after_update(tf.constant(0))
    for one, other in zip(model.weights, averaged.weights, strict=True):
        np.testing.assert_array_equal(one.numpy() == 0, other.numpy() == 0)


def test_restored_from_its_variables_it_goes_on_as_if_uninterrupted():
    config = settings()
    _, _, whole = train(config, updates=12)
    model, sparsity, _ = train(config, updates=7)
    state = [variable.numpy() for variable in [*model.weights, *sparsity.variables]]
    other = Weights(5)
    restored = Sparsity(config, other.trainable_variables, steps=99)
    for variable, value in zip([*other.weights, *restored.variables], state, strict=True):
        variable.assign(value)
    _, _, rest = train(config, updates=5, model=other, sparsity=restored, first=7)
    for got, want in zip(rest, whole[7:], strict=True):
        for name in SHAPES:
            np.testing.assert_array_equal(got[name], want[name])


def test_a_mask_that_a_skipped_step_left_out_is_made_in_the_next():
    config = settings()
    model, sparsity, _ = train(config, updates=9)
    assert not sparsity.is_reached
    # Update 10, which ends the schedule, was not finite: after_update is not called for it.
    _, _, seen = train(config, updates=1, model=model, sparsity=sparsity, first=10)
    assert np.count_nonzero(seen[0]["first_kernel"]) == 12 and sparsity.is_reached


def test_nothing_happens_where_it_is_off():
    model = Weights(0)
    sparsity = Sparsity(default_config().sparsity, model.trainable_variables, steps=99)
    sparsity.after_update(tf.constant(0))
    assert not sparsity.is_on and sparsity.variables == [] and sparsity.is_reached
    assert all(np.all(variable.numpy() != 0) for variable in model.weights)


def test_true_sparsity_counts_zeros_and_refuses_too_few():
    config = settings()
    model, _, _ = train(config, updates=12)
    report = true_sparsity(model, config=config.to_dict())
    zeros = sum(np.sum(variable.numpy() == 0) for variable in model.weights)
    np.testing.assert_allclose(report["zero_share"], zeros / sum(variable.numpy().size for variable in model.weights))
    assert report["pruned"].keys() == {"model/first_kernel", "model/second_kernel"}
    np.testing.assert_allclose(report["pruned_share"], (36 + 52) / (48 + 70), atol=0.01)
    kernel = model.weights[0]
    kernel.assign(np.where(np.arange(48).reshape(6, 8) < 20, 1.0, kernel.numpy()))
    with pytest.raises(ValueError, match="first_kernel.*sparsity.target is 75.00 %.*sparsity.end=10"):
        true_sparsity(model, config=config.to_dict())
    assert true_sparsity(model)["target"] == 0.0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target": 1.0}, "sparsity.target"),
        ({"initial": 0.8}, "sparsity.initial"),
        ({"end": 2}, "begin < end"),
        ({"end": 100}, "sparsity.end=100.*train.steps=99"),
        ({"frequency": 0}, "frequency"),
        ({"block": (0, 4)}, "sparsity.block"),
        ({"scope": "layer"}, "sparsity.scope 'layer'.*global"),
        ({"include": ("no_such",)}, "no_such.*model/first_kernel"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Sparsity(ml_collections.ConfigDict(settings(**changes)), Weights(0).trainable_variables, steps=99)
