"""The public API is what tools/public_api.txt says: a change of it is seen, and made on purpose."""

import difflib
import importlib
import inspect
import pathlib
import pkgutil

import beam_pipelines
import tf_rnnt_kd
from tools import public_api

_LISTING = pathlib.Path(public_api.__file__).with_name("public_api.txt")


def test_names_and_signatures_are_those_of_the_listing():
    listed, found = _LISTING.read_text(encoding="utf-8").splitlines(), list(public_api.lines())
    changes = [line for line in difflib.unified_diff(listed, found, "listed", "found", lineterm="", n=0)]
    assert not changes, "python -m tools.public_api > tools/public_api.txt, if this is meant:\n" + "\n".join(changes)


def test_every_package_with_public_names_is_in_it():
    for root in (tf_rnnt_kd, beam_pipelines):
        for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            if module.ispkg and hasattr(importlib.import_module(module.name), "__all__"):
                assert module.name in public_api.PACKAGES


def test_public_names_have_docstrings_and_are_defined_in_their_package():
    for name in public_api.PACKAGES:
        package = importlib.import_module(name)
        assert package.__doc__
        for public in package.__all__:
            value = getattr(package, public)
            if callable(value):
                assert value.__doc__, f"{name}.{public}"
                assert value.__module__.startswith(("tf_rnnt_kd.", "beam_pipelines.")), f"{name}.{public}"


def test_functions_say_their_types():
    for name in public_api.PACKAGES:
        package = importlib.import_module(name)
        for public in package.__all__:
            function = getattr(package, public)
            if not inspect.isfunction(function):
                continue
            signature = inspect.signature(function)
            untyped = [each.name for each in signature.parameters.values() if each.annotation is each.empty]
            assert not untyped and signature.return_annotation is not signature.empty, f"{name}.{public}: {untyped}"
