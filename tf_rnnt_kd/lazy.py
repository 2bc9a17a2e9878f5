"""Names of a package that are imported when they are first asked for.

For packages with modules that must be cheap to import (binaries, settings files) beside ones that need TensorFlow.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
      package: its name.
      homes: {public name: module of the package that defines it}.
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return __getattr__
