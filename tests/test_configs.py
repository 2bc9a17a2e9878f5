"""The configs that are shipped: each variant loads, and its settings are ones that training takes."""

import importlib.util
from pathlib import Path

import pytest

from tf_rnnt_kd.losses import Objective
from tf_rnnt_kd.speech.policies import policy_arguments
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.optimizer import build_optimizer
from tf_rnnt_kd.training.teacher_inputs import ON_THE_FRAMES

FOLDER = Path(__file__).parents[1] / "configs"


def module(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize(
    ("name", "variant"),
    [(path.stem, variant) for path in sorted(FOLDER.glob("*.py")) for variant in module(path.stem).VARIANTS],
)
def test_every_variant_is_made_of_known_settings(name, variant):
    config, default = module(name).get_config(variant), default_config()
    assert set(config) == set(default)
    for section in ("data", "augment", "optimizer", "train", "search", "sparsity"):
        assert set(config[section]) == set(default[section])
    objective = Objective(config.losses)
    policy_arguments(config.augment, time_aligned=ON_THE_FRAMES & set(objective.needs))
    build_optimizer(config.optimizer, steps=config.train.steps)
    assert not (config.augment.speed_factors and ON_THE_FRAMES & set(objective.needs))


def test_an_unknown_variant_is_an_error_that_lists_the_known_ones():
    for path in FOLDER.glob("*.py"):
        with pytest.raises(ValueError, match="choose one of .*teacher|choose one of .*conformer_s"):
            module(path.stem).get_config("none")
