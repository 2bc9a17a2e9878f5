"""The public names of all packages with their signatures, one line each, as tools/public_api.txt keeps them:

    python -m tools.public_api > tools/public_api.txt

Public is what a package's `__all__` names; of classes their public methods and properties too.
"""

import enum
import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

PACKAGES = (
    "beam_pipelines.inputs",
    "tf_rnnt_kd.decoding",
    "tf_rnnt_kd.evaluation",
    "tf_rnnt_kd.health",
    "tf_rnnt_kd.lattice",
    "tf_rnnt_kd.losses",
    "tf_rnnt_kd.models",
    "tf_rnnt_kd.records",
    "tf_rnnt_kd.records.codecs",
    "tf_rnnt_kd.serving",
    "tf_rnnt_kd.speech",
    "tf_rnnt_kd.studies",
    "tf_rnnt_kd.text",
    "tf_rnnt_kd.training",
)
_OURS = ("tf_rnnt_kd", "beam_pipelines")


def lines() -> Iterator[str]:
    """All of it, in alphabetical order of names within each package."""
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in sorted(module.__all__):
            yield from _described(f"{package}.{name}", getattr(module, name))


def _described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"class {name}{_signature(value)}"
        for member, found in sorted(_members(value).items()):
            if isinstance(found, property):
                yield f"{name}.{member}: property"
            else:
                yield f"{name}.{member}{_signature(getattr(value, member))}"
    elif callable(value):
        yield f"{name}{_signature(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def _members(kind: type) -> dict[str, Any]:
    """Public functions and properties that it or a base of ours defines; of an enumeration none."""
    if issubclass(kind, enum.Enum):
        return {}
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith(_OURS):
            found |= {name: value for name, value in vars(base).items() if not name.startswith("_")}
    kinds = (property, classmethod, staticmethod)
    return {name: value for name, value in found.items() if isinstance(value, kinds) or inspect.isfunction(value)}


def _signature(value: Any) -> str:
    """Names, kinds and defaults of arguments; types are the type checker's."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    bare = [
        parameter.replace(annotation=parameter.empty, default=_plain(parameter.default))
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def _plain(default: Any) -> Any:
    """A default without what differs from run to run."""
    if default is inspect.Parameter.empty or isinstance(default, (bool, int, float, str, bytes, type(None))):
        return default
    text = repr(default)
    return _Text(type(default).__name__ if " at 0x" in text or len(text) > 60 else text)


class _Text(str):
    def __repr__(self) -> str:
        return str(self)


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in lines()))
