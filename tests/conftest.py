"""The order of the files: those that take minutes first, so that none of them runs alone at the end of a suite."""

import pathlib

_TESTS = pathlib.Path(__file__).parent
# Of `make test`, most of them trainings and pipelines in processes of their own; files that are not named come after.
_LONGEST = (
    "test_demo.py",
    "docs/test_notebook.py",
    "studies",
    "packaging",
    "training/test_train.py",
    "training/test_lost_worker.py",
    "training/test_train_on_replicas.py",
    "serving/test_lite.py",
    "serving/server",
    "engines",
    "test_evaluate.py",
    "benchmarks",
    "beam_pipelines",
    "training/test_precision.py",
    "training/test_objective_gradients.py",
    "training/test_distillation.py",
    "training/test_online_teacher.py",
    "training/test_memory.py",
    "training/test_replicas.py",
)


def pytest_collection_modifyitems(items):
    """Files stay together, and tests in a file in their order."""
    items.sort(key=lambda item: _place(item.path))


def _place(path):
    name = path.relative_to(_TESTS).as_posix() if path.is_relative_to(_TESTS) else ""
    found = (place for place, prefix in enumerate(_LONGEST) if name == prefix or name.startswith(f"{prefix}/"))
    return next(found, len(_LONGEST))
