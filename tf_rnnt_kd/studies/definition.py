"""A study's file, and the settings that its variants resolve to."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple


class Definition(NamedTuple):
    """What a study's file says.

    config: what stands before :VARIANT in --config. title, question: for the page. miniature: {setting: value} of tiny
    models. get_config: variant -> ConfigDict. get_study: is given the Study and declares what there is.
    """

    name: str
    config: str
    title: str
    question: str
    get_config: Callable[[str], Any]
    get_study: Callable[[Any], None]
    miniature: Mapping[str, Any] = {}

    @classmethod
    def load(cls, path: str) -> "Definition":
        """Reads a Python file with TITLE, QUESTION, MINIATURE, get_config and get_study.

        Raises:
          ValueError: it is not there, or lacks one of these.
        """
        module = load_module(path)
        names = ("TITLE", "QUESTION", "get_config", "get_study", "MINIATURE")
        missing = [name for name in names if not hasattr(module, name)]
        if missing:
            raise ValueError(f"{path} is no study, it lacks {', '.join(missing)}")
        return cls(Path(path).stem, path, *(getattr(module, name) for name in names))


def load_module(path: str) -> ModuleType:
    """A Python file as a module.

    Raises:
      ValueError: it is not there.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolved(get_config: Callable[[str], Any], variant: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A variant's config with settings by dotted name, as a dictionary.

    Raises:
      ValueError: there is no such setting.
    """
    config = get_config(variant)
    config.lock()
    for name, value in settings.items():
        try:
            config.update_from_flattened_dict({name: value})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{variant} has no setting {name} for {value!r}: {error}") from error
    return config.to_dict()
