"""The training loop and what it needs."""

from tf_rnnt_kd import lazy

# So that settings files, which need `config` alone, import no TensorFlow.
_HOMES = {
    "TrainedModel": "workdir",
    "TrainingFault": "faults",
    "build_strategy": "strategy",
    "default_config": "config",
    "load_model": "workdir",
    "train": "trainer",
}
__all__ = list(_HOMES)  # noqa: PLE0604
__getattr__ = lazy.attributes(__name__, _HOMES)
