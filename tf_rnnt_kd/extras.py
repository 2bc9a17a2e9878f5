"""What to say where a package is missing that only an extra of setup.py installs."""


class MissingExtra(ImportError, ValueError):
    """An import that failed for want of an extra; as a ValueError it ends a program with one line."""


def missing(extra: str, error: ModuleNotFoundError) -> MissingExtra:
    """The error to raise in the place of another.

    Args:
      extra: name of the extra that installs what is missing.
      error: of the import.
    """
    return MissingExtra(
        f"the package {error.name} is not installed, which comes with the extra [{extra}]: "
        f"pip install 'tf-rnnt-kd[{extra}]'"
    )
