"""What the project's Python files import of each other, read from their text."""

import ast
import functools
import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# It names all programs, and those that import it start them.
_TABLE = Path("tf_rnnt_kd/programs.py")
_TOP = ("tf_rnnt_kd", "beam_pipelines", "benchmarks", "tools")


@functools.cache
def modules() -> dict[str, Path]:
    """Path below ROOT of each module of the project by its dotted name; a package has that of its __init__.py."""
    found = {}
    for top in _TOP:
        for path in sorted((ROOT / top).rglob("*.py")):
            path = path.relative_to(ROOT)
            parts = path.parts[:-1] if path.name == "__init__.py" else path.with_suffix("").parts
            found[".".join(parts)] = path
    return found


def imported(path: Path, *, by_name: dict[str, Path] | None = None) -> set[Path]:
    """Files that a file imports, anywhere in it; as paths below ROOT, itself left out.

    Args:
      path: below ROOT.
      by_name: other modules that it may import, by name.
    """
    known, helpers = modules(), by_name or {}
    return {known.get(name) or helpers[name] for name in _imports(path) if name in known or name in helpers} - {path}


def started(path: Path) -> set[Path]:
    """Modules that a file names in a string of their own, as in `subprocess.run([python, "-m", NAME])`."""
    return _named(_strings(path) if path != _TABLE else ()) | _of_table(path) - {path}


def mentioned(path: Path) -> set[Path]:
    """As `started`, also of names within longer strings: tests start programs by lines of shell and of Python."""
    words = re.findall(r"[\w.]+", " ".join(_strings(path)))
    return _named({word.strip(".") for word in words}) | _of_table(path) - {path}


def _of_table(path: Path) -> set[Path]:
    return _named(_strings(_TABLE)) if _TABLE in imported(path) else set()


def _named(names: Iterable[str]) -> set[Path]:
    """Modules, of packages that are programs their __main__.py; a name of one word says too little."""
    known = modules()
    return {known.get(f"{name}.__main__", known[name]) for name in names if "." in name and name in known}


@functools.cache
def _strings(path: Path) -> frozenset[str]:
    constants = (node.value for node in ast.walk(_parsed(path)) if isinstance(node, ast.Constant))
    return frozenset(value for value in constants if isinstance(value, str))


@functools.cache
def _imports(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))
