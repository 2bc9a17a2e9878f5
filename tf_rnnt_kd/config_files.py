"""The settings files of the project, under the names that its pages give them: `--config=configs/demo.py:teacher`.

A checkout has them in configs/, an installed package within itself, so these names work from any folder. A file of the
same name where the command is typed comes first: copy one there to change it.
"""

from pathlib import Path

from absl import flags

_PREFIX = "configs"
_PACKAGE = Path(__file__).parent
_INSTALLED, _CHECKOUT = _PACKAGE / _PREFIX, _PACKAGE.parent / _PREFIX
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def names() -> list[str]:
    """Of the files that the project has, as `find` takes them."""
    return sorted(f"{_PREFIX}/{path.relative_to(FOLDER)}" for path in FOLDER.rglob("*.py"))


def find(name: str) -> str:
    """A settings file as it was typed, or where the project has it.

    Args:
      name: FILE or FILE:VARIANT.

    Returns:
      The same with a FILE that exists.

    Raises:
      ValueError: there is no such file, neither here nor among those of the project.
    """
    file, colon, variant = name.partition(":")
    if Path(file).is_file():
        return name
    if file in names():
        return f"{FOLDER / Path(file).relative_to(_PREFIX)}{colon}{variant}"
    raise ValueError(f"there is no file {file}; the project has {', '.join(names())} in {FOLDER}")


class Parser(flags.ArgumentParser):
    """Of a flag whose value is a settings file: finds it and leaves the rest to another parser."""

    def __init__(self, parser: flags.ArgumentParser):
        super().__init__()
        self._parser = parser

    def parse(self, argument: str):
        """What the other parser makes of the file; ValueError as of `find`."""
        return self._parser.parse(find(argument))

    def flag_type(self) -> str:
        return self._parser.flag_type()
