"""Calls in Bazel's language, laid out as its formatter would."""


class Expression(str):
    """What is written as it is, and not as a string."""


def call(function: str, *values, **arguments) -> str:
    """A call that ends in a newline, an argument on each line; those that are None or empty are left out.

    Args:
      function: its name.
      values: positional arguments: lists of strings.
      arguments: strings, lists of strings, or an `Expression`.
    """
    given = {name: value for name, value in arguments.items() if value}
    if not given or (len(given) == 1 and not values and function == "package"):
        inside = [_written(value, indent=0) for value in values]
        inside += [f"{name} = {_written(value, indent=0)}" for name, value in given.items()]
        return f"{function}({', '.join(inside)})\n"
    lines = [f"    {name} = {_written(value, indent=1)},\n" for name, value in given.items()]
    return f"{function}(\n{''.join(lines)})\n"


def glob(*patterns: str, exclude: list[str] | None = None) -> Expression:
    """Files of a package by pattern."""
    inside = _written(list(patterns), indent=1)
    if not exclude:
        return Expression(f"glob({inside})")
    return Expression(f"glob(\n        {inside},\n        exclude = {_written(exclude, indent=2)},\n    )")


def joined(first, second: list[str]):
    """Two arguments as one: each a list or an `Expression`, or nothing."""
    if not first or not second:
        return first or second
    return Expression(f"{_written(first, indent=1)} + {_written(second, indent=1)}")


def _written(value, *, indent: int) -> str:
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    if len(value) == 1:
        return f'["{value[0]}"]'
    outer, inner = "    " * indent, "    " * (indent + 1)
    return "[\n" + "".join(f'{inner}"{one}",\n' for one in value) + f"{outer}]"
